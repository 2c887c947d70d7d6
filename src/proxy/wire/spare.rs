//! Header maps that are used again, since making and dropping one costs more than filling it.

use std::cell::RefCell;

use crate::base::head::HeaderMap;

/// Maps that a worker keeps.
const KEPT: usize = 64;
/// A map that has grown beyond this many bytes is not kept.
const KEPT_BYTES: usize = 16 * 1024;
/// Room for the usual message, and for what the gateway adds.
const USUAL_FIELDS: usize = 24;
/// Bytes of the same.
const USUAL_TEXT: usize = 1536;

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for the usual message.
pub(in crate::proxy) fn headers() -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop).unwrap_or_else(|| HeaderMap::with_room(USUAL_TEXT, USUAL_FIELDS))
}

/// Keeps a map that nobody needs any more.
pub(in crate::proxy) fn give_back(mut headers: HeaderMap) {
    if headers.room() > KEPT_BYTES || headers.room() < USUAL_TEXT {
        return;
    }
    MAPS.with_borrow_mut(|maps| {
        if maps.len() < KEPT {
            headers.clear();
            maps.push(headers);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_comes_back_empty_and_with_its_room() {
        let mut map = headers();
        map.insert(http::header::HOST, http::HeaderValue::from_static("a"));
        let room = map.room();
        give_back(map);
        let again = headers();
        assert!(again.is_empty());
        assert_eq!(again.room(), room);
        give_back(HeaderMap::with_room(100_000, 1));
        assert_eq!(headers().room(), HeaderMap::with_room(USUAL_TEXT, USUAL_FIELDS).room());
    }
}
