//! An HTTP server that says who it is and what it saw.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

pub struct Pod {
    pub address: SocketAddr,
    /// Requests to `/wait` are answered when a permit is added.
    pub gate: Arc<Semaphore>,
    /// Requests to `/wait` that have arrived.
    pub waiting: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Pod {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let gates = (Arc::clone(&gate), Arc::clone(&waiting));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let gates = gates.clone();
                let service = service_fn(move |request| answer(address, request, gates.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, gate, waiting, task }
    }

    /// This many pods.
    pub async fn several(count: usize) -> Vec<Self> {
        let mut pods = Vec::new();
        for _ in 0..count {
            pods.push(Self::start().await);
        }
        pods
    }

    pub fn name(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    address: SocketAddr,
    request: Request<Incoming>,
    (gate, waiting): (Arc<Semaphore>, Arc<Semaphore>),
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.headers() {
        headers.entry(name.to_string()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let target = request.uri().to_string();
    if request.uri().path() == "/wait" {
        waiting.add_permits(1);
        gate.acquire().await.unwrap().forget();
    }
    let _ = request.into_body().collect().await;
    let body = serde_json::json!({ "headers": headers, "target": target }).to_string();
    Ok(Response::builder().header("x-pod", address.to_string()).body(Full::new(Bytes::from(body))).unwrap())
}
