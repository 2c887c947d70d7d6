//! Matches of a GRPCRoute. A call is a POST of the path `/service/method` (gRPC over HTTP2, "Requests"), so that each becomes a match of a
//! path.

use crate::api::{GrpcMatch, GrpcMethodMatch, GrpcMethodMatchType};
use crate::base::text::quoted;
use crate::snapshot::{Extent, Matcher, PathMatch, Pattern};
use crate::translate::patterns::{Allowance, PatternError};

use super::conditions::{CompiledMatch, compile_headers, not_usable};

/// A regular expression for any service or method.
const ANY: &str = "[^/]+";

/// Compiles a match. As for HTTPRoutes, a condition that is wrong is left out and named.
pub(super) fn compile_match(index: u16, conditions: &GrpcMatch, allowance: &Allowance<'_>) -> CompiledMatch {
    let mut problems = Vec::new();
    let path = conditions.method.as_ref().map_or_else(|| Ok(PathMatch::prefix("/")), |method| compile_method(method, allowance));
    let path = path.unwrap_or_else(|message| {
        problems.push(format!("matches[{index}].method{message}"));
        PathMatch::prefix("/")
    });
    let headers = compile_headers(conditions.headers.as_deref().unwrap_or_default(), index, allowance, &mut problems);
    CompiledMatch { index, path, matcher: Matcher { headers: headers.into(), ..Matcher::default() }, problems }
}

fn compile_method(condition: &GrpcMethodMatch, allowance: &Allowance<'_>) -> Result<PathMatch, String> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let (service, method) = (named(&condition.service), named(&condition.method));
    let pattern = |service: &str, method: &str| {
        let pattern = format!("/{service}/{method}");
        allowance.compile(&pattern, Extent::Whole).map(PathMatch::Regex).map_err(|error| format!(": {}", not_usable(&pattern, &error)))
    };
    match condition.r#type.unwrap_or(GrpcMethodMatchType::Exact) {
        GrpcMethodMatchType::RegularExpression => {
            // Each by itself: `a)(b` would be valid in its place only.
            for (field, name) in [("service", &service), ("method", &method)] {
                if let Some(why) = name.as_deref().and_then(|name| Pattern::price(name).err()) {
                    return Err(format!(".{field}: {}", not_usable(name.as_deref().unwrap_or_default(), &PatternError::Wrong(why))));
                }
            }
            let group = |name: &Option<String>| name.as_ref().map_or_else(|| ANY.to_owned(), |name| format!("(?:{name})"));
            pattern(&group(&service), &group(&method))
        }
        GrpcMethodMatchType::Exact => {
            for (field, name) in [("service", &service), ("method", &method)] {
                if let Some(name) = name.as_ref().filter(|name| !is_name(name)) {
                    return Err(format!(".{field}: {} is no name of a {field}", quoted(name)));
                }
            }
            match (service, method) {
                (None, None) => Ok(PathMatch::prefix("/")),
                (Some(service), None) => Ok(PathMatch::prefix(&format!("/{service}"))),
                (Some(service), Some(method)) => Ok(PathMatch::Exact(format!("/{service}/{method}").into())),
                // A method's name holds nothing that means something in a pattern.
                (None, Some(method)) => pattern(ANY, &method),
            }
        }
    }
}

/// As the CRD has it: names of Protobuf, with dots in those of services.
fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::translate::patterns::Patterns;

    fn compiled(conditions: Value) -> CompiledMatch {
        let patterns = Patterns::default();
        let conditions: GrpcMatch = serde_json::from_value(conditions).unwrap();
        compile_match(3, &conditions, &patterns.allowance(u64::MAX))
    }

    #[test]
    fn a_method_is_a_path() {
        let table = [
            (json!({}), "prefix "),
            (json!({"method": {}}), "prefix "),
            (json!({"method": {"service": "a.B"}}), "prefix /a.B"),
            (json!({"method": {"service": "a.B", "method": "C"}}), "exact /a.B/C"),
            (json!({"method": {"type": "Exact", "service": "", "method": "C"}}), "regex /[^/]+/C"),
            (json!({"method": {"type": "RegularExpression", "service": "a|b", "method": "C.*"}}), "regex /(?:a|b)/(?:C.*)"),
            (json!({"method": {"type": "RegularExpression", "method": "C"}}), "regex /[^/]+/(?:C)"),
        ];
        for (conditions, expected) in table {
            let found = compiled(conditions.clone());
            let path = match &found.path {
                PathMatch::Exact(path) => format!("exact {path}"),
                PathMatch::Prefix(path) => format!("prefix {path}"),
                PathMatch::Regex(pattern) => format!("regex {}", pattern.source()),
            };
            assert_eq!((path.as_str(), found.problems.is_empty()), (expected, true), "{conditions}");
        }
    }

    #[test]
    fn what_is_no_name_or_no_pattern_is_named() {
        for (method, field) in [
            (json!({"service": "a/b"}), "matches[3].method.service: "),
            (json!({"service": "a", "method": "b*"}), "matches[3].method.method: "),
            (json!({"type": "RegularExpression", "method": "("}), "matches[3].method.method: "),
            (json!({"type": "RegularExpression", "service": "a)(?:b"}), "matches[3].method.service: "),
        ] {
            let problems = compiled(json!({"method": method})).problems;
            assert!(problems.len() == 1 && problems[0].starts_with(field), "{problems:?}");
        }
    }
}
