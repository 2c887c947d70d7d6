//! Refuses requests that a page of another site makes a browser send. The admin server's own pages, curl and the command line may ask.

use http::{HeaderMap, header, uri::Authority};

/// Whether a POST may come from another site's page, going by what browsers say and what pages cannot avoid: `Sec-Fetch-Site`, `Origin`, and
/// the content types that a form can send without being asked (Fetch standard, "CORS-safelisted request-header").
pub(super) fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign_site = text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site));
    let foreign_origin = text("origin").is_some_and(|origin| !is_own(origin, text("host")));
    foreign_site || foreign_origin || text("content-type").is_some_and(is_of_a_form)
}

/// Whether an origin is this server, as the client named it.
fn is_own(origin: &str, host: Option<&str>) -> bool {
    let authority = |text: &str| text.parse::<Authority>().ok();
    let origin = origin.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme)).and_then(|(_, rest)| authority(rest));
    // Authorities compare without regard to case.
    origin.is_some_and(|origin| host.and_then(authority) == Some(origin))
}

/// `application/x-www-form-urlencoded` is not among them: curl says so of everything, browsers send an origin with it, and no form encoded
/// so is JSON.
fn is_of_a_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["multipart/form-data", "text/plain"].iter().any(|of_a_form| essence.eq_ignore_ascii_case(of_a_form))
}

/// What is said of a refusal.
pub(super) fn refusal() -> String {
    let content_type = header::CONTENT_TYPE;
    format!(
        "requests from pages of other sites are refused; expected no Origin or this server's own, and {content_type}: application/json\n"
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn who_may_ask() {
        let host = ("host", "localhost:9901");
        for (expected, sent) in [
            // curl -d, the command line, the page.
            (false, &[host, ("content-type", "application/x-www-form-urlencoded")][..]),
            (false, &[host, ("content-type", "application/json")]),
            (false, &[host]),
            (false, &[host, ("origin", "http://localhost:9901"), ("sec-fetch-site", "same-origin"), ("content-type", "application/json")]),
            (false, &[host, ("origin", "http://LOCALHOST:9901")]),
            (false, &[("host", "gateway.example"), ("origin", "https://gateway.example")]),
            (false, &[host, ("sec-fetch-site", "none")]),
            // Pages elsewhere.
            (true, &[host, ("origin", "http://evil.example")]),
            (true, &[host, ("origin", "http://localhost:3000")]),
            (true, &[host, ("origin", "null")]),
            (true, &[host, ("origin", "ftp://localhost:9901")]),
            (true, &[host, ("origin", "\u{e4}")]),
            (true, &[("origin", "http://localhost:9901")]),
            (true, &[host, ("sec-fetch-site", "cross-site")]),
            (true, &[host, ("sec-fetch-site", "same-site")]),
            (true, &[host, ("origin", "http://localhost:9901"), ("sec-fetch-site", "cross-site")]),
            // Forms of old browsers.
            (true, &[host, ("content-type", "text/plain")]),
            (true, &[host, ("content-type", "Text/Plain;charset=UTF-8")]),
            (true, &[host, ("content-type", "multipart/form-data; boundary=b")]),
        ] {
            let pairs = sent.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            assert_eq!(is_cross_site(&pairs.collect()), expected, "{sent:?}");
        }
    }
}
