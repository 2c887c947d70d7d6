//! Matches of a rule: path, headers, query parameters, method.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesMatchesMethod as MethodName, HttpRouteRulesMatchesPath, HttpRouteRulesMatchesPathType as PathKind,
    HttpRouteRulesMatchesQueryParams, HttpRouteRulesMatchesQueryParamsType as QueryKind,
};
use http::Method;

use crate::api::{HttpMatch, RouteRule};
use crate::base::text::quoted;
use crate::snapshot::{Extent, Matcher, PathMatch, QueryMatch};
use crate::translate::patterns::Allowance;

use super::{
    conditions::{CompiledMatch, compile_headers, compile_value, not_usable},
    grpc,
};

/// Compiles the matches of a rule; without any, everything matches.
pub(super) fn compile(rule: &RouteRule, allowance: &Allowance<'_>) -> Vec<CompiledMatch> {
    if let Some(matches) = rule.grpc_matches.as_deref().filter(|matches| !matches.is_empty()) {
        return (0..=u16::MAX).zip(matches).map(|(index, conditions)| grpc::compile_match(index, conditions, allowance)).collect();
    }
    let matches = rule.matches.as_deref().unwrap_or_default();
    if matches.is_empty() {
        return vec![CompiledMatch { index: 0, path: PathMatch::prefix("/"), matcher: Matcher::default(), problems: Vec::new() }];
    }
    (0..=u16::MAX).zip(matches).map(|(index, conditions)| compile_match(index, conditions, allowance)).collect()
}

fn compile_match(index: u16, conditions: &HttpMatch, allowance: &Allowance<'_>) -> CompiledMatch {
    let mut problems = Vec::new();
    let path = compile_path(conditions.path.as_ref(), allowance).unwrap_or_else(|message| {
        problems.push(format!("matches[{index}].path: {message}"));
        PathMatch::prefix("/")
    });
    let headers = compile_headers(conditions.headers.as_deref().unwrap_or_default(), index, allowance, &mut problems);
    let query = compile_query(conditions.query_params.as_deref().unwrap_or_default(), index, allowance, &mut problems);
    let method = conditions.method.as_ref().map(method);
    CompiledMatch { index, path, matcher: Matcher { method, headers: headers.into(), query: query.into() }, problems }
}

fn compile_path(path: Option<&HttpRouteRulesMatchesPath>, allowance: &Allowance<'_>) -> Result<PathMatch, String> {
    let Some(path) = path else { return Ok(PathMatch::prefix("/")) };
    let value = path.value.as_deref().unwrap_or("/");
    match path.r#type {
        Some(PathKind::RegularExpression) => {
            allowance.compile(value, Extent::Whole).map(PathMatch::Regex).map_err(|error| not_usable(value, &error))
        }
        _ if !value.starts_with('/') => Err(format!("{value}: expected a path that begins with /", value = quoted(value))),
        Some(PathKind::Exact) => Ok(PathMatch::Exact(value.into())),
        Some(PathKind::PathPrefix) | None => Ok(PathMatch::prefix(value)),
    }
}

fn compile_query(
    parameters: &[HttpRouteRulesMatchesQueryParams],
    index: u16,
    allowance: &Allowance<'_>,
    problems: &mut Vec<String>,
) -> Vec<QueryMatch> {
    let mut compiled: Vec<QueryMatch> = Vec::new();
    for (position, parameter) in parameters.iter().enumerate() {
        if compiled.iter().any(|earlier| *earlier.name == *parameter.name) {
            continue;
        }
        match compile_value(parameter.r#type == Some(QueryKind::RegularExpression), &parameter.value, allowance) {
            Ok(value) => compiled.push(QueryMatch { name: parameter.name.as_str().into(), value }),
            Err(message) => problems.push(format!("matches[{index}].queryParams[{position}].value: {message}")),
        }
    }
    compiled
}

fn method(name: &MethodName) -> Method {
    match name {
        MethodName::Get => Method::GET,
        MethodName::Head => Method::HEAD,
        MethodName::Post => Method::POST,
        MethodName::Put => Method::PUT,
        MethodName::Delete => Method::DELETE,
        MethodName::Connect => Method::CONNECT,
        MethodName::Options => Method::OPTIONS,
        MethodName::Trace => Method::TRACE,
        MethodName::Patch => Method::PATCH,
    }
}
