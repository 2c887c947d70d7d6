//! What the access log keeps of a request. What a client or a host chose is cut when it is taken: a record is small while it waits.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Method;

use crate::base::head::Value;
use crate::base::{ObjectName, trace::TraceId};

use super::super::{ResponseFlag, request_trace::RequestTrace, shown::Shown};

/// Most bytes that are kept of a field that somebody else chose.
const LIMIT: usize = 1_024;
/// Most bytes that are kept of a field that is short where nobody plays tricks.
const SHORT_LIMIT: usize = 256;

/// The beginning of a text that a client or a host chose. It is bounded, whatever they chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

/// The client's connection, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    /// The connection's peer.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// What TLS says of it; `None` without TLS.
    pub tls: Option<DownstreamTls>,
}

/// A client's TLS connection, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamTls {
    /// The name the client asked for (SNI).
    pub server_name: Option<Arc<str>>,
    /// The version that was agreed on, as Envoy writes it: `TLSv1.3`.
    pub version: &'static str,
}

/// What is logged about a request. Neither a cookie's value nor Authorization is part of it.
#[derive(Clone)]
pub struct AccessRecord {
    /// When the request's head arrived.
    pub time: SystemTime,
    /// The client's connection.
    pub downstream: Downstream,
    /// The client's address as hash policies see it; `None` where the request was refused before anybody looked.
    pub client: Option<IpAddr>,
    /// `HTTP/1.1` and the like.
    pub protocol: Option<&'static str>,
    /// The Gateway.
    pub gateway: Option<Arc<ObjectName>>,
    /// Name of the listener.
    pub listener: Option<Arc<str>>,
    /// The route that matched, shown as `HTTPRoute ns/name`.
    pub route: Option<Shown>,
    /// The rule's index within the route.
    pub rule: Option<u16>,
    /// Method; `None` where the head could not be read.
    pub method: Option<Cow<'static, str>>,
    /// Host of the request as received; `None` where it has none or the head could not be read.
    pub authority: Option<Excerpt>,
    /// Path and query as received; `None` where there is none or the head could not be read.
    pub path: Option<Excerpt>,
    /// The `x-request-id` that the host sees.
    pub request_id: Option<Excerpt>,
    /// The trace that the host sees it in; `None` without one.
    pub trace_id: Option<TraceId>,
    /// The User-Agent as received.
    pub user_agent: Option<Excerpt>,
    /// What a template takes of the request's head, by its list of fields; empty without a template.
    pub request_fields: Box<[Option<Excerpt>]>,
    /// What a template takes of the response's head, by its list of fields; empty without a template, and where no response was begun.
    pub response_fields: Box<[Option<Excerpt>]>,
    /// Status of the response; 0 where none was begun.
    pub status: u16,
    /// Response flag.
    pub flag: ResponseFlag,
    /// Why the gateway answered by itself, of a bounded set; `None` where a host's answer was passed on or there was none.
    pub reason: Option<&'static str>,
    /// The backend that was drawn, shown as `Upstream ns/name`.
    pub upstream_cluster: Option<Shown>,
    /// Address of the host that answered, or was tried last.
    pub upstream_host: Option<Arc<str>>,
    /// What is spoken to that host: `HTTP/1.1` or `HTTP/2`.
    pub upstream_protocol: Option<&'static str>,
    /// The request hash.
    pub hash: Option<u64>,
    /// Which kind of hash policy gave the key.
    pub key_source: &'static str,
    /// Attempts made; 0 for an answer of the gateway's own.
    pub attempts: u32,
    /// From the request's head to the end of the response.
    pub duration: Duration,
    /// From the end of the request (its head, while the body still comes) to the head of the host's response.
    pub upstream_duration: Option<Duration>,
    /// From the request's head to the head of the host's response.
    pub response_duration: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// What its spans are made of, if the request is recorded. The log does not show it.
    pub trace: Option<Box<RequestTrace>>,
}

// === impl Excerpt ===

impl Excerpt {
    /// At most 1 KiB of a text.
    pub fn of(text: &str) -> Self {
        Self::cut(text, LIMIT)
    }

    /// At most 256 bytes of a text.
    pub fn short(text: &str) -> Self {
        Self::cut(text, SHORT_LIMIT)
    }

    /// At most 1 KiB of a header's value; bytes that are not UTF-8 are replaced.
    pub fn of_value(value: Value<'_>) -> Self {
        Self::cut_value(value, LIMIT)
    }

    /// At most 256 bytes of a header's value; bytes that are not UTF-8 are replaced.
    pub fn short_value(value: Value<'_>) -> Self {
        Self::cut_value(value, SHORT_LIMIT)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn cut(text: &str, limit: usize) -> Self {
        Self(text.get(..text.floor_char_boundary(limit)).unwrap_or_default().into())
    }

    fn cut_value(value: Value<'_>, limit: usize) -> Self {
        let bytes = value.as_bytes();
        Self::cut(&String::from_utf8_lossy(bytes.get(..limit).unwrap_or(bytes)), limit)
    }
}

// === impl AccessRecord ===

impl AccessRecord {
    /// A record of a request of which only the connection is known.
    pub fn new(downstream: Downstream) -> Self {
        Self {
            time: SystemTime::UNIX_EPOCH,
            downstream,
            client: None,
            protocol: None,
            gateway: None,
            listener: None,
            route: None,
            rule: None,
            method: None,
            authority: None,
            path: None,
            request_id: None,
            trace_id: None,
            user_agent: None,
            request_fields: Box::default(),
            response_fields: Box::default(),
            status: 0,
            flag: ResponseFlag::None,
            reason: None,
            upstream_cluster: None,
            upstream_host: None,
            upstream_protocol: None,
            hash: None,
            key_source: "-",
            attempts: 0,
            duration: Duration::ZERO,
            upstream_duration: None,
            response_duration: None,
            bytes_received: 0,
            bytes_sent: 0,
            trace: None,
        }
    }

    /// A record of what was refused before it was a request: its head is not HTTP, or too large. `reason` is one of a bounded set.
    pub fn refused(downstream: Downstream, status: u16, flag: ResponseFlag, reason: &'static str) -> Self {
        Self { time: SystemTime::now(), status, flag, reason: Some(reason), ..Self::new(downstream) }
    }

    /// Bytes of memory that the record holds on to, apart from names that are part of the configuration.
    pub(in crate::telemetry) fn bytes(&self) -> usize {
        let fields = [&self.authority, &self.path, &self.request_id, &self.user_agent];
        let captured = [&self.request_fields, &self.response_fields].map(|fields| &**fields);
        let excerpts = fields.into_iter().chain(captured.into_iter().flatten()).flatten();
        let excerpts: usize = excerpts.map(|field| field.0.len()).sum();
        let slots = (self.request_fields.len() + self.response_fields.len()) * size_of::<Option<Excerpt>>();
        let method = match &self.method {
            Some(Cow::Owned(method)) => method.capacity(),
            Some(Cow::Borrowed(_)) | None => 0,
        };
        let server_name = self.downstream.tls.as_ref().and_then(|tls| tls.server_name.as_ref()).map_or(0, |name| name.len());
        size_of::<Self>() + slots + excerpts + method + server_name
    }
}

/// A method's name: without a copy if it is one of RFC 9110, else its beginning.
pub fn method_name(method: &Method) -> Cow<'static, str> {
    Cow::Borrowed(match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => return Cow::Owned(Excerpt::short(method.as_str()).0.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_chose_is_cut_when_it_is_taken() {
        let long = "é".repeat(40_000);
        assert_eq!((Excerpt::of(&long).as_str().len(), Excerpt::short(&long).as_str().len()), (1_024, 256));
        assert_eq!(Excerpt::of("short").as_str(), "short");
        for byte in [b'x', 0xc3, 0xff] {
            let value = http::HeaderValue::from_bytes(&[byte; 60_000]).unwrap();
            let (kept, short) = (Excerpt::of_value((&value).into()), Excerpt::short_value((&value).into()));
            assert!((900..=1_024).contains(&kept.as_str().len()), "{}", kept.as_str().len());
            assert!((200..=256).contains(&short.as_str().len()), "{}", short.as_str().len());
        }
        let method = Method::from_bytes(&[b'X'; 30_000]).unwrap();
        assert_eq!((method_name(&method).len(), method_name(&Method::PATCH)), (256, Cow::Borrowed("PATCH")));
    }

    #[test]
    fn every_field_that_others_chose_counts() {
        let downstream = Downstream { peer: SocketAddr::from(([10, 0, 0, 1], 1)), local: SocketAddr::from(([10, 0, 0, 2], 2)), tls: None };
        let empty = AccessRecord::new(downstream);
        let text = || Some(Excerpt::of("0123456789"));
        let server_name = Some(DownstreamTls { server_name: Some("0123456789".into()), version: "TLSv1.3" });
        for record in [
            AccessRecord { authority: text(), ..empty.clone() },
            AccessRecord { path: text(), ..empty.clone() },
            AccessRecord { request_id: text(), ..empty.clone() },
            AccessRecord { user_agent: text(), ..empty.clone() },
            AccessRecord { method: Some(Cow::Owned("0123456789".into())), ..empty.clone() },
            AccessRecord { downstream: Downstream { tls: server_name, ..empty.downstream.clone() }, ..empty.clone() },
        ] {
            assert_eq!(record.bytes(), empty.bytes() + 10);
        }
        for record in [
            AccessRecord { request_fields: [text(), None].into(), ..empty.clone() },
            AccessRecord { response_fields: [None, text()].into(), ..empty.clone() },
        ] {
            assert_eq!(record.bytes(), empty.bytes() + 10 + 2 * size_of::<Option<Excerpt>>());
        }
        assert!(empty.bytes() < 1_024, "{}", empty.bytes());
    }
}
