//! Connections that are not looked at: TCP, and TLS that is passed through or terminated by its server name.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{HandshakeKind, server::Acceptor},
};

use crate::{
    plan::{self, StreamConnection, StreamPlan},
    snapshot::{TlsListener, TlsTermination, lower_case},
    telemetry::{HandshakeResult, OverflowKind},
};

use super::{
    breaker::Ceilings, conn::Conn, error::ProxyError, guard::FlightGuard, peer::Peer, reply, timing::Protocol, tls, upgrade, upstream,
    worker::Worker,
};

/// Most bytes of a ClientHello with its records' heads (rustls takes no larger one).
const MAX_HELLO: usize = 64 * 1024;

/// What one read of a ClientHello may bring.
const HELLO_READ: usize = 2 * 1024;

/// A socket whose first bytes were read already.
#[derive(Debug)]
struct Rewound {
    ahead: Bytes,
    io: TcpStream,
}

/// What a ClientHello says, and the socket with all of it still to be read.
struct Greeting {
    server_name: Option<Arc<str>>,
    io: Rewound,
}

/// Sends a connection of a TLS listener where its server name says: as it is, or what is in it.
pub(super) async fn serve_tls(worker: &Rc<Worker>, conn: &Rc<Conn>, peer: &Peer, client: TcpStream, termination: Arc<TlsTermination>) {
    let greeted = conn.told_or(async { Some(greet(client).await) }).await;
    let Greeting { server_name, mut io } = match greeted {
        Some(Ok(greeting)) => greeting,
        Some(Err(reason)) => return worker.metrics.tls_handshake(reason),
        None => return worker.metrics.tls_handshake(HandshakeResult::TimedOut),
    };
    let name = server_name.as_deref();
    let terminating = match listener(worker, peer, name, &termination) {
        None => {
            // The connection ends either way.
            let _ = io.write_all(&tls::UNRECOGNIZED_NAME).await;
            let _ = io.shutdown().await;
            return worker.metrics.tls_handshake(HandshakeResult::UnknownName);
        }
        Some(terminating) => terminating,
    };
    match terminating {
        None => serve(worker, conn, peer, io, name).await,
        Some(listener) => match shake_hands(worker, conn, io, &listener).await {
            Ok(stream) => {
                worker.metrics.tls_handshake(HandshakeResult::Ok);
                serve(worker, conn, peer, stream, name).await;
            }
            Err(reason) => worker.metrics.tls_handshake(reason),
        },
    }
}

/// The listener of a server name: with its certificates where it terminates, without where it passes through. `None`: nobody's.
#[expect(clippy::option_option, reason = "three answers that are read at once")]
fn listener(worker: &Worker, peer: &Peer, server_name: Option<&str>, termination: &TlsTermination) -> Option<Option<Arc<TlsListener>>> {
    let mut cached = worker.snapshot.borrow_mut();
    let listener = cached.get().value.binds.get(&peer.bind)?.listeners.get(server_name.unwrap_or_default())?;
    let terminating = termination.listener(server_name).filter(|terminating| terminating.name == listener.name);
    match terminating {
        None => Some(None),
        // Its hostname stays its own, also without a certificate.
        Some(terminating) if terminating.certificates.is_empty() => None,
        Some(terminating) => Some(Some(Arc::clone(terminating))),
    }
}

/// Reads a ClientHello and leaves it to be read again.
async fn greet(mut client: TcpStream) -> Result<Greeting, HandshakeResult> {
    let mut acceptor = Acceptor::default();
    let mut read = BytesMut::with_capacity(HELLO_READ);
    loop {
        let seen = read.len();
        read.reserve(HELLO_READ);
        let length = client.read_buf(&mut read).await.map_err(|error| tls::failure(&error))?;
        if length == 0 {
            return Err(HandshakeResult::Closed);
        }
        let mut news = read.get(seen..).unwrap_or_default();
        while !news.is_empty() {
            acceptor.read_tls(&mut news).map_err(|error| tls::failure(&error))?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let server_name = accepted.client_hello().server_name().map(|name| lower_case(name).into());
                    return Ok(Greeting { server_name, io: Rewound { ahead: read.freeze(), io: client } });
                }
                Err(_) => return Err(HandshakeResult::Malformed),
            }
        }
        if read.len() > MAX_HELLO {
            return Err(HandshakeResult::Malformed);
        }
    }
}

async fn shake_hands(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    io: Rewound,
    listener: &TlsListener,
) -> Result<tokio_rustls::server::TlsStream<Rewound>, HandshakeResult> {
    let config = listener.config().map_err(|error| {
        tracing::error!(%error, "TLS cannot be terminated");
        HandshakeResult::Other
    })?;
    let shaken = conn.told_or(async {
        let start = match LazyConfigAcceptor::new(Acceptor::default(), io).await {
            Ok(start) => start,
            Err(error) => return Some(Err(tls::failure(&error))),
        };
        let shaken = worker.handshakes.run(start.into_stream(config)).await;
        Some(shaken.map_or(Err(HandshakeResult::TimedOut), |shaken| shaken.map_err(|error| tls::failure(&error))))
    });
    let stream = shaken.await.unwrap_or(Err(HandshakeResult::TimedOut))?;
    let session = stream.get_ref().1;
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    if resumed && !listener.readmits(session.peer_certificates()) {
        return Err(HandshakeResult::ClientCertificate);
    }
    Ok(stream)
}

/// Sends a connection to its host and copies both ways until both sides have ended, or nothing moves any more.
pub(super) async fn serve<C>(worker: &Rc<Worker>, conn: &Rc<Conn>, peer: &Peer, client: C, server_name: Option<&str>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    // Whatever the client says is the host's: there is no head that could be late.
    conn.speaks(Protocol::Http1);
    let mut guard = FlightGuard::begin_stream(worker, conn);
    if guard.log().is_some() {
        guard.record().begin_stream(peer, server_name);
    }
    let plan = {
        let mut cached = worker.snapshot.borrow_mut();
        let versioned = cached.get();
        let Some(bind) = versioned.value.binds.get(&peer.bind) else { return refuse(&guard, &ProxyError::BindGone) };
        let connection = StreamConnection { bind, remote: peer.remote, local: peer.local, server_name };
        plan::plan_stream(&connection, &versioned.value, &mut worker.chooser.borrow_mut())
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason) => {
            guard.record().note_reason(reply::why(&reason));
            return guard.aborted(reply::flag(&reason));
        }
    };
    match connect(worker, &mut guard, &plan).await {
        Ok((host, _opened)) => upgrade::copy(worker, &guard, client, host, &[], None).await,
        Err(error) => refuse(&guard, &error),
    }
}

fn refuse(guard: &FlightGuard, error: &ProxyError) {
    guard.record().note_reason(error.reason());
    guard.aborted(error.verdict().flag);
}

/// Connects to the host of the plan; where it cannot be reached, to the next one, as for requests.
async fn connect(
    worker: &Rc<Worker>,
    guard: &mut FlightGuard,
    plan: &StreamPlan,
) -> Result<(TcpStream, super::breaker::Opened), ProxyError> {
    let cluster = &plan.forward.cluster;
    let share = worker.pool.borrow_mut().share(cluster);
    let ceilings = Ceilings::new(cluster, &worker.config.backends);
    guard.flight().arm(&plan.rule.policy.timeouts);
    let mut failed = ProxyError::NoHost;
    for index in plan.forward.hosts() {
        let Some(host) = cluster.hosts.get(index as usize) else { continue };
        let Some(opened) = share.open(host.address, ceilings, false) else {
            worker.metrics.overflow(OverflowKind::Connections);
            return Err(ProxyError::Overflow(OverflowKind::Connections));
        };
        let attempts = &guard.flight().outcome.attempts;
        attempts.set(attempts.get() + 1);
        guard.note_host(host, plan.forward.protocol);
        match upstream::dial(worker, host.address, &cluster.connection).await {
            Ok(stream) => {
                guard.occupy(host.live.as_ref());
                return Ok((stream, opened));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

// === impl Rewound ===

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buffer);
        }
        let length = this.ahead.len().min(buffer.remaining());
        buffer.put_slice(this.ahead.get(..length).unwrap_or_default());
        this.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
