//! TLS handshakes: the server name picks the listener, the listener's certificates answer.
//!
//! The ClientHello is read before anything is decided, so that each handshake uses the certificates of the snapshot that is current at that
//! moment. Established connections do not look at certificates again.

use std::{cell::RefCell, io, sync::Arc};

use tokio::io::AsyncWriteExt;
use tokio_rustls::{LazyConfigAcceptor, rustls, rustls::HandshakeKind, rustls::server::Acceptor, server::TlsStream};

use crate::{
    base::Cached,
    proxy::state::{handshakes::Handshakes, peer::TlsPeer, timing::Protocol},
    snapshot::{BindAddress, BindProtocol, Snapshot, TlsContent, TlsTermination, lower_case},
    telemetry::HandshakeResult,
};

use super::tls_records::RecordSocket;

/// A fatal alert `unrecognized_name` (RFC 8446 section 6.2), in a record of its own: rustls cannot be asked to send this one.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A connection after its handshake.
#[derive(Debug)]
pub(in crate::proxy) struct Accepted {
    pub(in crate::proxy) stream: Box<TlsStream<RecordSocket>>,
    /// What ALPN agreed on; HTTP/1.1 where the client did not ask.
    pub(in crate::proxy) protocol: Protocol,
    pub(in crate::proxy) tls: TlsPeer,
    /// What is inside.
    pub(in crate::proxy) content: TlsContent,
}

/// What is spoken on an address now; `None`: nothing any more.
pub(in crate::proxy) fn protocol(snapshot: &RefCell<Cached<Snapshot>>, bind: BindAddress) -> Option<BindProtocol> {
    Some(snapshot.borrow_mut().get().value.binds.get(&bind)?.protocol.clone())
}

/// What TLS on an address needs; `None` where plain text is spoken.
fn termination(snapshot: &RefCell<Cached<Snapshot>>, bind: BindAddress) -> Option<Arc<TlsTermination>> {
    match protocol(snapshot, bind)? {
        BindProtocol::Http | BindProtocol::Tcp | BindProtocol::Udp => None,
        BindProtocol::Https(tls) | BindProtocol::Tls(tls) => Some(tls),
    }
}

/// Shakes hands.
///
/// # Errors
/// Why there is no connection; it has been closed.
pub(in crate::proxy) async fn accept(
    snapshot: &RefCell<Cached<Snapshot>>,
    handshakes: &Handshakes,
    bind: BindAddress,
    stream: RecordSocket,
) -> Result<Accepted, HandshakeResult> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(|error| failure(&error))?;
    // Looked up only now: the client may have taken its time, and the listener may have changed meanwhile.
    let termination = termination(snapshot, bind).ok_or(HandshakeResult::UnknownName)?;
    let server_name: Option<Arc<str>> = start.client_hello().server_name().map(|name| lower_case(name).into());
    let listener = termination.listener(server_name.as_deref()).filter(|listener| !listener.certificates.is_empty());
    let Some(listener) = listener else {
        let mut stream = start.io;
        // The connection ends either way.
        let _ = stream.write_all(&UNRECOGNIZED_NAME).await;
        let _ = stream.shutdown().await;
        return Err(HandshakeResult::UnknownName);
    };
    let config = listener.config().map_err(|error| {
        tracing::error!(%error, %bind, "TLS cannot be terminated");
        HandshakeResult::Other
    })?;
    // Only now does it cost something: who has said nothing yet must not keep others from their turn.
    let shaking = async {
        start.io.handshake_begins();
        start.into_stream(config).await
    };
    let shaken = handshakes.run(shaking).await.ok_or(HandshakeResult::TimedOut)?;
    let mut stream = shaken.map_err(|error| failure(&error))?;
    stream.get_mut().0.handshake_ended();
    let session = stream.get_ref().1;
    if session.handshake_kind() == Some(HandshakeKind::Resumed) && !listener.readmits(session.peer_certificates()) {
        return Err(HandshakeResult::ClientCertificate);
    }
    let protocol = match session.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        Some(_) | None => Protocol::Http1,
    };
    let version = version(session.protocol_version());
    Ok(Accepted { stream: Box::new(stream), protocol, tls: TlsPeer { server_name, version }, content: listener.settings.content })
}

/// A version's name; only these two are ever agreed on.
fn version(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(_) | None => "-",
    }
}

/// The reason of a failed handshake, as it is counted.
pub(in crate::proxy) fn failure(error: &io::Error) -> HandshakeResult {
    tracing::debug!(%error, "a TLS handshake failed");
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(_)) => HandshakeResult::RefusedByClient,
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => HandshakeResult::ClientCertificate,
        Some(rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. }) => HandshakeResult::Malformed,
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol | rustls::Error::General(_)) => {
            HandshakeResult::Incompatible
        }
        Some(rustls::Error::PeerMisbehaved(_) | rustls::Error::DecryptError) => HandshakeResult::Malformed,
        Some(_) => HandshakeResult::Other,
        None => HandshakeResult::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_whose_doing_they_are() {
        use rustls::{AlertDescription, InvalidMessage, PeerIncompatible};
        for (error, expected) in [
            (rustls::Error::AlertReceived(AlertDescription::UnknownCA), HandshakeResult::RefusedByClient),
            (rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType), HandshakeResult::Malformed),
            (rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), HandshakeResult::Incompatible),
            (rustls::Error::NoApplicationProtocol, HandshakeResult::Incompatible),
            (rustls::Error::NoCertificatesPresented, HandshakeResult::ClientCertificate),
            (rustls::CertificateError::UnknownIssuer.into(), HandshakeResult::ClientCertificate),
            (rustls::Error::FailedToGetRandomBytes, HandshakeResult::Other),
        ] {
            assert_eq!(failure(&io::Error::new(io::ErrorKind::InvalidData, error)), expected);
        }
        assert_eq!(failure(&io::ErrorKind::UnexpectedEof.into()), HandshakeResult::Closed);
    }
}
