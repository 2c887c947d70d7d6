//! A record as a line by a template.

use std::{
    fmt::{self, Display, Write as _},
    net::SocketAddr,
    time::Duration,
};

use http::{HeaderName, header::HOST};

use crate::base::head::{request, response};
use crate::base::{AddressOf, AddressPart, FieldChoice, LogTemplate, Operator, RequestField, ResponseField, Segment};

use super::{
    super::ResponseFlag,
    record::{AccessRecord, Excerpt, method_name},
};

static X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Keeps what the template takes of a request's head.
pub(super) fn take_request(template: &LogTemplate, record: &mut AccessRecord, parts: &request::Parts) {
    let path = || parts.uri.path_and_query().map(|path| Excerpt::of(path.as_str()));
    let header = |name: &HeaderName| parts.headers.get(name).map(Excerpt::of_value);
    let take = |field: &RequestField| match field {
        RequestField::Method => Some(Excerpt::short(&method_name(&parts.method))),
        RequestField::Path => path(),
        RequestField::OriginalPath if path() != record.path => record.path.clone(),
        RequestField::OriginalPath => header(&X_ENVOY_ORIGINAL_PATH),
        RequestField::Authority => header(&HOST),
        RequestField::Scheme => Some(Excerpt::short(if record.downstream.tls.is_some() { "https" } else { "http" })),
        RequestField::Header(name) => header(name),
    };
    record.request_fields = template.request_fields().iter().map(take).collect();
}

/// Keeps what the template takes of a response's head.
pub(super) fn take_response(template: &LogTemplate, record: &mut AccessRecord, parts: &response::Parts) {
    let take = |field: &ResponseField| match field {
        ResponseField::Status => Some(Excerpt::short(parts.status.as_str())),
        ResponseField::Header(name) => parts.headers.get(name).map(Excerpt::of_value),
    };
    record.response_fields = template.response_fields().iter().map(take).collect();
}

/// Writes a line.
pub(super) fn write(template: &LogTemplate, record: &AccessRecord, out: &mut String) -> fmt::Result {
    for segment in template.segments() {
        match segment {
            Segment::Text(text) => out.push_str(text),
            Segment::Operator(operator) => write_operator(operator, record, out)?,
        }
    }
    out.push('\n');
    Ok(())
}

fn write_operator(operator: &Operator, record: &AccessRecord, out: &mut String) -> fmt::Result {
    let tls = record.downstream.tls.as_ref();
    match operator {
        Operator::StartTime(format) => plain(out, Some(format.format(record.time))),
        Operator::Request(choice) => field(out, &record.request_fields, *choice),
        Operator::Response(choice) => field(out, &record.response_fields, *choice),
        Operator::Downstream(whose, part) => plain(out, address(*whose, record).map(|address| Part(address, *part))),
        Operator::Protocol => plain(out, record.protocol),
        Operator::ResponseCode => plain(out, Some(record.status)),
        Operator::ResponseCodeDetails => joined(out, details(record), '_'),
        Operator::ResponseFlags => plain(out, Some(record.flag.as_str())),
        Operator::BytesReceived => plain(out, Some(record.bytes_received)),
        Operator::BytesSent => plain(out, Some(record.bytes_sent)),
        Operator::Duration => plain(out, Some(record.duration.as_millis())),
        Operator::ResponseDuration => plain(out, record.response_duration.as_ref().map(Duration::as_millis)),
        Operator::ResponseTxDuration => plain(out, record.response_duration.map(|head| record.duration.saturating_sub(head).as_millis())),
        Operator::UpstreamRequestAttemptCount => plain(out, Some(record.attempts)),
        Operator::UpstreamHost => plain(out, record.upstream_host.as_deref()),
        Operator::UpstreamProtocol => plain(out, record.upstream_protocol),
        Operator::UpstreamCluster => joined(out, record.upstream_cluster.as_ref(), '/'),
        Operator::RouteName => joined(out, record.route.as_ref(), '/'),
        Operator::RequestedServerName => text(out, tls.and_then(|tls| tls.server_name.as_deref())),
        Operator::DownstreamTlsVersion => plain(out, tls.map(|tls| tls.version)),
        Operator::TraceId => plain(out, record.trace_id),
        Operator::Gateway => plain(out, record.gateway.as_deref()),
        Operator::Listener => plain(out, record.listener.as_deref()),
        Operator::Rule => plain(out, record.rule),
        Operator::Hash => plain(out, record.hash.map(|hash| format!("{hash:016x}"))),
        Operator::KeySource => plain(out, Some(record.key_source)),
    }
}

/// An address or a part of it.
struct Part(SocketAddr, AddressPart);

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            AddressPart::Whole => Display::fmt(&self.0, f),
            AddressPart::WithoutPort => Display::fmt(&self.0.ip(), f),
            AddressPart::Port => Display::fmt(&self.0.port(), f),
        }
    }
}

/// A client that is not the peer has no port that anybody knows: 0, as in Envoy.
fn address(whose: AddressOf, record: &AccessRecord) -> Option<SocketAddr> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let peer = canonical(record.downstream.peer);
    match whose {
        AddressOf::DirectRemote => Some(peer),
        AddressOf::Local => Some(canonical(record.downstream.local)),
        AddressOf::Remote => {
            let client = record.client.map_or_else(|| peer.ip(), |client| client.to_canonical());
            Some(if client == peer.ip() { peer } else { SocketAddr::new(client, 0) })
        }
    }
}

/// As Envoy's details; those of an answer of the gateway's own are the log's reason.
fn details(record: &AccessRecord) -> Option<&'static str> {
    let left = record.flag == ResponseFlag::DownstreamConnectionTermination;
    match (record.reason, record.status) {
        (Some(reason), _) => Some(reason),
        (None, 0) => left.then_some("downstream remote disconnect"),
        (None, _) => Some("via upstream"),
    }
}

fn plain(out: &mut String, value: Option<impl Display>) -> fmt::Result {
    match value {
        Some(value) => write!(out, "{value}"),
        None => out.write_str("-"),
    }
}

/// A name without spaces, so that it stays one column.
fn joined(out: &mut String, value: Option<impl Display>, by: char) -> fmt::Result {
    match value {
        Some(value) => {
            let name = value.to_string();
            name.chars().map(|letter| if letter == ' ' { by } else { letter }).for_each(|letter| out.push(letter));
            Ok(())
        }
        None => out.write_str("-"),
    }
}

fn field(out: &mut String, fields: &[Option<Excerpt>], choice: FieldChoice) -> fmt::Result {
    let kept = |index: usize| fields.get(index).and_then(Option::as_ref);
    let value = kept(choice.main).or_else(|| kept(choice.alternative?)).map(Excerpt::as_str);
    let cut = |value: &'_ str| value.floor_char_boundary(choice.length.unwrap_or(usize::MAX));
    text(out, value.map(|value| value.get(..cut(value)).unwrap_or_default()))
}

/// What others chose, escaped as in a JSON string: it can end neither the line nor a quoted field.
fn text(out: &mut String, value: Option<&str>) -> fmt::Result {
    let Some(value) = value else { return out.write_str("-") };
    for letter in value.chars() {
        match letter {
            '"' | '\\' => write!(out, "\\{letter}")?,
            letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}') => write!(out, "\\u{:04x}", u32::from(letter))?,
            letter => out.push(letter),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{Request, Response};

    use super::super::tests::{downstream, record};
    use super::*;

    fn line(template: &str, record: &AccessRecord) -> String {
        let mut out = String::new();
        write(&LogTemplate::parse(template).unwrap(), record, &mut out).unwrap();
        assert_eq!(out.pop(), Some('\n'));
        out
    }

    #[test]
    fn every_operator_has_its_datum() {
        let record = AccessRecord {
            duration: Duration::from_micros(12_999),
            response_duration: Some(Duration::from_micros(5_001)),
            bytes_received: 7,
            ..record("/a")
        };
        for (template, expected) in [
            ("%START_TIME%", "1970-01-01T00:00:01.500Z"),
            ("%START_TIME(%s.%3f)%", "1.500"),
            ("%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%", "HTTP/1.1 200 - via_upstream"),
            ("%BYTES_RECEIVED% %BYTES_SENT%", "7 12"),
            ("%DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "12 5 7"),
            ("%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", "10.0.0.1:8080 10.0.0.1:8080 1"),
            ("%UPSTREAM_PROTOCOL%", "HTTP/2"),
            ("%UPSTREAM_CLUSTER% %ROUTE_NAME%", "Upstream/gloo-system/httpbin HTTPRoute/gloo-system/httpbin"),
            ("%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION%", "httpbin.example TLSv1.3"),
            ("%TRACE_ID%", "0af7651916cd43dd8448eb211c80319c"),
            (
                "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%",
                "203.0.113.7:0 203.0.113.7 0",
            ),
            (
                "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_DIRECT_REMOTE_PORT%",
                "10.1.1.1:50412 10.1.1.1 50412",
            ),
            ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%", "10.1.1.2:8443 10.1.1.2 8443"),
            ("%CLINGFISH(GATEWAY)% %CLINGFISH(LISTENER)% %CLINGFISH(RULE)%", "gloo-system/http http 0"),
            ("%CLINGFISH(HASH)% %CLINGFISH(KEY_SOURCE)% 100%%", "00000000000000ab cookie 100%"),
        ] {
            assert_eq!(line(template, &record), expected, "{template}");
        }
        let peer = AccessRecord { client: Some("10.1.1.1".parse().unwrap()), ..record.clone() };
        assert_eq!(line("%DOWNSTREAM_REMOTE_ADDRESS%", &peer), "10.1.1.1:50412");
        let own = AccessRecord { reason: Some("no healthy upstream"), status: 503, ..record };
        assert_eq!(line("%RESPONSE_CODE_DETAILS%", &own), "no_healthy_upstream");
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let empty =
            AccessRecord { time: SystemTime::UNIX_EPOCH, ..AccessRecord::new(super::super::Downstream { tls: None, ..downstream() }) };
        let template = "%PROTOCOL% %REQ(a)% %REQ(a?:PATH)% %RESP(a)% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %ROUTE_NAME% %REQUESTED_SERVER_NAME% \
                        %DOWNSTREAM_TLS_VERSION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %RESPONSE_CODE_DETAILS% %CLINGFISH(HASH)%";
        assert_eq!(line(template, &empty), "- - - - - - - - - - - - -");
        assert_eq!(line("%DOWNSTREAM_REMOTE_ADDRESS% %RESPONSE_CODE%", &empty), "10.1.1.1:50412 0");
        let left = AccessRecord { flag: ResponseFlag::DownstreamConnectionTermination, ..empty };
        assert_eq!(line("%RESPONSE_CODE_DETAILS%", &left), "downstream_remote_disconnect");
    }

    fn taken(template: &str, received: &str, request: &request::Parts, response: &response::Parts) -> String {
        let parsed = LogTemplate::parse(template).unwrap();
        let mut record = record(received);
        take_request(&parsed, &mut record, request);
        take_response(&parsed, &mut record, response);
        line(template, &record)
    }

    #[test]
    fn headers_are_read_as_they_were_forwarded_and_answered() {
        let request = Request::get("/new?q=1")
            .header("host", "rewritten")
            .header("x-user", "a\"b\\c")
            .header("x-two", "1")
            .header("x-two", "2")
            .header("x-empty", "")
            .body(())
            .unwrap();
        let response = Response::builder().status(404).header("x-two", "a").header("x-two", "b").body(()).unwrap();
        let (request, response) = (request.into_parts().0.into(), response.into_parts().0.into());
        for (template, received, expected) in [
            ("%REQ(:METHOD)% %REQ(:PATH)% %REQ(:AUTHORITY)% %REQ(:SCHEME)%", "/old?q=1", "GET /new?q=1 rewritten https"),
            ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/old?q=1", "/old?q=1"),
            ("%REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/new?q=1", "- /new?q=1"),
            ("%REQ(X-User)% %REQUEST_HEADER(x-user):2%", "/", "a\\\"b\\\\c a\\\""),
            ("%REQ(x-two)% %RESP(x-two)% %RESP(:STATUS)%", "/", "1 a 404"),
            ("%REQ(x-none)% %REQ(x-none?x-two)% [%REQ(x-empty?x-two)%]", "/", "- 1 []"),
        ] {
            assert_eq!(taken(template, received, &request, &response), expected, "{template}");
        }
    }

    #[test]
    fn a_field_ends_neither_its_line_nor_its_quotes() {
        let request = Request::get("/").header("x-user", "é\" status=\t500 \u{85}\u{2028}\\").body(()).unwrap().into_parts().0.into();
        let response = Response::new(()).into_parts().0.into();
        let line = taken("{\"user\":\"%REQ(x-user)%\"}", "/", &request, &response);
        assert_eq!(line.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["user"], "é\" status=\t500 \u{85}\u{2028}\\");
        assert!(!line.contains(['\t', '\u{85}', '\u{2028}']), "{line:?}");
        let long = http::HeaderValue::from_bytes(&[b'x'; 50_000]).unwrap();
        let request = Request::get("/").header("x-user", long).body(()).unwrap().into_parts().0.into();
        assert_eq!(taken("%REQ(x-user)%", "/", &request, &response).len(), 1_024);
    }
}
