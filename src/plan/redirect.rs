//! The Location of a redirect, by the Gateway API's HTTPRequestRedirectFilter.

use http::{HeaderValue, StatusCode, header::HOST};

use crate::base::head::request;
use crate::snapshot::Redirect;

use super::{
    connection::Connection,
    decision::{Reply, ReplyReason},
    filter::rewritten_path,
    normalise::without_port,
};

/// The answer that redirects. `matched_len` is the part of the path that the route matched.
pub(super) fn reply(redirect: &Redirect, parts: &request::Parts, connection: &Connection<'_>, matched_len: usize) -> Reply {
    match location(redirect, parts, connection, matched_len) {
        Ok(location) => Reply { status: redirect.status, location: Some(location), reason: ReplyReason::Redirect },
        Err(why) => Reply { status: StatusCode::INTERNAL_SERVER_ERROR, location: None, reason: ReplyReason::Rule(why.into()) },
    }
}

fn location(
    redirect: &Redirect,
    parts: &request::Parts,
    connection: &Connection<'_>,
    matched_len: usize,
) -> Result<HeaderValue, &'static str> {
    let scheme = redirect.scheme.as_deref().unwrap_or_else(|| connection.scheme());
    let requested = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).map(without_port).unwrap_or_default();
    let host = redirect.hostname.as_deref().unwrap_or(requested);
    let mut location = format!("{scheme}://{host}");
    let well_known = well_known_port(scheme);
    let port = redirect.port.or_else(|| redirect.scheme.as_deref().and(well_known)).unwrap_or(connection.bind.port);
    if Some(port) != well_known {
        location.push(':');
        location.push_str(itoa::Buffer::new().format(port));
    }
    match &redirect.path {
        Some(rewrite) => location.push_str(&rewritten_path(parts.uri.path(), rewrite, matched_len)?.0),
        None => location.push_str(parts.uri.path()),
    }
    if let Some(query) = parts.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    HeaderValue::try_from(location).map_err(|_invalid| "the redirect's Location is no valid header value")
}

fn well_known_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Tls, fixture};
    use crate::snapshot::PathRewrite;

    fn location_of(redirect: &Redirect, target: &str, host: &str, port: u16, matched: &str) -> String {
        location_on(None, redirect, target, host, port, matched)
    }

    fn location_on(tls: Option<Tls<'_>>, redirect: &Redirect, target: &str, host: &str, port: u16, matched: &str) -> String {
        let bind = fixture::bind(port, "http", vec![]);
        let connection = Connection { bind: &bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls };
        let parts = request::Parts::from(http::Request::builder().uri(target).header(HOST, host).body(()).unwrap().into_parts().0);
        let reply = reply(redirect, &parts, &connection, matched.len());
        assert_eq!((reply.status, reply.reason), (redirect.status, ReplyReason::Redirect));
        reply.location.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn scheme_and_port_follow_the_gateway_api() {
        for (scheme, port, listener, expected) in [
            (None, None, 80, "http://a/p?q=1"),
            (None, None, 8080, "http://a:8080/p?q=1"),
            (None, Some(80), 8080, "http://a/p?q=1"),
            (None, Some(8081), 80, "http://a:8081/p?q=1"),
            (Some("https"), None, 80, "https://a/p?q=1"),
            (Some("https"), None, 8080, "https://a/p?q=1"),
            (Some("https"), Some(443), 80, "https://a/p?q=1"),
            (Some("https"), Some(80), 80, "https://a:80/p?q=1"),
            (Some("http"), None, 8080, "http://a/p?q=1"),
            (Some("http"), Some(8080), 80, "http://a:8080/p?q=1"),
            (Some("http"), Some(443), 80, "http://a:443/p?q=1"),
        ] {
            let redirect = Redirect { scheme: scheme.map(Into::into), hostname: None, port, path: None, status: StatusCode::FOUND };
            assert_eq!(location_of(&redirect, "/p?q=1", "a:1234", listener, "/"), expected, "{scheme:?} {port:?} {listener}");
        }
    }

    #[test]
    fn over_tls_the_scheme_stays_https() {
        for (scheme, port, listener, expected) in [
            (None, None, 443, "https://a/p"),
            (None, None, 8443, "https://a:8443/p"),
            (None, Some(443), 8443, "https://a/p"),
            (None, Some(80), 443, "https://a:80/p"),
            (Some("http"), None, 443, "http://a/p"),
            (Some("http"), None, 8443, "http://a/p"),
        ] {
            let redirect = Redirect { scheme: scheme.map(Into::into), hostname: None, port, path: None, status: StatusCode::FOUND };
            let tls = Some(Tls { server_name: None });
            assert_eq!(location_on(tls, &redirect, "/p", "a", listener, "/"), expected, "{scheme:?} {port:?} {listener}");
        }
    }

    #[test]
    fn host_and_path_are_replaced() {
        let plain = Redirect { scheme: None, hostname: Some("b".into()), port: None, path: None, status: StatusCode::MOVED_PERMANENTLY };
        assert_eq!(location_of(&plain, "/p", "a", 80, "/"), "http://b/p");
        assert_eq!(location_of(&Redirect { hostname: None, ..plain.clone() }, "/p", "[::1]:80", 80, "/"), "http://[::1]/p");
        let full = Redirect { path: Some(PathRewrite::Full("/full".into())), ..plain.clone() };
        assert_eq!(location_of(&full, "/p/x?q", "a", 80, "/p"), "http://b/full?q");
        let prefix = Redirect { path: Some(PathRewrite::Prefix("/new".into())), ..plain };
        assert_eq!(location_of(&prefix, "/p/x?q", "a", 80, "/p"), "http://b/new/x?q");
    }
}
