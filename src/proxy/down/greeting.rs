//! Connections whose ClientHello decides who ends their TLS: the gateway, or a host.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{
    proxy::{
        flow::stream,
        state::{budget::Account, conn::Conn, peer::Peer},
        wire::opening::{HelloProgress, HelloReader},
        worker::Worker,
    },
    snapshot::TlsTermination,
    telemetry::HandshakeResult,
};

use super::{
    tls,
    tls_records::{RecordSocket, take_ahead},
};

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

/// What becomes of a connection to a port of which some listeners terminate TLS and others pass it through.
pub(in crate::proxy) enum Route {
    /// It has ended.
    Ended,
    /// TLS ends here: the handshake is to follow.
    Terminate(RecordSocket),
}

/// Reads the ClientHello of a connection. Where its listener passes connections through, the connection is served to its end.
pub(in crate::proxy) async fn greeted(
    worker: &Rc<Worker>,
    conn: &Rc<Conn>,
    peer: &Peer,
    client: TcpStream,
    termination: &TlsTermination,
) -> Route {
    let greeted = conn.told_or(async { Some(greet(client).await) }).await;
    let Greeting { server_name, io } = match greeted {
        Some(Ok(greeting)) => greeting,
        refused => {
            let why = refused.and_then(Result::err).unwrap_or(HandshakeResult::TimedOut);
            worker.metrics.tls_handshake(why);
            return Route::Ended;
        }
    };
    match owner(worker, peer, server_name.as_deref(), termination) {
        Owner::Nobody => worker.metrics.tls_handshake(HandshakeResult::UnknownName),
        Owner::Host => stream::serve(worker, conn, peer, io, server_name.as_deref()).await,
        Owner::Gateway => {
            let held = Account::at_rest(&worker.budget);
            return Route::Terminate(RecordSocket::rewound(io.io, io.ahead, conn.activity.clone(), held));
        }
    }
    Route::Ended
}

/// Who ends the TLS of a connection.
enum Owner {
    /// No listener has the name: the connection is closed.
    Nobody,
    /// The host: the listener passes connections through.
    Host,
    /// The gateway.
    Gateway,
}

fn owner(worker: &Worker, peer: &Peer, server_name: Option<&str>, termination: &TlsTermination) -> Owner {
    let mut cached = worker.snapshot.borrow_mut();
    let bind = cached.get().value.binds.get(&peer.bind);
    let listener = bind.and_then(|bind| bind.listeners.get(server_name.unwrap_or_default()));
    match (listener, termination.listener(server_name)) {
        (None, _) => Owner::Nobody,
        (Some(listener), Some(terminating)) if terminating.name == listener.name => Owner::Gateway,
        (Some(_), _) => Owner::Host,
    }
}

/// Reads a ClientHello and leaves it to be read again.
async fn greet(mut client: TcpStream) -> Result<Greeting, HandshakeResult> {
    let mut hello = HelloReader::default();
    let mut read = BytesMut::with_capacity(HELLO_READ);
    loop {
        let seen = read.len();
        read.reserve(HELLO_READ);
        let length = client.read_buf(&mut read).await.map_err(|error| tls::failure(&error))?;
        if length == 0 {
            return Err(HandshakeResult::Closed);
        }
        match hello.take(read.get(seen..).unwrap_or_default()) {
            Ok(HelloProgress::Incomplete) => {}
            Ok(HelloProgress::Complete(server_name)) => {
                return Ok(Greeting { server_name, io: Rewound { ahead: read.freeze(), io: client } });
            }
            Err(_) => return Err(HandshakeResult::Malformed),
        }
    }
}

// === impl Rewound ===

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buffer);
        }
        take_ahead(&mut this.ahead, buffer);
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
