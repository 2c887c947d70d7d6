//! What browsers are told about requests of other origins (Fetch standard, section 3.2; Gateway API, `HTTPCORSFilter`).

use http::{
    HeaderName, HeaderValue, Method,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};

use crate::base::head::{HeaderMap, Value, request};
use crate::snapshot::{Cors, CorsList};

const ANY: HeaderValue = HeaderValue::from_static("*");

/// Headers of the answer to a request of a rule with a CORS filter.
#[derive(Debug, Default)]
pub struct CorsHeaders {
    set: Vec<(HeaderName, HeaderValue)>,
    /// The answer to another origin would be another one: caches must keep them apart.
    depends_on_origin: bool,
}

/// Judges a request. If it only asks for leave, also whether it has it.
pub(super) fn judge(cors: &Cors, parts: &request::Parts) -> (CorsHeaders, Option<bool>) {
    let mut headers = CorsHeaders { set: Vec::new(), depends_on_origin: !cors.is_public() };
    let of_request = |name| parts.headers.get(name).filter(|value: &Value<'_>| !value.is_empty());
    let Some(origin) = of_request(ORIGIN) else { return (headers, None) };
    let is_allowed = origin.to_str().is_ok_and(|origin| cors.allows(origin));
    let method = of_request(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| parts.method == Method::OPTIONS);
    if is_allowed {
        headers.set(ACCESS_CONTROL_ALLOW_ORIGIN, if cors.is_public() { Some(ANY) } else { origin.to_header_value() });
        headers.set(ACCESS_CONTROL_ALLOW_CREDENTIALS, cors.credentials.then(|| HeaderValue::from_static("true")));
        // With credentials `*` would be the name of a header.
        headers.set(ACCESS_CONTROL_EXPOSE_HEADERS, said(&cors.exposed, None, cors.credentials));
        if method.is_some() {
            let asked = of_request(ACCESS_CONTROL_REQUEST_HEADERS);
            headers.set(ACCESS_CONTROL_ALLOW_METHODS, said(&cors.methods, method, cors.credentials));
            headers.set(ACCESS_CONTROL_ALLOW_HEADERS, said(&cors.headers, asked, cors.credentials));
            headers.set(ACCESS_CONTROL_MAX_AGE, Some(cors.max_age.clone()));
        }
    }
    (headers, method.map(|_| is_allowed))
}

/// The names of a list. All names are what is asked for, as `*` does not stand for `authorization`, nor for anything with credentials.
fn said(list: &CorsList, asked: Option<Value<'_>>, credentials: bool) -> Option<HeaderValue> {
    match list {
        CorsList::Unset => None,
        CorsList::Named(names) => Some(names.clone()),
        CorsList::Any => asked.and_then(Value::to_header_value).or_else(|| (!credentials).then_some(ANY)),
    }
}

// === impl CorsHeaders ===

impl CorsHeaders {
    fn set(&mut self, name: HeaderName, value: Option<HeaderValue>) {
        self.set.extend(value.map(|value| (name, value)));
    }

    /// Puts them into the head of an answer.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        if self.depends_on_origin && !varies_by_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let names = headers.get_all(VARY).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::OriginPattern;

    fn cors(origins: &[&str], credentials: bool, list: &CorsList) -> Cors {
        let origins = origins.iter().map(|origin| OriginPattern::parse(origin).unwrap()).collect();
        let (methods, headers, exposed) = (list.clone(), list.clone(), list.clone());
        Cors { origins, methods, headers, exposed, credentials, max_age: 5.into() }
    }

    fn named() -> CorsList {
        CorsList::Named(HeaderValue::from_static("X, Y"))
    }

    /// Whether leave is given, if only that is asked for, and the headers of the answer, `name=value` without `access-control-`.
    fn judged(cors: &Cors, method: &str, headers: &[(&str, &str)]) -> (Option<bool>, String) {
        let request = headers.iter().fold(http::Request::builder().method(method), |request, (name, value)| request.header(*name, *value));
        let (judged, leave) = judge(cors, &request.body(()).unwrap().into_parts().0.into());
        let mut answer = HeaderMap::new();
        judged.apply(&mut answer);
        let shown = answer.iter().map(|(name, value)| {
            format!("{}={}", std::str::from_utf8(name).unwrap().trim_start_matches("access-control-"), value.to_str().unwrap())
        });
        (leave, shown.collect::<Vec<_>>().join(" "))
    }

    const ASKS: [(&str, &str); 3] =
        [("origin", "https://a"), ("access-control-request-method", "PUT"), ("access-control-request-headers", "x-1, x-2")];

    #[test]
    fn a_preflight_is_answered_and_an_actual_request_goes_on() {
        let public = cors(&["*"], false, &CorsList::Any);
        let private = cors(&["*"], true, &CorsList::Any);
        let listed = cors(&["https://a"], true, &named());
        let silent = cors(&["https://a"], false, &CorsList::Unset);
        for (cors, method, headers, expected) in [
            (
                &public,
                "OPTIONS",
                &ASKS[..],
                (Some(true), "allow-origin=* expose-headers=* allow-methods=PUT allow-headers=x-1, x-2 max-age=5"),
            ),
            (&public, "OPTIONS", &ASKS[..2], (Some(true), "allow-origin=* expose-headers=* allow-methods=PUT allow-headers=* max-age=5")),
            (
                &private,
                "OPTIONS",
                &ASKS[..],
                (
                    Some(true),
                    "allow-origin=https://a allow-credentials=true allow-methods=PUT allow-headers=x-1, x-2 max-age=5 vary=origin",
                ),
            ),
            (
                &private,
                "OPTIONS",
                &ASKS[..2],
                (Some(true), "allow-origin=https://a allow-credentials=true allow-methods=PUT max-age=5 vary=origin"),
            ),
            (
                &listed,
                "OPTIONS",
                &ASKS[..],
                (
                    Some(true),
                    "allow-origin=https://a allow-credentials=true expose-headers=X, Y allow-methods=X, Y allow-headers=X, Y max-age=5 vary=origin",
                ),
            ),
            (&silent, "OPTIONS", &ASKS[..], (Some(true), "allow-origin=https://a max-age=5 vary=origin")),
            (&listed, "GET", &ASKS[..], (None, "allow-origin=https://a allow-credentials=true expose-headers=X, Y vary=origin")),
            (&public, "PUT", &ASKS[..1], (None, "allow-origin=* expose-headers=*")),
            (&listed, "OPTIONS", &ASKS[..1], (None, "allow-origin=https://a allow-credentials=true expose-headers=X, Y vary=origin")),
            (&listed, "OPTIONS", &[("origin", "https://b"), ASKS[1]][..], (Some(false), "vary=origin")),
            (&listed, "GET", &[("origin", "https://b")][..], (None, "vary=origin")),
            (&listed, "GET", &[][..], (None, "vary=origin")),
            (&listed, "OPTIONS", &ASKS[1..], (None, "vary=origin")),
            (&public, "GET", &[][..], (None, "")),
        ] {
            assert_eq!(judged(cors, method, headers), (expected.0, expected.1.to_owned()), "{method} {headers:?}");
        }
    }

    #[test]
    fn what_the_backend_says_of_the_origin_is_replaced_and_its_vary_is_kept() {
        for (vary, expected) in [(None, 1), (Some("accept"), 2), (Some("accept, Origin"), 1), (Some("*"), 1)] {
            let mut answer = HeaderMap::new();
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://other"));
            if let Some(vary) = vary {
                answer.append(VARY, HeaderValue::from_static(vary));
            }
            let headers = CorsHeaders { set: vec![(ACCESS_CONTROL_ALLOW_ORIGIN, ANY)], depends_on_origin: true };
            headers.apply(&mut answer);
            assert_eq!(answer.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).collect::<Vec<_>>(), ["*"]);
            assert_eq!(answer.get_all(VARY).count(), expected, "{vary:?}");
        }
    }
}
