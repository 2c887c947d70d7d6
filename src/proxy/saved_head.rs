//! The head of a request that may have to be sent again.
//!
//! hyper consumes the head it sends, so a copy is needed whenever a reused connection may turn out to be stale, that is for nearly every
//! request. Copying the bytes into a buffer that is used again costs a quarter of cloning the header map.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{body::RequestBody, worker::Worker};

/// Buffers that grew beyond this are not kept.
const KEPT_BYTES: usize = 16 * 1024;

/// A copy of a head; without a body.
#[derive(Debug)]
pub(super) struct SavedHead {
    method: Method,
    /// The target, then every header as `name:value`, each on a line of its own: neither targets nor headers can hold a line's end.
    lines: Vec<u8>,
}

impl SavedHead {
    /// Copies a head.
    pub(super) fn of(worker: &Worker, request: &Request<RequestBody>) -> Self {
        let mut lines = worker.spare_buffers.borrow_mut().pop().unwrap_or_default();
        lines.extend_from_slice(request.uri().path_and_query().map_or("/", |path| path.as_str()).as_bytes());
        for (name, value) in request.headers() {
            lines.push(b'\n');
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
        }
        Self { method: request.method().clone(), lines }
    }

    /// The request once more. `None` cannot happen for a head that was valid before.
    pub(super) fn into_request(self, worker: &Worker) -> Option<Request<RequestBody>> {
        let mut lines = self.lines.split(|byte| *byte == b'\n');
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = Uri::try_from(lines.next()?).ok()?;
        *request.headers_mut() = lines.map(header).collect::<Option<HeaderMap>>()?;
        *request.method_mut() = self.method.clone();
        *request.version_mut() = Version::HTTP_11;
        self.discard(worker);
        Some(request)
    }

    /// Gives the buffer back: the head is not needed.
    pub(super) fn discard(self, worker: &Worker) {
        let mut lines = self.lines;
        if lines.capacity() <= KEPT_BYTES {
            lines.clear();
            worker.spare_buffers.borrow_mut().push(lines);
        }
    }
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value.get(1..)?).ok()?))
}
