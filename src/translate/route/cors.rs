//! The filter CORS of a rule.

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersCors as CorsFilter;
use http::{HeaderName, HeaderValue, Method};

use crate::base::text::quoted;
use crate::snapshot::{Cors, CorsList, OriginPattern};

/// Seconds that browsers keep what they were told, where the filter does not say (Gateway API).
const DEFAULT_MAX_AGE: i32 = 5;

/// Reads the filter.
///
/// # Errors
/// Field and expectation of what is wrong.
pub(super) fn compile(written: &CorsFilter) -> Result<Cors, String> {
    let origin = |origin: &String| {
        let expected = || format!(".allowOrigins: {}; expected *, or SCHEME://HOST with or without a port", quoted(origin));
        OriginPattern::parse(origin).ok_or_else(expected)
    };
    let max_age = written.max_age.unwrap_or(DEFAULT_MAX_AGE);
    if max_age < 0 {
        return Err(format!(".maxAge: {max_age}; expected seconds, 0 or more"));
    }
    Ok(Cors {
        origins: written.allow_origins.iter().flatten().map(origin).collect::<Result<_, _>>()?,
        methods: list(".allowMethods", "a method", written.allow_methods.as_deref(), |name| Method::from_bytes(name.as_bytes()).is_ok())?,
        headers: list(".allowHeaders", "a header name", written.allow_headers.as_deref(), is_header_name)?,
        exposed: list(".exposeHeaders", "a header name", written.expose_headers.as_deref(), is_header_name)?,
        credentials: written.allow_credentials.unwrap_or(false),
        max_age: max_age.into(),
    })
}

fn is_header_name(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

/// Names as one value of a header. A `*` among them stands for all.
fn list(field: &str, what: &str, names: Option<&[String]>, is_valid: impl Fn(&str) -> bool) -> Result<CorsList, String> {
    let names = names.unwrap_or_default();
    if names.iter().any(|name| name == "*") {
        return Ok(CorsList::Any);
    }
    if let Some(wrong) = names.iter().find(|name| !is_valid(name)) {
        return Err(format!("{field}: {}; expected {what}, or *", quoted(wrong)));
    }
    if names.is_empty() {
        return Ok(CorsList::Unset);
    }
    let value = HeaderValue::try_from(names.join(", ")).map_err(|_invalid| format!("{field}: expected names of visible characters"))?;
    Ok(CorsList::Named(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(change: impl FnOnce(&mut CorsFilter)) -> CorsFilter {
        let mut filter = CorsFilter::default();
        change(&mut filter);
        filter
    }

    #[test]
    fn what_is_written_is_said_in_one_value_and_a_star_stands_for_all() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let read = compile(&filter(|filter| {
            filter.allow_methods = names(&["GET", "PUT"]);
            filter.allow_headers = names(&["x-a", "*"]);
            filter.allow_origins = names(&["https://a.example"]);
        }));
        let read = read.unwrap();
        assert_eq!(read.methods, CorsList::Named(HeaderValue::from_static("GET, PUT")));
        assert_eq!((&read.headers, &read.exposed, read.credentials), (&CorsList::Any, &CorsList::Unset, false));
        assert_eq!((read.max_age.to_str().unwrap(), read.allows("https://a.example")), ("5", true));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        let one = |name: &str| Some(vec![name.to_owned()]);
        for (wrong, expected) in [
            (filter(|filter| filter.allow_origins = one("a.example")), ".allowOrigins: \"a.example\"; expected *, or"),
            (filter(|filter| filter.allow_methods = one("G T")), ".allowMethods: \"G T\"; expected a method"),
            (filter(|filter| filter.allow_headers = one("x a")), ".allowHeaders: \"x a\"; expected a header name"),
            (filter(|filter| filter.expose_headers = one("")), ".exposeHeaders: \"\"; expected a header name"),
            (filter(|filter| filter.max_age = Some(-1)), ".maxAge: -1; expected seconds"),
        ] {
            let message = compile(&wrong).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
