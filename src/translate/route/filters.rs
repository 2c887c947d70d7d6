//! Filters of rules and backendRefs.

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFiltersExtensionRef as ExtensionRef, HttpRouteRulesFiltersRequestMirror as RequestMirror,
    HttpRouteRulesFiltersRequestRedirect as RequestRedirect, HttpRouteRulesFiltersRequestRedirectPath as RedirectPath,
    HttpRouteRulesFiltersRequestRedirectPathType as RedirectPathKind, HttpRouteRulesFiltersRequestRedirectScheme as Scheme,
    HttpRouteRulesFiltersType as FilterKind, HttpRouteRulesFiltersUrlRewrite as Rewrite,
    HttpRouteRulesFiltersUrlRewritePath as RewritePath, HttpRouteRulesFiltersUrlRewritePathType as RewritePathKind,
    HttpRouteRulesMatchesPathType as PathKind,
};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::api::{RouteFilter, RouteRule};
use crate::base::text::quoted;
use crate::snapshot::{Filters, Fraction, HeaderOps, PathRewrite, Redirect, UrlRewrite};
use crate::translate::{framing::is_framing, hostname};

use super::{
    cors,
    reference::{Reference, reference},
};

/// The filters of a rule.
#[derive(Debug, Default)]
pub(super) struct RuleFilters<'a> {
    pub(super) filters: Filters,
    pub(super) redirect: Option<Redirect>,
    /// What the request header modifiers so far have made of Host.
    host: Option<HeaderValue>,
    /// In the order written, with the index of the filter.
    pub(super) extensions: Vec<(usize, &'a ExtensionRef)>,
    /// Backends of filters that are not served, with their fields.
    pub(super) references: Vec<(String, Reference<'a>)>,
    /// Backends that get copies of requests, with their fields.
    pub(super) mirrors: Vec<(String, Reference<'a>, Fraction)>,
    /// Field and expectation of the first filter that is wrong or not served. References stand by themselves: all of them are read.
    pub(super) problem: Option<String>,
    /// Fields and why they count for nothing.
    pub(super) ignored: Vec<String>,
}

/// Header changes as written, of requests or of responses. What of them counts for nothing goes into `$ignored`.
macro_rules! header_ops {
    ($modifier:expr, $ignored:expr) => {
        header_ops(
            $modifier.set.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str())),
            $modifier.add.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str())),
            $modifier.remove.iter().flatten().map(String::as_str),
            $ignored,
        )
    };
}

// === impl RuleFilters ===

impl RuleFilters<'_> {
    /// Filters act in the order written. Host is what those of different types have in common: a modifier undoes what a rewrite before it has
    /// made of Host.
    fn note_host(&mut self, ops: &HeaderOps) {
        let Some((_, host)) = ops.set.iter().chain(&ops.add).find(|(name, _)| *name == header::HOST) else { return };
        self.host = Some(host.clone());
        if let Some(rewrite) = &mut self.filters.rewrite {
            rewrite.hostname = None;
        }
    }
}

/// Reads the filters of a rule.
pub(super) fn compile_rule(rule: &RouteRule) -> RuleFilters<'_> {
    compile(rule.filters.as_deref().unwrap_or_default(), rule)
}

/// Reads filters that stand in a rule or in one of its backendRefs.
fn compile<'a>(filters: &'a [RouteFilter], rule: &RouteRule) -> RuleFilters<'a> {
    let mut compiled = RuleFilters::default();
    let mut request_headers = Vec::new();
    let mut response_headers = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let mut ignored = Vec::new();
        let read = match filter.r#type {
            FilterKind::RequestHeaderModifier => {
                body(filter.request_header_modifier.as_ref(), "requestHeaderModifier").and_then(|modifier| {
                    let ops = header_ops!(modifier, &mut ignored).and_then(keeps_host);
                    let ops = ops.inspect(|ops| compiled.note_host(ops));
                    ops.map(|ops| request_headers.push(ops)).map_err(|message| format!(".requestHeaderModifier{message}"))
                })
            }
            FilterKind::ResponseHeaderModifier => {
                body(filter.response_header_modifier.as_ref(), "responseHeaderModifier").and_then(|modifier| {
                    let ops = header_ops!(modifier, &mut ignored);
                    ops.map(|ops| response_headers.push(ops)).map_err(|message| format!(".responseHeaderModifier{message}"))
                })
            }
            FilterKind::RequestRedirect => set_redirect(&mut compiled, filter, rule),
            FilterKind::UrlRewrite => set_rewrite(&mut compiled, filter, rule),
            FilterKind::ExtensionRef => {
                body(filter.extension_ref.as_ref(), "extensionRef").map(|extension| compiled.extensions.push((index, extension)))
            }
            FilterKind::RequestMirror => body(filter.request_mirror.as_ref(), "requestMirror").and_then(|mirror| {
                let fraction = fraction(mirror).map_err(|message| format!(".requestMirror{message}"))?;
                let field = format!("filters[{index}].requestMirror.backendRef");
                compiled.mirrors.push((field, reference!(mirror.backend_ref), fraction));
                Ok(())
            }),
            FilterKind::Cors => set_cors(&mut compiled, filter),
            FilterKind::ExternalAuth => {
                let field = || format!("filters[{index}].externalAuth.backendRef");
                compiled.references.extend(filter.external_auth.as_ref().map(|auth| (field(), reference!(auth.backend_ref))));
                Err(not_served("ExternalAuth"))
            }
        };
        if let Err(message) = read {
            compiled.problem.get_or_insert_with(|| format!("filters[{index}]{message}"));
        }
        compiled.ignored.extend(ignored.into_iter().map(|why| format!("filters[{index}].{}{why}", modifier_field(filter))));
    }
    if compiled.redirect.is_some() && compiled.filters.rewrite.is_some() {
        compiled.problem.get_or_insert_with(|| "filters: RequestRedirect and URLRewrite exclude each other".to_owned());
    }
    compiled.filters.request_headers = request_headers.into();
    compiled.filters.response_headers = response_headers.into();
    compiled
}

/// The field of a header modifier.
fn modifier_field(filter: &RouteFilter) -> &'static str {
    if filter.r#type == FilterKind::RequestHeaderModifier { "requestHeaderModifier" } else { "responseHeaderModifier" }
}

/// What the filters of a backendRef amount to.
#[derive(Debug, Default)]
pub(super) struct BackendFilters<'a> {
    pub(super) filters: Filters,
    /// Its share of the requests is redirected.
    pub(super) redirect: Option<Redirect>,
    /// Backends that get copies of requests, with their fields.
    pub(super) mirrors: Vec<(String, Reference<'a>, Fraction)>,
}

/// Reads the filters of a backendRef of a rule. What of them counts for nothing goes into `ignored`, field and reason.
///
/// # Errors
/// Field and expectation of the first filter that is wrong or not served.
pub(super) fn compile_backend<'a>(
    filters: &'a [RouteFilter],
    rule: &RouteRule,
    ignored: &mut Vec<String>,
) -> Result<BackendFilters<'a>, String> {
    for (index, filter) in filters.iter().enumerate() {
        let kind = match filter.r#type {
            FilterKind::RequestHeaderModifier
            | FilterKind::ResponseHeaderModifier
            | FilterKind::UrlRewrite
            | FilterKind::RequestRedirect
            | FilterKind::RequestMirror => continue,
            FilterKind::ExtensionRef => "ExtensionRef",
            FilterKind::Cors => "CORS",
            FilterKind::ExternalAuth => "ExternalAuth",
        };
        return Err(format!(
            "filters[{index}].type: {kind} is not served on a backendRef; expected RequestHeaderModifier, ResponseHeaderModifier, \
             URLRewrite, RequestRedirect or RequestMirror"
        ));
    }
    let RuleFilters { filters, redirect, mirrors, problem, ignored: of_filters, .. } = compile(filters, rule);
    ignored.extend(of_filters);
    problem.map_or(Ok(BackendFilters { filters, redirect, mirrors }), Err)
}

fn not_served(kind: &str) -> String {
    format!(".type: {kind} is not served yet")
}

fn body<'a, T>(body: Option<&'a T>, field: &str) -> Result<&'a T, String> {
    body.ok_or_else(|| format!(".{field}: missing; expected since it is the filter's type"))
}

fn set_cors(compiled: &mut RuleFilters<'_>, filter: &RouteFilter) -> Result<(), String> {
    let written = body(filter.cors.as_ref(), "cors")?;
    if compiled.filters.cors.is_some() {
        return Err(".type: CORS may be given once".to_owned());
    }
    compiled.filters.cors = Some(Box::new(cors::compile(written).map_err(|message| format!(".cors{message}"))?));
    Ok(())
}

/// How many requests a mirror gets; all of them where nothing is said.
fn fraction(mirror: &RequestMirror) -> Result<Fraction, String> {
    match (&mirror.fraction, mirror.percent) {
        (Some(_), Some(_)) => Err(": has percent and fraction; expected one of them".to_owned()),
        (None, None) => Ok(Fraction::ALL),
        (None, Some(percent)) => match u32::try_from(percent) {
            Ok(numerator) if numerator <= 100 => Ok(Fraction { numerator, denominator: 100 }),
            _ => Err(format!(".percent: {percent}; expected 0 to 100")),
        },
        (Some(fraction), None) => {
            let (numerator, denominator) = (fraction.numerator, fraction.denominator.unwrap_or(100));
            match (u32::try_from(numerator), u32::try_from(denominator)) {
                (Ok(n), Ok(d)) if d > 0 && n <= d => Ok(Fraction { numerator: n, denominator: d }),
                _ => Err(format!(
                    ".fraction: {numerator} of {denominator}; expected a numerator from 0 to the denominator, which is at least 1"
                )),
            }
        }
    }
}

fn set_redirect(compiled: &mut RuleFilters<'_>, filter: &RouteFilter, rule: &RouteRule) -> Result<(), String> {
    let redirect = body(filter.request_redirect.as_ref(), "requestRedirect")?;
    if compiled.redirect.is_some() {
        return Err(".type: RequestRedirect may be given once".to_owned());
    }
    let mut redirect = compile_redirect(redirect, rule).map_err(|message| format!(".requestRedirect{message}"))?;
    // A redirect keeps the request's host, which the modifiers before it may have changed.
    if let (None, Some(host)) = (&redirect.hostname, &compiled.host) {
        let name = host.to_str().ok().map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name)).unwrap_or_default();
        let name = precise_hostname(name).map_err(|message| format!(".requestRedirect{message}; a filter before it sets it as Host"))?;
        redirect.hostname = Some(name.into());
    }
    compiled.redirect = Some(redirect);
    Ok(())
}

fn set_rewrite(compiled: &mut RuleFilters<'_>, filter: &RouteFilter, rule: &RouteRule) -> Result<(), String> {
    let rewrite = body(filter.url_rewrite.as_ref(), "urlRewrite")?;
    if compiled.filters.rewrite.is_some() {
        return Err(".type: URLRewrite may be given once".to_owned());
    }
    compiled.filters.rewrite = Some(compile_rewrite(rewrite, rule).map_err(|message| format!(".urlRewrite{message}"))?);
    Ok(())
}

fn compile_redirect(redirect: &RequestRedirect, rule: &RouteRule) -> Result<Redirect, String> {
    let hostname = redirect.hostname.as_deref().map(precise_hostname).transpose()?;
    let port = match redirect.port {
        None => None,
        Some(port) => {
            let port = u16::try_from(port).ok().filter(|port| *port > 0);
            Some(port.ok_or_else(|| format!(".port: {}; expected 1 to 65535", redirect.port.unwrap_or_default()))?)
        }
    };
    let code = redirect.status_code.unwrap_or(302);
    let status = match code {
        301 => StatusCode::MOVED_PERMANENTLY,
        302 => StatusCode::FOUND,
        303 => StatusCode::SEE_OTHER,
        307 => StatusCode::TEMPORARY_REDIRECT,
        308 => StatusCode::PERMANENT_REDIRECT,
        _ => return Err(format!(".statusCode: {code}; expected 301, 302, 303, 307 or 308")),
    };
    let scheme = redirect.scheme.as_ref().map(|scheme| match scheme {
        Scheme::Http => "http".into(),
        Scheme::Https => "https".into(),
    });
    let path = redirect.path.as_ref().map(|path| redirect_path(path, rule)).transpose()?;
    Ok(Redirect { scheme, hostname: hostname.map(Into::into), port, path, status })
}

fn redirect_path(path: &RedirectPath, rule: &RouteRule) -> Result<PathRewrite, String> {
    let (full, prefix) = (path.replace_full_path.as_deref(), path.replace_prefix_match.as_deref());
    match path.r#type {
        RedirectPathKind::ReplaceFullPath => full_path(full, prefix),
        RedirectPathKind::ReplacePrefixMatch => prefix_path(full, prefix, rule),
    }
}

fn compile_rewrite(rewrite: &Rewrite, rule: &RouteRule) -> Result<UrlRewrite, String> {
    let hostname = rewrite.hostname.as_deref().map(precise_hostname).transpose()?;
    let hostname = hostname.map(HeaderValue::from_str).transpose().map_err(|_| ".hostname: expected a DNS name".to_owned())?;
    let path = rewrite.path.as_ref().map(|path| rewrite_path(path, rule)).transpose()?;
    Ok(UrlRewrite { hostname, path })
}

fn rewrite_path(path: &RewritePath, rule: &RouteRule) -> Result<PathRewrite, String> {
    let (full, prefix) = (path.replace_full_path.as_deref(), path.replace_prefix_match.as_deref());
    match path.r#type {
        RewritePathKind::ReplaceFullPath => full_path(full, prefix),
        RewritePathKind::ReplacePrefixMatch => prefix_path(full, prefix, rule),
    }
}

fn precise_hostname(hostname: &str) -> Result<&str, String> {
    hostname::check_precise(hostname).map_err(|message| format!(".hostname: {message}"))?;
    Ok(hostname)
}

fn full_path(full: Option<&str>, prefix: Option<&str>) -> Result<PathRewrite, String> {
    if prefix.is_some() {
        return Err(".path.replacePrefixMatch: expected only where the path's type is ReplacePrefixMatch".to_owned());
    }
    let path = full.ok_or_else(|| ".path.replaceFullPath: missing; expected since it is the path's type".to_owned())?;
    check_path(path).map_err(|message| format!(".path.replaceFullPath: {message}"))?;
    Ok(PathRewrite::Full(if path.starts_with('/') { path.into() } else { format!("/{path}").into() }))
}

/// A prefix can be replaced only where a prefix was matched.
fn prefix_path(full: Option<&str>, prefix: Option<&str>, rule: &RouteRule) -> Result<PathRewrite, String> {
    if full.is_some() {
        return Err(".path.replaceFullPath: expected only where the path's type is ReplaceFullPath".to_owned());
    }
    let path = prefix.ok_or_else(|| ".path.replacePrefixMatch: missing; expected since it is the path's type".to_owned())?;
    check_path(path).map_err(|message| format!(".path.replacePrefixMatch: {message}"))?;
    let not_prefix = |kind: &PathKind| *kind != PathKind::PathPrefix;
    let mut paths = rule.matches.iter().flatten().filter_map(|conditions| conditions.path.as_ref());
    if paths.any(|path| path.r#type.as_ref().is_some_and(not_prefix)) {
        return Err(".path.replacePrefixMatch: expected only matches with path type PathPrefix in the rule".to_owned());
    }
    Ok(PathRewrite::Prefix(path.into()))
}

/// What is put into a request line or a Location must stay one path.
fn check_path(path: &str) -> Result<(), String> {
    match path.bytes().find(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#' | b'\\')) {
        Some(byte) => Err(format!("{} contains {:?}; expected a path without query, percent-encoded", quoted(path), char::from(byte))),
        None => Ok(()),
    }
}

fn header_ops<'a>(
    set: impl Iterator<Item = (&'a str, &'a str)>,
    add: impl Iterator<Item = (&'a str, &'a str)>,
    remove: impl Iterator<Item = &'a str>,
    ignored: &mut Vec<String>,
) -> Result<HeaderOps, String> {
    one_action_a_name(HeaderOps {
        set: first_of_each_name(set.map(|(name, value)| header(".set", name, value)))?,
        add: first_of_each_name(add.map(|(name, value)| header(".add", name, value)))?,
        remove: removals(remove, ignored)?,
    })
}

/// The headers to be removed, without those that are the gateway's own to write.
fn removals<'a>(names: impl Iterator<Item = &'a str>, ignored: &mut Vec<String>) -> Result<Box<[HeaderName]>, String> {
    let mut removed = Vec::new();
    for name in names {
        let name = header_name(".remove", name)?;
        if is_framing(&name) {
            ignored.push(format!(".remove: {name} frames the message or belongs to the connection, and is not removed"));
        } else {
            removed.push(name);
        }
    }
    Ok(removed.into())
}

/// "Only a single action for a given header name is permitted" (HTTPHeaderFilter, Gateway API).
fn one_action_a_name(ops: HeaderOps) -> Result<HeaderOps, String> {
    let added = |name: &HeaderName| ops.add.iter().any(|(added, _)| added == name);
    let set = |name: &HeaderName| ops.set.iter().any(|(set, _)| set == name);
    let twice = ops.set.iter().map(|(name, _)| name).find(|name| added(name)).map(|name| (name, "set and add"));
    let removed = |action, has: &dyn Fn(&HeaderName) -> bool| ops.remove.iter().find(|name| has(name)).map(|name| (name, action));
    match twice.or_else(|| removed("set and remove", &set)).or_else(|| removed("add and remove", &added)) {
        Some((name, actions)) => Err(format!(": {name} is in {actions}; expected one action a header name")),
        None => Ok(ops),
    }
}

/// "Subsequent entries with an equivalent header name MUST be ignored" (HTTPHeader.name, Gateway API).
fn first_of_each_name(
    headers: impl Iterator<Item = Result<(HeaderName, HeaderValue), String>>,
) -> Result<Box<[(HeaderName, HeaderValue)]>, String> {
    let mut first = Vec::<(HeaderName, HeaderValue)>::new();
    for header in headers {
        let header = header?;
        if first.iter().all(|(earlier, _)| *earlier != header.0) {
            first.push(header);
        }
    }
    Ok(first.into())
}

/// A request without Host is none: it can be given another one, not lose it.
fn keeps_host(ops: HeaderOps) -> Result<HeaderOps, String> {
    if ops.remove.contains(&header::HOST) {
        return Err(".remove: host cannot be removed, every request has one; expected another one in set, or URLRewrite".to_owned());
    }
    Ok(ops)
}

fn header(field: &str, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = header_name(field, name)?;
    if is_framing(&name) {
        return Err(format!("{field}: {name} belongs to the framing of the message and cannot be changed"));
    }
    let value = HeaderValue::from_str(value).map_err(|_| format!("{field}: {name}: {value} is no header value", value = quoted(value)))?;
    Ok((name, value))
}

fn header_name(field: &str, name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{field}: {name} is no header name", name = quoted(name)))
}
