//! The demo's pods: each answers with the headers it saw, as httpbin does, and says which pod it is.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::{
    runtime::Handle,
    task::{AbortHandle, JoinSet},
};

/// Last parts of the addresses in 127.0.0.0/8 that pods have at first.
pub(super) const PODS: [u8; 3] = [2, 3, 4];

/// Ports that are tried: one has to be free on all addresses.
const TRIES: usize = 20;

/// The running pods; they end with the process.
#[derive(Debug)]
pub(super) struct Pods {
    /// The port they share.
    pub(super) port: u16,
    /// Turns on a thread of its own.
    runtime: Handle,
    open: BTreeMap<u8, AbortHandle>,
}

/// Finds a port and starts the thread for all pods.
pub(super) fn start() -> io::Result<Pods> {
    let port = free_port()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("demo-pods".into()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(Pods { port, runtime: handle, open: BTreeMap::new() })
}

/// One port that is free on every pod's address.
fn free_port() -> io::Result<u16> {
    let try_bind = || {
        let mut port = 0;
        let mut listeners = Vec::new();
        for pod in PODS {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, pod), port))?;
            port = listener.local_addr()?.port();
            listeners.push(listener);
        }
        Ok(port)
    };
    let mut last = None;
    for _ in 0..TRIES {
        match try_bind() {
            Ok(port) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

// === impl Pods ===

impl Pods {
    /// Starts the pod of that address; nothing where it runs.
    pub(super) fn open(&mut self, pod: u8, name: String) -> io::Result<()> {
        if !self.open.contains_key(&pod) {
            let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, pod), self.port))?;
            listener.set_nonblocking(true)?;
            self.open.insert(pod, self.runtime.spawn(serve(name.into(), listener)).abort_handle());
        }
        Ok(())
    }

    /// Ends a pod and its connections.
    pub(super) fn close(&mut self, pod: u8) {
        if let Some(serving) = self.open.remove(&pod) {
            serving.abort();
        }
    }
}

async fn serve(name: Arc<str>, listener: TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // They end with this.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let name = Arc::clone(&name);
        let service = service_fn(move |request| answer(Arc::clone(&name), request));
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(pod: Arc<str>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.headers() {
        headers.entry(canonical(name.as_str())).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let document = json!({
        "headers": headers,
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "pod": &*pod,
    });
    // An unread body would cost the connection.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from(format!("{document:#}\n"))));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `x-request-id` as `X-Request-Id`, as httpbin shows headers.
fn canonical(name: &str) -> String {
    let capital = |part: &str| part.get(..1).unwrap_or_default().to_ascii_uppercase() + part.get(1..).unwrap_or_default();
    name.split('-').map(capital).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn header_names_are_shown_as_httpbin_shows_them() {
        assert_eq!(super::canonical("x-envoy-expected-rq-timeout-ms"), "X-Envoy-Expected-Rq-Timeout-Ms");
        assert_eq!(super::canonical("host"), "Host");
    }
}
