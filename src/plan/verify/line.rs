//! A line of an Envoy access log: of its default format, or a JSON object with the fields of `docs/verify.md`.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::plan::ExplainRequest;

/// A request that somebody else has sent to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedRequest {
    /// The request, as far as the log tells.
    pub request: ExplainRequest,
    /// The host that it was sent to last; `None`: to none.
    pub upstream: Option<String>,
    /// It was sent more than once.
    pub is_retried: bool,
}

/// What an object says. Unknown fields are for somebody else.
#[derive(Debug, Deserialize)]
struct Fields {
    method: Option<String>,
    #[serde(alias = "host", alias = ":authority")]
    authority: Option<String>,
    #[serde(alias = ":path")]
    path: Option<String>,
    scheme: Option<String>,
    #[serde(alias = "downstream_direct_remote_address", alias = "downstream_remote_address")]
    source: Option<String>,
    #[serde(alias = "downstream_local_address")]
    local: Option<String>,
    upstream_host: Option<String>,
    #[serde(alias = "upstream_request_attempt_count")]
    attempts: Option<Value>,
    #[serde(alias = "flags")]
    response_flags: Option<String>,
    #[serde(default)]
    headers: Map<String, Value>,
}

/// Reads a line. `port`: the port of the listener, where the log does not tell it or tells another one.
///
/// # Errors
/// What was expected.
pub fn read_line(line: &str, port: Option<u16>) -> Result<LoggedRequest, String> {
    let line = line.trim();
    if line.starts_with('{') {
        let fields =
            serde_json::from_str(line).map_err(|error| format!("expected a JSON object with the fields of docs/verify.md: {error}"))?;
        return logged(fields, port);
    }
    logged(of_default_format(line)?, port)
}

/// `-` is what Envoy writes for a value that it does not have.
fn known(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty() && value != "-")
}

fn logged(fields: Fields, port: Option<u16>) -> Result<LoggedRequest, String> {
    let path = known(fields.path).ok_or("there is no path: expected :PATH, or X-ENVOY-ORIGINAL-PATH?:PATH")?;
    let authority = known(fields.authority).ok_or("there is no authority: expected :AUTHORITY")?;
    let local = known(fields.local);
    let scheme = known(fields.scheme).filter(|scheme| scheme == "https").unwrap_or_else(|| "http".to_owned());
    let of_local = || local.as_deref()?.rsplit_once(':')?.1.parse().ok();
    let port: Option<u16> = port.or_else(of_local);
    let (name, of_authority) = split_authority(&authority);
    let port = port.or(of_authority).map(|port| format!(":{port}")).unwrap_or_default();
    let mut headers = vec![("host".to_owned(), authority.clone())];
    let mut source = known(fields.source);
    for (name, value) in fields.headers {
        let Value::String(value) = value else { continue };
        let Some(value) = known(Some(value)) else { continue };
        if name.eq_ignore_ascii_case("x-forwarded-for") {
            let (before, last) = forwarded(&value, source.as_deref());
            source = source.or(last);
            headers.extend(before.map(|before| (name, before)));
        } else {
            headers.push((name, value));
        }
    }
    let attempts = match &fields.attempts {
        Some(Value::Number(count)) => count.as_u64(),
        Some(Value::String(count)) => count.parse().ok(),
        Some(_) | None => None,
    };
    let flags = fields.response_flags.unwrap_or_default();
    let is_retried = attempts.is_some_and(|attempts| attempts > 1) || flags.split(',').any(|flag| flag == "URX");
    let request = ExplainRequest {
        method: known(fields.method),
        url: format!("{scheme}://{name}{port}{path}"),
        headers,
        source,
        gateway: None,
        local,
    };
    Ok(LoggedRequest { request, upstream: known(fields.upstream_host), is_retried })
}

fn split_authority(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => port.parse().map_or((authority, None), |port| (name, Some(port))),
        Some(_) | None => (authority, None),
    }
}

/// What the client has sent of `x-forwarded-for`, and the address that Envoy has added: it logs the header with it.
fn forwarded(value: &str, source: Option<&str>) -> (Option<String>, Option<String>) {
    let (before, last) = value.rsplit_once(',').map_or(("", value), |(before, last)| (before, last));
    let last = last.trim();
    let ip_of =
        |address: &str| address.parse::<std::net::SocketAddr>().map_or_else(|_| address.to_owned(), |address| address.ip().to_string());
    match source.map(ip_of) {
        Some(source) if source != last => (Some(value.to_owned()), None),
        Some(_) | None => (Some(before.trim().to_owned()).filter(|before| !before.is_empty()), Some(last.to_owned())),
    }
}

/// `[time] "METHOD PATH PROTOCOL" code flags received sent duration service-time "forwarded-for" "user-agent" "request-id" "authority" "upstream"`.
fn of_default_format(line: &str) -> Result<Fields, String> {
    const EXPECTED: &str = "expected a line of Envoy's default format, or a JSON object";
    let (_, rest) = line.split_once("] \"").ok_or(EXPECTED)?;
    let (head, rest) = rest.split_once("\" ").ok_or(EXPECTED)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().ok_or(EXPECTED)?, words.next().ok_or(EXPECTED)?);
    let (plain, quoted) = rest.split_once(" \"").ok_or(EXPECTED)?;
    let flags = plain.split(' ').nth(1).ok_or(EXPECTED)?;
    let quoted: Vec<&str> = quoted.trim_end_matches('"').split("\" \"").collect();
    // The User-Agent is the client's: it may have quotes, so the others are counted from both ends.
    let [forwarded, .., _, authority, upstream] = quoted.as_slice() else { return Err(EXPECTED.to_owned()) };
    let headers = Map::from_iter([("x-forwarded-for".to_owned(), Value::from(*forwarded))]);
    Ok(Fields {
        method: Some(method.to_owned()),
        authority: Some((*authority).to_owned()),
        path: Some(path.to_owned()),
        scheme: None,
        source: None,
        local: None,
        upstream_host: Some((*upstream).to_owned()),
        attempts: None,
        response_flags: Some(flags.to_owned()),
        headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'r>(logged: &'r LoggedRequest, name: &str) -> Option<&'r str> {
        logged.request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_line_of_the_default_format_is_read() {
        let line = r#"[2026-12-01T12:00:00.000Z] "GET /cart?x=1 HTTP/1.1" 200 - 0 12 3 2 "10.1.2.3,10.0.0.9" "curl "quoted"" "id-1" "shop.example:8080" "10.0.0.2:80""#;
        let logged = read_line(line, None).unwrap();
        assert_eq!(logged.request.url, "http://shop.example:8080/cart?x=1");
        assert_eq!((logged.request.method.as_deref(), logged.request.source.as_deref()), (Some("GET"), Some("10.0.0.9")));
        assert_eq!((header(&logged, "host"), header(&logged, "x-forwarded-for")), (Some("shop.example:8080"), Some("10.1.2.3")));
        assert_eq!((logged.upstream.as_deref(), logged.is_retried), (Some("10.0.0.2:80"), false));
        assert_eq!(read_line(line, Some(80)).unwrap().request.url, "http://shop.example:80/cart?x=1");
        let refused = line.replace("200 -", "503 URX").replace("10.0.0.2:80", "-");
        let logged = read_line(&refused, None).unwrap();
        assert_eq!((logged.upstream, logged.is_retried), (None, true));
    }

    #[test]
    fn an_object_tells_headers_and_both_ends() {
        let line = r#"{"method": "GET", "authority": "shop.example", "path": "/", "source": "10.0.0.9:4711", "local": "10.0.0.1:8080", "attempts": "2",
            "headers": {"cookie": "sid=abc", "x-user": "-", "x-forwarded-for": "10.1.2.3, 10.0.0.9"}, "upstream_host": "10.0.0.2:80", "more": [1]}"#;
        let logged = read_line(line, None).unwrap();
        assert_eq!(logged.request.url, "http://shop.example:8080/");
        assert_eq!((logged.request.source.as_deref(), logged.request.local.as_deref()), (Some("10.0.0.9:4711"), Some("10.0.0.1:8080")));
        assert_eq!((header(&logged, "cookie"), header(&logged, "x-user")), (Some("sid=abc"), None));
        assert_eq!(header(&logged, "x-forwarded-for"), Some("10.1.2.3"));
        assert!(logged.is_retried);
    }

    #[test]
    fn what_is_no_line_is_said_to_be_none() {
        for line in
            ["x", "{", "{}", r#"{"path": "/"}"#, "[t] \"GET\" 200", r#"[t] "GET / HTTP/1.1" 200 - 0 0 0 0 "-" "-""#, "{\"path\": 5}"]
        {
            assert!(read_line(line, None).is_err(), "{line}");
        }
    }
}
