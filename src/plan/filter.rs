//! What filters do to a request before it is sent: headers, host, path.

use http::{HeaderName, HeaderValue, header::HOST};

use crate::base::head::{HeaderMap, request};
use crate::snapshot::{Filters, HeaderOps, PathNormalization, PathRewrite, UrlRewrite};

use super::normalise::{normalise_path, replace_path};

static X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");

/// Applies the filters to a request: headers, then host and path. `matched_len` is the length of the part of the path that the route
/// matched; it follows the rewrites.
pub(super) fn apply_to_request(parts: &mut request::Parts, filters: &Filters, matched_len: &mut usize) -> Result<(), &'static str> {
    for ops in &filters.request_headers {
        apply_to_headers(&mut parts.headers, ops);
    }
    match &filters.rewrite {
        Some(rewrite) => apply_rewrite(parts, rewrite, matched_len),
        None => Ok(()),
    }
}

/// Removes, sets and adds headers, in this order.
pub(super) fn apply_to_headers(headers: &mut HeaderMap, ops: &HeaderOps) {
    for name in &ops.remove {
        headers.remove(name);
    }
    for (name, value) in &ops.set {
        headers.insert(name, value);
    }
    for (name, value) in &ops.add {
        append(headers, name, value);
    }
}

/// There is only ever one Host.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    if name == HOST {
        headers.insert(name, value.clone());
    } else {
        headers.append(name, value.clone());
    }
}

fn apply_rewrite(parts: &mut request::Parts, rewrite: &UrlRewrite, matched_len: &mut usize) -> Result<(), &'static str> {
    if let Some(hostname) = &rewrite.hostname {
        parts.headers.insert(HOST, hostname.clone());
    }
    if let Some(path_rewrite) = &rewrite.path {
        let (path, matched) = rewritten_path(parts.uri.path(), path_rewrite, *matched_len)?;
        announce_original_path(parts);
        replace_path(&mut parts.uri, &path).map_err(|_invalid| "the rewritten path is no valid path")?;
        *matched_len = matched;
    }
    Ok(())
}

/// Tells the backend the path before the rewrite, with the query: in the place of what the client says, and also where the rewrite changes
/// nothing (Envoy, `RouteEntryImplBase::finalizePathHeader`).
fn announce_original_path(parts: &mut request::Parts) {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    match HeaderValue::from_bytes(path.as_bytes()) {
        Ok(path) => parts.headers.insert(&X_ENVOY_ORIGINAL_PATH, path),
        Err(_) => {
            parts.headers.remove(&X_ENVOY_ORIGINAL_PATH);
        }
    }
}

/// The new path, and the length of what stands for the matched part in it.
pub(super) fn rewritten_path(path: &str, rewrite: &PathRewrite, matched_len: usize) -> Result<(String, usize), &'static str> {
    match rewrite {
        PathRewrite::Full(full) => {
            let path = with_slash(full.to_string());
            let len = path.len();
            Ok((path, len))
        }
        PathRewrite::Prefix(replacement) => Ok(replace_prefix(path, replacement, matched_len)),
        PathRewrite::Regex { pattern, substitution } => {
            // A substitution can join dots that were apart: `/a(.*)` to `$1` makes `/..` of `/a..`.
            let path = with_slash(pattern.regex().replace_all(path, substitution.as_ref()).into_owned());
            let path = match normalise_path(&path, PathNormalization::default())? {
                Some(normalised) => normalised.path,
                None => path,
            };
            let len = path.len();
            Ok((path, len))
        }
    }
}

/// Gateway API's ReplacePrefixMatch: the slash between replacement and rest is neither doubled nor dropped, and no path is empty.
fn replace_prefix(path: &str, replacement: &str, matched_len: usize) -> (String, usize) {
    let rest = path.get(matched_len..).unwrap_or_default();
    let kept = if rest.is_empty() { replacement } else { replacement.strip_suffix('/').unwrap_or(replacement) };
    let path = with_slash(format!("{kept}{rest}"));
    let matched = path.len() - rest.len().min(path.len());
    (path, matched)
}

fn with_slash(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::snapshot::{Extent, Pattern};

    fn parts(target: &str, headers: &[(&str, &str)]) -> request::Parts {
        let request = headers.iter().fold(http::Request::builder().uri(target), |b, (n, v)| b.header(*n, *v));
        request.body(()).unwrap().into_parts().0.into()
    }

    #[test]
    fn prefixes_are_replaced_as_the_gateway_api_says() {
        for (path, matched, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo", "/foo", "/xyz/", "/xyz/"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "", "/xyz", "/xyz/bar"),
            ("/", "", "/xyz", "/xyz/"),
        ] {
            let (rewritten, len) = rewritten_path(path, &PathRewrite::Prefix(replacement.into()), matched.len()).unwrap();
            assert_eq!(rewritten, expected, "{path} {matched} {replacement}");
            assert!(len <= rewritten.len());
        }
    }

    #[test]
    fn patterns_are_replaced_everywhere_and_make_no_dot_segments() {
        for (pattern, substitution, path, expected) in [
            ("o", "0", "/foo/o", "/f00/0"),
            ("^/a/([^/]+)", "/${1}/x", "/a/b/c", "/b/x/c"),
            ("^/a(.*)$", "$1", "/a..", "/"),
            ("^/a", "b", "/a/c", "/b/c"),
        ] {
            let rewrite = PathRewrite::Regex {
                pattern: Arc::new(Pattern::compile(pattern, Extent::Anywhere).unwrap()),
                substitution: substitution.into(),
            };
            assert_eq!(rewritten_path(path, &rewrite, 0).unwrap().0, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn the_path_before_the_rewrite_is_told_whatever_the_client_says() {
        let full = |path: &str| Some(PathRewrite::Full(path.into()));
        for (target, path, expected) in [
            ("/a?q", full("/x"), Some("/a?q")),
            ("/a", full("/a"), Some("/a")),
            ("/%c3%a4?\u{e4}", full("/x"), Some("/%c3%a4?\u{e4}")),
            ("/a", None, Some("mine")),
        ] {
            let mut parts = parts(target, &[("x-envoy-original-path", "mine"), ("x-envoy-original-path", "too")]);
            let filters = Filters { rewrite: Some(UrlRewrite { hostname: None, path: path.clone() }), ..Filters::default() };
            apply_to_request(&mut parts, &filters, &mut 1).unwrap();
            let value = parts.headers.get(&X_ENVOY_ORIGINAL_PATH).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            assert_eq!(value.as_deref(), expected, "{target}");
            assert_eq!(parts.headers.get_all(&X_ENVOY_ORIGINAL_PATH).count(), if path.is_some() { 1 } else { 2 });
        }
    }

    #[test]
    fn a_rewrite_keeps_the_query_and_replaces_the_host() {
        let mut parts = parts("/foo/bar?a=1", &[("host", "a")]);
        let rewrite = UrlRewrite { hostname: Some(HeaderValue::from_static("b")), path: Some(PathRewrite::Full("/x".into())) };
        let filters = Filters { rewrite: Some(rewrite), ..Filters::default() };
        apply_to_request(&mut parts, &filters, &mut 4).unwrap();
        assert_eq!(parts.headers.get(&X_ENVOY_ORIGINAL_PATH).unwrap(), "/foo/bar?a=1");
        assert_eq!((parts.uri.to_string().as_str(), parts.headers.get(HOST).unwrap().as_bytes()), ("/x?a=1", b"b".as_slice()));
    }

    #[test]
    fn headers_are_removed_then_set_then_added() {
        let name = HeaderName::from_static;
        let value = HeaderValue::from_static;
        let ops = HeaderOps {
            set: [(name("x-set"), value("new"))].into(),
            add: [(name("x-set"), value("more")), (name("x-add"), value("2")), (name("host"), value("b"))].into(),
            remove: [name("x-gone"), name("x-add")].into(),
        };
        let mut parts = parts("/", &[("x-set", "1"), ("x-set", "2"), ("x-gone", "1"), ("x-add", "1"), ("host", "a")]);
        apply_to_headers(&mut parts.headers, &ops);
        let all = |name: &str| parts.headers.get_all(name).map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!((all("x-set"), all("x-gone"), all("x-add"), all("host")), (vec!["new", "more"], vec![], vec!["2"], vec!["b"]));
    }
}
