//! Everything that can go wrong with a request, and what is answered.

use std::io;

use http::StatusCode;

use crate::{
    plan::GrpcStatus,
    telemetry::{OverflowKind, ResponseFlag},
};

use super::tls_fault::TlsFault;

/// Why a request could not be answered by its backend. `verdict` is the one table that turns it into an answer.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is no memory, or no room in the buffers, for one more request.
    #[error("overload")]
    Overload,
    /// The request is malformed; what is wrong with it.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
    /// The request's head is too long or has too many fields.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// The request's target is too long.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The request's head did not end in time.
    #[error("the request head took too long")]
    HeadTimeout,
    /// The request body broke off or is malformed.
    #[error("the request body is malformed or broke off")]
    ClientBody,
    /// The socket the connection was accepted on is no longer configured.
    #[error("no listener is configured on this port any more")]
    BindGone,
    /// No connection to any host that was tried; the last one's error.
    #[error("connect failed: {0}")]
    Connect(#[source] io::Error),
    /// No file descriptor is left for a connection to a host.
    #[error("no file descriptor is left for a connection to a host")]
    NoDescriptor,
    /// No connection within the connect timeout, on the last host that was tried.
    #[error("connect timed out")]
    ConnectTimeout,
    /// No TLS with any host that was tried; why, of the last one.
    #[error("{}", .0.as_str())]
    HostTls(TlsFault),
    /// The upstream closed the connection before it answered.
    #[error("the upstream closed the connection before it answered: {0}")]
    UpstreamClosed(#[source] io::Error),
    /// The upstream closed the connection between an interim head and the head of its answer: it has seen the request.
    #[error("the upstream closed the connection after an interim answer: {0}")]
    UpstreamBrokeOff(#[source] io::Error),
    /// The host refused the stream (HTTP/2 `REFUSED_STREAM`): it has done nothing about the request.
    #[error("the upstream refused the stream")]
    UpstreamRefusedStream,
    /// The backend has as much as it may have at once.
    #[error("upstream overflow: {}", .0.as_str())]
    Overflow(OverflowKind),
    /// The upstream's answer is not HTTP, or its head exceeds the limits.
    #[error("the upstream's answer is not valid HTTP: {0}")]
    UpstreamProtocol(&'static str),
    /// The host goes away and has not looked at the request (HTTP/2 `GOAWAY`).
    #[error("the upstream goes away and has not processed the request")]
    UpstreamGoneAway,
    /// The host has reset the stream (HTTP/2 `RST_STREAM`): what it has done about the request is not known.
    #[error("the upstream reset the stream")]
    UpstreamReset,
    /// The host does not take WebSocket over HTTP/2 (RFC 8441): it did not send `SETTINGS_ENABLE_CONNECT_PROTOCOL`.
    #[error("the upstream takes no WebSocket over HTTP/2")]
    UpstreamNoWebSocket,
    /// The upstream switched protocols without being asked to, or to another protocol than asked.
    #[error("the upstream switched to a protocol that was not asked for")]
    UnexpectedUpgrade,
    /// The route's request timeout passed.
    #[error("request timeout")]
    RequestTimeout,
    /// One attempt took longer than the route's timeout for an attempt.
    #[error("attempt timeout")]
    AttemptTimeout,
    /// The client sent nothing of its request body for the idle timeout.
    #[error("the request body stalled")]
    UploadIdle,
    /// Nothing moved for the idle timeout while the answer was awaited.
    #[error("stream idle timeout")]
    StreamIdle,
    /// The session of a stream belongs to another host by now.
    #[error("the session has moved to another pod")]
    SessionMoved,
    /// The host chosen is not part of the cluster.
    #[error("no host to send to")]
    NoHost,
}

/// What is answered, what the log says, and whether another attempt may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Status of the answer.
    pub status: StatusCode,
    /// Envoy's response flag.
    pub flag: ResponseFlag,
    /// Who may be asked again.
    pub retry: Retry,
    /// Body of the answer; empty: none.
    pub text: &'static str,
}

/// Whether another attempt may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The request was not sent: the next host may have it, whatever its method.
    NextHost,
    /// It may have been processed: only a request that may be repeated.
    IfRepeatable,
    /// Never.
    No,
}

/// Envoy's words (`source/common/router/router.cc`).
const OVERFLOW: &str = "upstream connect error or disconnect/reset before headers. reset reason: overflow";

// === impl ProxyError ===

impl ProxyError {
    /// The table: status, response flag, retry, text.
    pub fn verdict(&self) -> Verdict {
        use ResponseFlag as Flag;
        let (status, flag, retry, text) = match self {
            // Envoy's words, "envoy overloaded", name Envoy.
            Self::Overload => (StatusCode::SERVICE_UNAVAILABLE, Flag::Overload, Retry::No, "overload"),
            Self::BadRequest(text) => (StatusCode::BAD_REQUEST, Flag::DownstreamProtocolError, Retry::No, *text),
            Self::HeadTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Flag::DownstreamProtocolError, Retry::No, "request header fields too large")
            }
            Self::TargetTooLong => (StatusCode::URI_TOO_LONG, Flag::DownstreamProtocolError, Retry::No, "request target too long"),
            Self::HeadTimeout => (StatusCode::REQUEST_TIMEOUT, Flag::StreamIdleTimeout, Retry::No, "request head timeout"),
            Self::ClientBody => (StatusCode::BAD_REQUEST, Flag::DownstreamProtocolError, Retry::No, "malformed request body"),
            Self::BindGone => (StatusCode::NOT_FOUND, Flag::NoRoute, Retry::No, ""),
            Self::Connect(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamConnectionFailure, Retry::NextHost, "upstream connect error")
            }
            Self::HostTls(_) => (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamConnectionFailure, Retry::NextHost, "upstream TLS error"),
            // Another host would need one too: the session stays where it is.
            Self::NoDescriptor => (StatusCode::SERVICE_UNAVAILABLE, Flag::Overload, Retry::No, "overload"),
            Self::ConnectTimeout => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamConnectionFailure, Retry::NextHost, "upstream connect timeout")
            }
            Self::UpstreamClosed(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Flag::UpstreamConnectionTermination,
                Retry::IfRepeatable,
                "upstream closed the connection before it answered",
            ),
            Self::UpstreamBrokeOff(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                Flag::UpstreamConnectionTermination,
                Retry::IfRepeatable,
                "upstream closed the connection after an interim answer",
            ),
            Self::UpstreamProtocol(_) => {
                (StatusCode::BAD_GATEWAY, Flag::UpstreamProtocolError, Retry::IfRepeatable, "upstream protocol error")
            }
            Self::UpstreamRefusedStream => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamRemoteReset, Retry::NextHost, "upstream refused the stream")
            }
            Self::Overflow(_) => (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamOverflow, Retry::No, OVERFLOW),
            Self::UpstreamGoneAway => (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamRemoteReset, Retry::NextHost, "upstream goes away"),
            Self::UpstreamReset => {
                (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamRemoteReset, Retry::IfRepeatable, "upstream reset the stream")
            }
            // Envoy asks the host, which resets the stream as malformed.
            Self::UpstreamNoWebSocket => {
                (StatusCode::BAD_GATEWAY, Flag::UpstreamProtocolError, Retry::No, "upstream takes no WebSocket over HTTP/2")
            }
            Self::UnexpectedUpgrade => (StatusCode::BAD_GATEWAY, Flag::UpstreamProtocolError, Retry::No, "upstream protocol error"),
            Self::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, Flag::UpstreamRequestTimeout, Retry::No, "upstream request timeout"),
            Self::AttemptTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, Flag::UpstreamRequestTimeout, Retry::IfRepeatable, "upstream request timeout")
            }
            Self::UploadIdle => (StatusCode::REQUEST_TIMEOUT, Flag::StreamIdleTimeout, Retry::No, "stream timeout"),
            Self::StreamIdle => (StatusCode::GATEWAY_TIMEOUT, Flag::StreamIdleTimeout, Retry::No, "stream timeout"),
            Self::SessionMoved => (StatusCode::SERVICE_UNAVAILABLE, Flag::DurationTimeout, Retry::No, "session moved"),
            Self::NoHost => (StatusCode::SERVICE_UNAVAILABLE, Flag::NoHealthyUpstream, Retry::No, "no healthy upstream"),
        };
        Verdict { status, flag, retry, text }
    }

    /// What it is to a call of gRPC.
    pub fn grpc_status(&self) -> Option<GrpcStatus> {
        match self {
            Self::RequestTimeout | Self::AttemptTimeout | Self::StreamIdle | Self::UploadIdle => Some(GrpcStatus::DeadlineExceeded),
            _ => GrpcStatus::of_error(self.verdict().status),
        }
    }

    /// Whether an HTTP/1 connection ends with it: its framing is in doubt, or nobody is there to serve it.
    pub fn ends_connection(&self) -> bool {
        match self {
            Self::BadRequest(_) | Self::HeadTooLarge | Self::TargetTooLong | Self::HeadTimeout | Self::ClientBody | Self::BindGone => true,
            Self::Overload
            | Self::Connect(_)
            | Self::HostTls(_)
            | Self::ConnectTimeout
            | Self::UpstreamClosed(_)
            | Self::UpstreamBrokeOff(_)
            | Self::UpstreamRefusedStream
            | Self::Overflow(_)
            | Self::UpstreamProtocol(_)
            | Self::UpstreamGoneAway
            | Self::UpstreamReset
            | Self::UpstreamNoWebSocket
            | Self::UnexpectedUpgrade
            | Self::RequestTimeout
            | Self::AttemptTimeout
            | Self::UploadIdle
            | Self::StreamIdle
            | Self::NoDescriptor
            | Self::SessionMoved
            | Self::NoHost => false,
        }
    }

    /// Why the gateway answers by itself, for the log: of a bounded set, and never empty.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BindGone => "no listener",
            Self::HostTls(fault) => fault.as_str(),
            Self::UnexpectedUpgrade => "upstream switched protocols unasked",
            Self::RequestTimeout => "upstream response timeout",
            Self::AttemptTimeout => "upstream per try timeout",
            Self::UploadIdle => "request body idle timeout",
            Self::StreamIdle => "stream idle timeout",
            Self::Overload
            | Self::BadRequest(_)
            | Self::HeadTooLarge
            | Self::TargetTooLong
            | Self::HeadTimeout
            | Self::ClientBody
            | Self::Connect(_)
            | Self::ConnectTimeout
            | Self::UpstreamClosed(_)
            | Self::UpstreamBrokeOff(_)
            | Self::UpstreamRefusedStream
            | Self::Overflow(_)
            | Self::UpstreamProtocol(_)
            | Self::UpstreamGoneAway
            | Self::UpstreamReset
            | Self::UpstreamNoWebSocket
            | Self::NoDescriptor
            | Self::SessionMoved
            | Self::NoHost => self.verdict().text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_were_not_sent_go_on_whatever_their_method() {
        assert_eq!(ProxyError::ConnectTimeout.verdict().retry, Retry::NextHost);
        assert_eq!(ProxyError::AttemptTimeout.verdict().retry, Retry::IfRepeatable);
        assert_eq!(ProxyError::RequestTimeout.verdict().retry, Retry::No);
        assert_eq!(ProxyError::ClientBody.verdict().status, StatusCode::BAD_REQUEST);
    }
}
