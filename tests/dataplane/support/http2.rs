//! A host that speaks HTTP/2 as it should.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};

/// A host on a port of its own.
pub(crate) struct Http2Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    open: AtomicUsize,
    streams: AtomicUsize,
    most_streams: AtomicUsize,
    heads: Mutex<Vec<http::request::Parts>>,
}

/// A request whose head was noted.
pub(crate) struct Seen {
    pub(crate) parts: http::request::Parts,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
}

type Answered = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Http2Upstream {
    /// Answers each request as the handler does.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(handler: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self {
        Self::with(h2::server::Builder::new(), handler)
    }

    /// The same, with settings.
    pub(crate) fn with<F: Future<Output = ()> + Send + 'static>(
        builder: h2::server::Builder,
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let handler: Arc<dyn Fn(Seen) -> Answered + Send + Sync> = Arc::new(move |seen| Box::pin(handler(seen)));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    shared.connections.fetch_add(1, SeqCst);
                    shared.open.fetch_add(1, SeqCst);
                    let (state, handler, builder) = (Arc::clone(&shared), Arc::clone(&handler), builder.clone());
                    tokio::spawn(async move {
                        if let Ok(mut connection) = builder.handshake(stream).await {
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                let served = serve(Arc::clone(&state), handler.as_ref(), request, respond);
                                tokio::spawn(served);
                            }
                        }
                        state.open.fetch_sub(1, SeqCst);
                    });
                }
            });
        });
        Self { address, state }
    }

    /// Answers every request with 200 and this body.
    pub(crate) fn echo(body: &'static str) -> Self {
        Self::start(move |seen| async move { seen.reply(body).await })
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    /// Connections that have not ended.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(SeqCst)
    }

    /// Requests that are being answered.
    pub(crate) fn streams(&self) -> usize {
        self.state.streams.load(SeqCst)
    }

    /// Most requests that were being answered at once.
    pub(crate) fn most_streams(&self) -> usize {
        self.state.most_streams.load(SeqCst)
    }

    /// The number of requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.state.heads.lock().unwrap().len()
    }

    /// The head of the last request.
    pub(crate) fn last(&self) -> http::request::Parts {
        self.state.heads.lock().unwrap().last().cloned().expect("a request")
    }
}

fn serve(
    state: Arc<State>,
    handler: &(dyn Fn(Seen) -> Answered + Send + Sync),
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> + Send + 'static {
    let (parts, body) = request.into_parts();
    state.heads.lock().unwrap().push(parts.clone());
    let streams = state.streams.fetch_add(1, SeqCst) + 1;
    state.most_streams.fetch_max(streams, SeqCst);
    let answered = handler(Seen { parts, body, respond });
    async move {
        answered.await;
        state.streams.fetch_sub(1, SeqCst);
    }
}

impl Seen {
    /// Reads the body to its end and answers 200.
    pub(crate) async fn reply(mut self, body: &'static str) {
        self.read().await;
        self.respond_with(Response::new(()), body);
    }

    /// The body to its end, and its trailers.
    pub(crate) async fn read(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut bytes = Vec::new();
        while let Some(data) = self.body.data().await {
            let Ok(data) = data else { return (bytes, None) };
            let _ = self.body.flow_control().release_capacity(data.len());
            bytes.extend(data);
        }
        let trailers = self.body.trailers().await.ok().flatten();
        (bytes, trailers)
    }

    /// Answers without reading.
    pub(crate) fn respond_with(&mut self, response: Response<()>, body: &'static str) {
        if let Ok(mut stream) = self.respond.send_response(response, body.is_empty())
            && !body.is_empty()
        {
            let _ = stream.send_data(Bytes::from_static(body.as_bytes()), true);
        }
    }
}
