//! One client's connection, from its first byte to its end: TLS, then the protocol that it speaks.

use std::rc::Rc;

use tokio::net::TcpStream;

use crate::{
    proxy::{
        flow::{context::ConnContext, stream},
        state::{budget::Account, conn::Conn, peer::Peer, slots::SlotKey, timing::Protocol},
        wire::{opening::Ends, proxy_protocol},
        worker::Worker,
    },
    snapshot::{BindAddress, BindProtocol, TlsContent},
    telemetry::{HandshakeResult, ProxyProtocolResult},
};

use super::{greeting, http1, http2, io::ClientIo, tls, tls_records::RecordSocket};

/// Keeps a connection registered with its worker.
struct Registered {
    worker: Rc<Worker>,
    slot: SlotKey,
}

/// Serves a connection until it ends.
pub(in crate::proxy) async fn serve(worker: Rc<Worker>, mut client: TcpStream, mut peer: Peer) {
    let conn = Rc::new(Conn::new());
    let _registered = Registered::new(&worker, &conn);
    if announces_clients(&worker, &peer) && !Box::pin(meet_client(&worker, &conn, &mut client, &mut peer)).await {
        return;
    }
    conn.set_ends(Ends { source: peer.remote, destination: peer.local });
    let activity = conn.activity.clone();
    let socket = match tls::protocol(&worker.snapshot, peer.bind) {
        Some(BindProtocol::Http) | None => Err(client),
        Some(BindProtocol::Https(_)) => Ok(RecordSocket::new(client, activity.clone(), Account::at_rest(&worker.budget))),
        Some(BindProtocol::Tls(tls)) => match Box::pin(greeting::greeted(&worker, &conn, &peer, client, &tls)).await {
            greeting::Route::Ended => return,
            greeting::Route::Terminate(socket) => Ok(socket),
        },
        // It is a connection: that of a port which is no more, or was taken over by the other transport.
        Some(BindProtocol::Udp) => return,
        Some(BindProtocol::Tcp) => return Box::pin(stream::serve(&worker, &conn, &peer, client, None)).await,
    };
    let (io, protocol) = match socket {
        Ok(socket) => {
            let Some(accepted) = handshake(&worker, &conn, peer.bind, socket).await else { return };
            let io = ClientIo::tls(accepted.stream, activity);
            let server_name = accepted.tls.server_name.clone();
            peer.tls = Some(accepted.tls);
            if accepted.content == TlsContent::Opaque {
                return Box::pin(stream::serve(&worker, &conn, &peer, io, server_name.as_deref())).await;
            }
            (io, Some(accepted.protocol))
        }
        Err(client) => (ClientIo::plain(client, activity), None),
    };
    let context = Rc::new(ConnContext { worker, conn, peer });
    let io = match protocol {
        Some(Protocol::Http2) => Some(io),
        Some(Protocol::Http1) => {
            context.conn.speaks(Protocol::Http1);
            http1::serve(io, http1::Beginning::Http1, Rc::clone(&context)).await
        }
        None => http1::serve(io, http1::Beginning::Unknown, Rc::clone(&context)).await,
    };
    if let Some(io) = io {
        Box::pin(http2::serve(io, context)).await;
    }
}

/// Whether the connection comes from a load balancer that is trusted to say who the client is.
fn announces_clients(worker: &Worker, peer: &Peer) -> bool {
    let trusted = &worker.config.proxy_protocol;
    !trusted.is_empty() && trusted.iter().any(|network| network.contains(&peer.remote.ip().to_canonical()))
}

/// Reads who the client is, within the time for the first byte. `false`: nobody says so, and the connection ends.
async fn meet_client(worker: &Worker, conn: &Conn, client: &mut TcpStream, peer: &mut Peer) -> bool {
    let result = match conn.told_or(async { Some(proxy_protocol::read(client).await) }).await {
        Some(Ok(Some(ends))) => {
            (peer.remote, peer.local) = (ends.source, ends.destination);
            ProxyProtocolResult::Client
        }
        Some(Ok(None)) => ProxyProtocolResult::Local,
        Some(Err(result)) => result,
        None if worker.is_draining() => ProxyProtocolResult::Closed,
        None => ProxyProtocolResult::TimedOut,
    };
    worker.metrics.proxy_protocol(result);
    matches!(result, ProxyProtocolResult::Client | ProxyProtocolResult::Local)
}

/// Shakes hands within the time for the first byte. `None`: no connection came of it; what became of it is counted.
async fn handshake(worker: &Rc<Worker>, conn: &Conn, bind: BindAddress, socket: RecordSocket) -> Option<tls::Accepted> {
    // Boxed: the state of a handshake is large, and connections without TLS would carry the room for it all their life.
    let accepting = Box::pin(tls::accept(&worker.snapshot, &worker.handshakes, bind, socket));
    let accepted = conn.told_or(async { Some(accepting.await) }).await;
    let result = match &accepted {
        Some(Ok(_)) => HandshakeResult::Ok,
        Some(Err(reason)) => *reason,
        None if worker.is_draining() => HandshakeResult::Closed,
        None => HandshakeResult::TimedOut,
    };
    worker.metrics.tls_handshake(result);
    accepted?.ok()
}

// === impl Registered ===

impl Registered {
    fn new(worker: &Rc<Worker>, conn: &Rc<Conn>) -> Self {
        Self { worker: Rc::clone(worker), slot: worker.conns.insert(Rc::clone(conn)) }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.conns.remove(self.slot);
        self.worker.something_ended();
    }
}
