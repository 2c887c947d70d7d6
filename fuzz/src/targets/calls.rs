//! What gRPC says in heads: timeouts, content types and statuses are those of its documents, and a method leads to the rule that names it.

use std::{sync::Arc, time::Duration};

use clingfish::{
    api::{self, Document},
    base::head::{request, response},
    plan::{self, Chooser, Connection, GrpcStatus, Outcome},
    snapshot::{Observed, Snapshot},
    translate::{Change, Options, Resources, translate},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, HOST},
};
use serde_json::json;

/// Units of a timeout in nanoseconds (gRPC over HTTP2, "TimeoutUnit").
const UNITS: [(u8, u128); 6] =
    [(b'H', 3_600_000_000_000), (b'M', 60_000_000_000), (b'S', 1_000_000_000), (b'm', 1_000_000), (b'u', 1_000), (b'n', 1)];

thread_local! {
    static SNAPSHOT: Arc<Snapshot> = snapshot();
}

/// The first byte tells what the others are.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => timeout(bytes),
        1 => content_type(bytes),
        2 => answer(bytes),
        _ => method(bytes, *kind),
    }
}

fn timeout(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let expected = bytes.split_last().and_then(|(unit, digits)| {
        let (_, nanoseconds) = UNITS.iter().find(|(known, _)| known == unit)?;
        let sound = (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        let number: u128 = std::str::from_utf8(digits).ok().filter(|_| sound)?.parse().ok()?;
        Some(number * nanoseconds)
    });
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", value);
    assert_eq!(plan::grpc_timeout(&(&headers).into()).map(|timeout: Duration| timeout.as_nanos()), expected);
}

fn content_type(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let call = b"application/grpc";
    let expected = bytes == call || bytes.starts_with(b"application/grpc+") || bytes.starts_with(b"application/grpc;");
    assert_eq!(plan::is_grpc_content_type(value.as_bytes()), expected);
}

/// An answer of the gateway's own: its text can be read back, and nothing else is in the head.
fn answer(bytes: &[u8]) {
    let Some((code, text)) = bytes.split_first_chunk::<2>() else { return };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes(*code)) else { return };
    let mapped = GrpcStatus::of_error(status);
    assert_eq!(mapped.is_some(), status.as_u16() >= 400, "{status}");
    let Some(mapped) = mapped else { return };
    let text = String::from_utf8_lossy(text);
    let mut parts = response::Parts::default();
    plan::answer_call(&mut parts, mapped, &text);
    assert_eq!((parts.status, plan::grpc_status(&parts.headers)), (StatusCode::OK, Some(mapped as u8)));
    let message = parts.headers.get("grpc-message").map(|message| decoded(message.as_bytes()));
    assert_eq!(message.unwrap_or_default(), text.as_bytes());
    // Whatever a host says there, it is a status or none.
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        parts.headers.insert(HeaderName::from_static("grpc-status"), value);
        assert!(plan::grpc_status(&parts.headers).is_none_or(|status| text.trim_start_matches(['+', '0']).parse().unwrap_or(0) == status));
    }
}

/// Percent-encoding, undone.
fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some((first, rest)) = text.split_first() {
        assert!(matches!(first, b' '..=b'~'), "{first} in a header");
        text = rest;
        if *first == b'%' {
            let (digits, rest) = rest.split_first_chunk::<2>().expect("two digits");
            let digits = std::str::from_utf8(digits).expect("digits");
            decoded.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
            text = rest;
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

/// The rules, from the one that wins.
fn rules() -> serde_json::Value {
    let rule = |method: serde_json::Value| json!({"matches": [{"method": method}], "backendRefs": [{"name": "web", "port": 80}]});
    json!([
        rule(json!({"service": "a.B", "method": "C"})),
        rule(json!({"service": "a.B"})),
        rule(json!({"type": "RegularExpression", "service": "s[0-9]+|t", "method": "G.*"})),
        rule(json!({"method": "Ping"})),
        {"backendRefs": [{"name": "web", "port": 80}]},
    ])
}

/// The rule of what is forwarded.
fn expected(path: &str) -> u16 {
    let elements: Vec<&str> = path.split('/').collect();
    let numbered =
        |service: &str| service.strip_prefix('s').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()));
    match elements.as_slice() {
        ["", "a.B", "C"] => 0,
        ["", "a.B", ..] => 1,
        // The pattern of a method may span slashes.
        ["", service, method, ..] if (numbered(service) || *service == "t") && method.starts_with('G') => 2,
        ["", service, "Ping"] if !service.is_empty() => 3,
        _ => 4,
    }
}

fn method(target: &[u8], kind: u8) {
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::POST;
    let value = if kind & 64 > 0 { "application/grpc" } else { "application/json" };
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(value));
    request.headers_mut().insert(HOST, HeaderValue::from_static("a"));
    let mut parts = request::Parts::from(request.into_parts().0);
    SNAPSHOT.with(|snapshot| {
        let bind = snapshot.binds.values().next().expect("a port");
        let address = "127.0.0.1:1".parse().expect("an address");
        let connection = Connection { bind, remote: address, local: address, tls: None };
        let mut chooser = Chooser { random: fastrand::Rng::with_seed(1), turns: Vec::new() };
        let plan = plan::plan(&mut parts, &connection, snapshot, &mut chooser);
        if let (Outcome::Forward(_), Some(rule)) = (&plan.outcome, plan.rule()) {
            assert_eq!(rule.index, expected(parts.uri.path()), "{}", parts.uri);
        }
    });
}

fn snapshot() -> Arc<Snapshot> {
    let metadata = |name: &str| json!({"namespace": "a", "name": name});
    let documents = [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata("gw"),
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "metadata": metadata("route"),
            "spec": {"parentRefs": [{"name": "gw"}], "rules": rules()}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("web"), "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "a", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}]}),
    ];
    let mut resources = Resources::default();
    for document in documents {
        match api::decode(document) {
            Ok(Document::Object(object)) => resources.apply(Change::Apply(object)),
            other => panic!("{other:?}"),
        }
    }
    translate(&resources, &Observed::default(), &Options::default(), None).snapshot
}
