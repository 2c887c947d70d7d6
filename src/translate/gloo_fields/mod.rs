//! How every field of Gloo's types is answered: one table each, from which statuses and `docs/gloo-compatibility.md` follow.

mod gateway_options;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::translate::gloo_status::Findings;

pub use gateway_options::{HTTP_LISTENER_OPTION_FIELDS, LISTENER_OPTION_FIELDS, VIRTUAL_HOST_OPTION_FIELDS, is_guard};

pub(super) use gateway_options::survey_gateway_option;

/// How a field is answered when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does what Gloo says.
    Honoured,
    /// Some values are honoured, the others answered by name; the note says which.
    Partly,
    /// Without a meaning here, or for Gloo's own use: accepted silently.
    Ignored,
    /// The object serves without it: state Warning.
    NotApplied,
    /// Serving without it would be wrong or unsafe: state Rejected, requests are answered 500.
    Refused,
}

/// A field and its answer. `[]` stands for any index of a list; an entry holds for everything below it that has no entry of its own.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Dotted path from the object's root.
    pub path: &'static str,
    /// The answer.
    pub answer: Answer,
    /// What a user should know; the reason, for fields that are refused.
    pub note: &'static str,
}

const fn field(path: &'static str, answer: Answer, note: &'static str) -> Field {
    Field { path, answer, note }
}

const SECURITY: &str = "a security option that is not built must not be skipped: the rules that use it answer 500";
const NOT_FRAMING: &str = "headers of framing and connection (`content-length`, `transfer-encoding` ...) stay: Warning";
const TRANSFORMATION: &str = "requests would reach the backend in another shape than was asked for";
const NO_TLS: &str = "not built; a BackendTLSPolicy for the Service makes the gateway speak TLS. Plain text instead would be unsafe";
const EXTENSIONS: &str = "configuration of plugins; the name of a security option in it: as that option itself";
const PLAINLY: &str = "of Gloo's function discovery: requests are forwarded as they are, JSON is not made gRPC";
const NO_SUCH_BACKEND: &str = "this kind of backend is not supported; expected kube or static";

const USE_TLS: &str = "spec.static.useTls";

/// Every field of Upstream.
pub const UPSTREAM_FIELDS: &[Field] = {
    use Answer::{Honoured, Ignored, NotApplied, Partly, Refused};
    &[
        field("spec.kube.serviceName", Honoured, "a missing Service: Rejected with Gloo's words, requests answer 503"),
        field("spec.kube.serviceNamespace", Honoured, "no default; another namespace as `upstreamCrossNamespace` says, else Rejected"),
        field("spec.kube.servicePort", Honoured, "by number; a port that the Service does not have: Warning, requests answer 503"),
        field("spec.kube.selector", NotApplied, "endpoints are those of the Service, as in Gloo's Kubernetes mode"),
        field("spec.kube.subsetSpec", NotApplied, "as in Gloo's Kubernetes mode"),
        field("spec.kube.serviceSpec", NotApplied, PLAINLY),
        field("spec.static.hosts[].addr", Honoured, "IP address or DNS name"),
        field("spec.static.hosts[].port", Honoured, ""),
        field("spec.static.hosts[].loadBalancingWeight", Honoured, "at least 1"),
        field("spec.static.hosts[].sniAddr", NotApplied, ""),
        field("spec.static.hosts[].healthCheckConfig", NotApplied, ""),
        field("spec.static.hosts[].metadata", NotApplied, ""),
        field(
            USE_TLS,
            Partly,
            "`false` is honoured; `true`, and no value with a host on port 443, are Rejected: TLS to static hosts is not built yet",
        ),
        field("spec.static.autoSniRewrite", NotApplied, ""),
        field("spec.static.serviceSpec", NotApplied, PLAINLY),
        field("spec.pipe", Refused, NO_SUCH_BACKEND),
        field("spec.aws", Refused, NO_SUCH_BACKEND),
        field("spec.azure", Refused, NO_SUCH_BACKEND),
        field("spec.awsEc2", Refused, NO_SUCH_BACKEND),
        field("spec.consul", Refused, NO_SUCH_BACKEND),
        field("spec.gcp", Refused, NO_SUCH_BACKEND),
        field("spec.ai", Refused, NO_SUCH_BACKEND),
        field("spec.loadBalancerConfig.roundRobin", Honoured, "the default"),
        field("spec.loadBalancerConfig.roundRobin.slowStartConfig", NotApplied, ""),
        field("spec.loadBalancerConfig.leastRequest.choiceCount", Honoured, "at least 2; above 128 it counts as 128"),
        field("spec.loadBalancerConfig.leastRequest.slowStartConfig", NotApplied, ""),
        field("spec.loadBalancerConfig.random", Honoured, ""),
        field("spec.loadBalancerConfig.ringHash.ringHashConfig.minimumRingSize", Honoured, "number or string; 0 is the default 1024"),
        field("spec.loadBalancerConfig.ringHash.ringHashConfig.maximumRingSize", Honoured, "number or string; 0 is the default 8388608"),
        field("spec.loadBalancerConfig.maglev", Honoured, "table of 65537 entries"),
        field("spec.loadBalancerConfig.localityWeightedLbConfig", NotApplied, ""),
        field("spec.loadBalancerConfig.healthyPanicThreshold", Honoured, "0 to 100"),
        field("spec.loadBalancerConfig.updateMergeWindow", Honoured, "accepted: every update is immediate"),
        field("spec.loadBalancerConfig.useHostnameForHashing", Partly, "with `static`; with `kube` Rejected, as Envoy refuses it"),
        field("spec.loadBalancerConfig.closeConnectionsOnHostSetChange", Honoured, ""),
        field("spec.connectionConfig.maxRequestsPerConnection", Honoured, ""),
        field("spec.connectionConfig.connectTimeout", Honoured, "default 1s (Gloo: 5s): the next host is tried sooner"),
        field(
            "spec.connectionConfig.commonHttpProtocolOptions.idleTimeout",
            Honoured,
            "default 4s, for HTTP/2 1h as in Envoy; 0 counts as one day",
        ),
        field("spec.connectionConfig.commonHttpProtocolOptions.maxHeadersCount", NotApplied, ""),
        field("spec.connectionConfig.commonHttpProtocolOptions.maxStreamDuration", NotApplied, ""),
        field("spec.connectionConfig.commonHttpProtocolOptions.headersWithUnderscoresAction", NotApplied, ""),
        field("spec.connectionConfig.tcpKeepalive", NotApplied, ""),
        field("spec.connectionConfig.perConnectionBufferLimitBytes", NotApplied, ""),
        field("spec.connectionConfig.http1ProtocolOptions", NotApplied, ""),
        field("spec.healthChecks", NotApplied, ""),
        field("spec.healthChecks[].customHealthCheck", Refused, "custom health checkers cannot be loaded"),
        field("spec.healthChecks[].httpHealthCheck.responseAssertions", Refused, "assertions on answers are not supported"),
        field("spec.outlierDetection", NotApplied, ""),
        field("spec.circuitBreakers.maxConnections", Honoured, "default 1024; a worker always gets one connection to a host, as in Envoy"),
        field("spec.circuitBreakers.maxPendingRequests", Honoured, "default 1024"),
        field("spec.circuitBreakers.maxRequests", Honoured, "default 1024"),
        field("spec.circuitBreakers.maxRetries", Honoured, "default: 20 % of the requests in flight, at least 3 (Gloo: 3)"),
        field("spec.circuitBreakers.trackRemaining", Ignored, "Gloo does not pass it on either; no metric has a label for a backend"),
        field("spec.ignoreHealthOnHostRemoval", NotApplied, ""),
        field("spec.sslConfig", Refused, NO_TLS),
        field("spec.useHttp2", Honoured, ""),
        field("spec.protocolSelection", NotApplied, ""),
        field("spec.initialStreamWindowSize", NotApplied, ""),
        field("spec.initialConnectionWindowSize", NotApplied, ""),
        field("spec.maxConcurrentStreams", NotApplied, ""),
        field("spec.overrideStreamErrorOnInvalidHttpMessage", NotApplied, ""),
        field("spec.failover", NotApplied, "Enterprise in Gloo"),
        field("spec.respectDnsTtl", NotApplied, ""),
        field("spec.dnsRefreshRate", NotApplied, ""),
        field("spec.proxyProtocolVersion", Honoured, "each request has a connection of its own; over HTTP/2 the gateway names itself"),
        field("spec.preconnectPolicy", NotApplied, ""),
        field("spec.httpProxyHostname", Refused, "tunnels through another proxy are not supported"),
        field("spec.httpConnectSslConfig", Refused, "tunnels through another proxy are not supported"),
        field("spec.httpConnectHeaders", Refused, "tunnels through another proxy are not supported"),
        field("spec.disableIstioAutoMtls", Ignored, "there is no mesh"),
        field("spec.discoveryMetadata", Ignored, "written by Gloo's discovery"),
        field("spec.namespacedStatuses", Ignored, "written by Gloo"),
    ]
};

/// Every field of RouteOption.
pub const ROUTE_OPTION_FIELDS: &[Field] = {
    use Answer::{Honoured, Ignored, NotApplied, Partly, Refused};
    &[
        field("spec.targetRefs[].group", Honoured, "`gateway.networking.k8s.io`; others: Warning"),
        field("spec.targetRefs[].kind", Honoured, "`HTTPRoute`; others: Warning"),
        field("spec.targetRefs[].name", Honoured, "an HTTPRoute that does not exist: Warning"),
        field("spec.targetRefs[].namespace", Honoured, "only the RouteOption's own namespace has an effect; others: Warning"),
        field(
            "spec.targetRefs[].sectionName",
            Honoured,
            "not in Gloo: the name of a rule, which alone gets the options, before those for the whole route; a rule that does not exist: Warning",
        ),
        field(
            "spec.options.lbHash.hashPolicies[].header",
            Honoured,
            "`:authority`, `:path`, `:method`, `:scheme` too; `host` is `:authority`",
        ),
        field("spec.options.lbHash.hashPolicies[].cookie.name", Honoured, "a token; mandatory"),
        field("spec.options.lbHash.hashPolicies[].cookie.ttl", Honoured, "whole seconds; 0 is a session cookie; absent: never generated"),
        field("spec.options.lbHash.hashPolicies[].cookie.path", Honoured, ""),
        field("spec.options.lbHash.hashPolicies[].sourceIp", Honoured, "`false`: as if the policy were not there"),
        field("spec.options.lbHash.hashPolicies[].terminal", Honoured, ""),
        field("spec.options.timeout", Honoured, "0 is unlimited; wins over the HTTPRoute's `timeouts.request`"),
        field("spec.options.idleTimeout", Honoured, "0 is unlimited"),
        field("spec.options.maxStreamDuration", NotApplied, ""),
        field("spec.options.retries.retryOn", Partly, "Envoy's conditions for HTTP and gRPC; those for rate limits and headers: Warning"),
        field(
            "spec.options.retries.numRetries",
            Honoured,
            "0 is 1; a retry goes to the next host of the hash sequence (Gloo: the same host)",
        ),
        field("spec.options.retries.perTryTimeout", Honoured, "0 is no limit"),
        field("spec.options.retries.retryBackOff.baseInterval", Honoured, "default 25ms"),
        field("spec.options.retries.retryBackOff.maxInterval", Honoured, "default ten times the base"),
        field("spec.options.retries.retriableStatusCodes", Honoured, ""),
        field("spec.options.retries.rateLimitedRetryBackOff", NotApplied, ""),
        field("spec.options.retries.previousPriorities", NotApplied, ""),
        field("spec.options.prefixRewrite", Honoured, "never doubles or drops the slash between prefix and rest"),
        field("spec.options.regexRewrite.pattern.regex", Honoured, "on the path without the query"),
        field("spec.options.regexRewrite.pattern.googleRe2", Ignored, "deprecated in Envoy"),
        field("spec.options.regexRewrite.substitution", Honoured, ""),
        field("spec.options.hostRewrite", Honoured, ""),
        field("spec.options.autoHostRewrite", NotApplied, ""),
        field("spec.options.hostRewriteHeader", NotApplied, ""),
        field("spec.options.hostRewritePathRegex", NotApplied, ""),
        field("spec.options.appendXForwardedHost", NotApplied, ""),
        field(
            "spec.options.headerManipulation.requestHeadersToAdd[].header.key",
            Honoured,
            "not `host`, not headers of framing and connection: Rejected",
        ),
        field(
            "spec.options.headerManipulation.requestHeadersToAdd[].header.value",
            Partly,
            "a value with Envoy's `%...%` formatters: Warning, left out",
        ),
        field("spec.options.headerManipulation.requestHeadersToAdd[].headerSecretRef", NotApplied, ""),
        field("spec.options.headerManipulation.requestHeadersToAdd[].append", Honoured, ""),
        field("spec.options.headerManipulation.requestHeadersToRemove", Partly, NOT_FRAMING),
        field(
            "spec.options.headerManipulation.responseHeadersToAdd[].header.key",
            Honoured,
            "not headers of framing and connection: Rejected",
        ),
        field(
            "spec.options.headerManipulation.responseHeadersToAdd[].header.value",
            Partly,
            "a value with Envoy's `%...%` formatters: Warning, left out",
        ),
        field("spec.options.headerManipulation.responseHeadersToAdd[].append", Honoured, ""),
        field("spec.options.headerManipulation.responseHeadersToRemove", Partly, NOT_FRAMING),
        field("spec.options.cors", NotApplied, ""),
        field("spec.options.faults", NotApplied, ""),
        field("spec.options.shadowing", NotApplied, ""),
        field("spec.options.upgrades[].websocket.enabled", Partly, "always on; `enabled: false`: Warning"),
        field("spec.options.upgrades[].connect", NotApplied, ""),
        field("spec.options.upgrades[].connectTerminate", Refused, "CONNECT is not supported"),
        field("spec.options.bufferPerRoute", NotApplied, ""),
        field("spec.options.tracing", NotApplied, ""),
        field("spec.options.envoyMetadata", NotApplied, ""),
        field("spec.options.extensions", NotApplied, EXTENSIONS),
        field("spec.options.setFilterState", NotApplied, ""),
        field("spec.options.destinationSpec", Refused, "not in Gloo's RouteOption; functions of an Upstream are not supported"),
        field("spec.options.transformations", Refused, TRANSFORMATION),
        field("spec.options.stagedTransformations", Refused, TRANSFORMATION),
        field("spec.options.ai", Refused, TRANSFORMATION),
        field("spec.options.csrf", Refused, SECURITY),
        field("spec.options.dlp", Refused, SECURITY),
        field("spec.options.extauth", Refused, SECURITY),
        field("spec.options.extProc", Refused, SECURITY),
        field("spec.options.extProcEarly", Refused, SECURITY),
        field("spec.options.extProcLate", Refused, SECURITY),
        field("spec.options.jwt", Refused, SECURITY),
        field("spec.options.jwtStaged", Refused, SECURITY),
        field("spec.options.jwtProvidersStaged", Refused, SECURITY),
        field("spec.options.rbac", Refused, SECURITY),
        field("spec.options.waf", Refused, SECURITY),
        field("spec.options.ratelimit", Refused, SECURITY),
        field("spec.options.ratelimitEarly", Refused, SECURITY),
        field("spec.options.ratelimitRegular", Refused, SECURITY),
        field("spec.options.ratelimitBasic", Refused, SECURITY),
        field("spec.options.rateLimitConfigs", Refused, SECURITY),
        field("spec.options.rateLimitEarlyConfigs", Refused, SECURITY),
        field("spec.options.rateLimitRegularConfigs", Refused, SECURITY),
        field("spec.namespacedStatuses", Ignored, "written by Gloo"),
    ]
};

/// A field that is set and is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedField {
    /// Dotted path, with indexes.
    pub(super) path: String,
    /// Whether Gloo has a field of this path.
    pub(super) is_known: bool,
    /// As the status says it.
    pub(super) message: String,
}

/// Looks through the fields that `spec` sets: warnings go into `findings`, the fields that are refused come back.
pub(super) fn survey(spec: &impl Serialize, table: &'static [Field], findings: &mut Findings) -> Vec<RefusedField> {
    survey_with(spec, table, &[table], findings)
}

/// The same for a RouteOption: an option that guards listeners may have been put into one.
pub(super) fn survey_route_option(spec: &impl Serialize, findings: &mut Findings) -> Vec<RefusedField> {
    survey_with(spec, ROUTE_OPTION_FIELDS, &[HTTP_LISTENER_OPTION_FIELDS, ROUTE_OPTION_FIELDS], findings)
}

/// The same; the fields of `guards` must not be skipped where they stand in another place.
fn survey_with(spec: &impl Serialize, table: &'static [Field], guards: &[&'static [Field]], findings: &mut Findings) -> Vec<RefusedField> {
    let mut survey = Survey { table, guards, findings, refused: Vec::new(), refused_names: None };
    // A type that was made from JSON has string keys only, which is all that could fail.
    let value = serde_json::to_value(spec).unwrap_or_default();
    survey.below(&value, "spec", "spec", false);
    survey.refused
}

struct Survey<'a> {
    table: &'static [Field],
    guards: &'a [&'static [Field]],
    findings: &'a mut Findings,
    refused: Vec<RefusedField>,
    /// Made when the first unknown field is met.
    refused_names: Option<BTreeMap<String, &'static Field>>,
}

impl Survey<'_> {
    /// `path` has indexes, `key` has `[]` in their place. `answered`: an ancestor already has an answer that holds for what has none of its own.
    fn below(&mut self, value: &Value, path: &str, key: &str, answered: bool) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    self.at(member, &format!("{path}.{name}"), &format!("{key}.{name}"), answered);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.at(item, &format!("{path}[{index}]"), &format!("{key}[]"), answered);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn at(&mut self, value: &Value, path: &str, key: &str, answered: bool) {
        if value.is_null() || value.as_array().is_some_and(Vec::is_empty) {
            return;
        }
        let exact = self.table.iter().find(|field| field.path == key);
        let deeper = self.table.iter().any(|field| is_below(field.path, key));
        match exact.map(|field| (field.answer, field.note)) {
            Some((Answer::Refused, note)) => {
                let message = format!("field {path} is not supported: {note}");
                self.refused.push(RefusedField { path: path.to_owned(), is_known: true, message });
            }
            Some((Answer::NotApplied, _)) if is_extensions(key) && self.holds_guards(path, value) => {}
            Some((Answer::NotApplied, _)) => {
                self.findings.warn(format!("field {path} is accepted but not applied"));
                self.below(value, path, key, true);
            }
            // An object that is honoured may have members that are not known.
            Some((Answer::Honoured | Answer::Partly, _)) if deeper || value.is_object() => self.below(value, path, key, false),
            Some((Answer::Honoured | Answer::Partly | Answer::Ignored, _)) => {}
            None if deeper => self.below(value, path, key, answered),
            None if answered => self.answered(path, key, value),
            None => self.unknown(path, value),
        }
    }

    /// A field that Gloo has none of, where all that is not refused is answered already: only a guard must not be passed over.
    fn answered(&mut self, path: &str, key: &str, value: &Value) {
        if !holds_free_names(key) {
            self.holds_guards(path, value);
        }
    }

    /// A field whose name is that of a refused one, spelled otherwise or in another place, was meant to guard something.
    fn unknown(&mut self, path: &str, value: &Value) {
        if self.holds_guards(path, value) {
            return;
        }
        let (parent, name) = (parent_of(path).map(plain_name), plain_name(path));
        let mut known = self.table.iter().flat_map(|field| prefixes(field.path));
        let meant = known.find(|known| plain_name(known) == name && parent_of(known).map(plain_name) == parent);
        let expected = meant.map(|known| format!(": expected {known}")).unwrap_or_default();
        self.findings.warn(format!("field {path} is unknown and has no effect{expected}"));
    }

    /// Whether fields at or below this one must not be skipped; they are refused.
    fn holds_guards(&mut self, path: &str, value: &Value) -> bool {
        let mut guards = Vec::new();
        self.guards(path, value, &mut guards);
        let any = !guards.is_empty();
        self.refused.extend(guards);
        any
    }

    /// Fields at and below an unknown one with the name of a refused one.
    fn guards(&mut self, path: &str, value: &Value, found: &mut Vec<RefusedField>) {
        let guards = self.guards;
        let names = self.refused_names.get_or_insert_with(|| refused_names(guards));
        if let Some(field) = names.get(&plain_name(path)).filter(|field| field.path != USE_TLS || *value != Value::Bool(false)) {
            let message = format!("field {path} is unknown and must not be skipped: expected {}; {}", field.path, field.note);
            found.push(RefusedField { path: path.to_owned(), is_known: false, message });
            return;
        }
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| self.guards(&format!("{path}.{name}"), member, found)),
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| self.guards(&format!("{path}[{index}]"), item, found));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Where Gloo's plugins have their configuration, whatever its shape: security options had their place there before they got fields of their own.
fn is_extensions(key: &str) -> bool {
    key.ends_with(".extensions")
}

/// Fields below which names are the user's own, so that none of them means an option of Gloo's: a filter's metadata may be called `rbac`.
const FREE_NAMES: [&str; 5] = [
    "spec.options.envoyMetadata",
    "spec.kube.selector",
    "spec.kube.serviceSpec",
    "spec.static.hosts[].metadata",
    "spec.static.serviceSpec",
];

fn holds_free_names(key: &str) -> bool {
    FREE_NAMES.iter().any(|field| is_below(key, field))
}

/// The fields that must not be skipped, by their plain names.
fn refused_names(guards: &[&'static [Field]]) -> BTreeMap<String, &'static Field> {
    let refused = guards.iter().flat_map(|table| table.iter()).filter(|field| field.answer == Answer::Refused || field.path == USE_TLS);
    refused.map(|field| (plain_name(field.path), field)).collect()
}

/// `spec`, `spec.options`, `spec.options.lbHash` and so on.
fn prefixes(path: &'static str) -> impl Iterator<Item = &'static str> {
    let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
    ends.filter_map(|end| path.get(..end))
}

fn parent_of(path: &str) -> Option<&str> {
    path.rsplit_once('.').map(|(parent, _)| parent)
}

/// The last part of a path, without regard to how it is spelled: Gloo's own notation knows two ways.
pub(super) fn plain_name(path: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let name = name.split('[').next().unwrap_or(name);
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Whether a table's path lies below `key`.
fn is_below(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"))
}

#[cfg(test)]
mod tests;
