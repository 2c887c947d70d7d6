//! Conditions that matches of several kinds of routes have.

use gateway_api::experimental::httproutes::{HttpRouteRulesMatchesHeaders, HttpRouteRulesMatchesHeadersType as HeaderKind};
use http::HeaderName;

use crate::base::text::quoted;
use crate::snapshot::{Extent, HeaderMatch, Matcher, PathMatch, ValueMatch};
use crate::translate::patterns::{Allowance, PatternError};

/// A match of a rule. A condition that is wrong is left out, and `problems` says so: such a match is answered 500, after all others of the
/// same rank.
#[derive(Debug)]
pub(super) struct CompiledMatch {
    pub(super) index: u16,
    pub(super) path: PathMatch,
    pub(super) matcher: Matcher,
    pub(super) problems: Vec<String>,
}

/// Conditions on headers. Of several entries for one name the first counts.
pub(super) fn compile_headers(
    headers: &[HttpRouteRulesMatchesHeaders],
    index: u16,
    allowance: &Allowance<'_>,
    problems: &mut Vec<String>,
) -> Vec<HeaderMatch> {
    let mut compiled: Vec<HeaderMatch> = Vec::new();
    for (position, header) in headers.iter().enumerate() {
        let Ok(name) = HeaderName::from_bytes(header.name.as_bytes()) else {
            problems.push(format!("matches[{index}].headers[{position}].name: {} is no header name", quoted(&header.name)));
            continue;
        };
        if compiled.iter().any(|earlier| earlier.name == name) {
            continue;
        }
        match compile_value(header.r#type == Some(HeaderKind::RegularExpression), &header.value, allowance) {
            Ok(value) => compiled.push(HeaderMatch { name, value }),
            Err(message) => problems.push(format!("matches[{index}].headers[{position}].value: {message}")),
        }
    }
    compiled
}

/// A value that is written out, or a pattern for it.
pub(super) fn compile_value(is_regex: bool, value: &str, allowance: &Allowance<'_>) -> Result<ValueMatch, String> {
    if is_regex {
        return allowance.compile(value, Extent::Whole).map(ValueMatch::Regex).map_err(|error| not_usable(value, &error));
    }
    Ok(ValueMatch::Exact(value.into()))
}

/// Why a regular expression is not used.
pub(super) fn not_usable(pattern: &str, error: &PatternError) -> String {
    match error {
        PatternError::Wrong(why) => format!("{} is no regular expression: {why}", quoted(pattern)),
        PatternError::OverBudget(_) | PatternError::Planned => format!("{}: {error}", quoted(pattern)),
    }
}
