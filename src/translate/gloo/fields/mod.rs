//! How every field of Gloo's types is answered: one table each, from which statuses and `docs/gloo-compatibility.md` follow.

mod field;
mod gateway_options;
mod survey;

use serde::Serialize;

use super::findings::Findings;

pub use field::{Answer, Field};
pub use gateway_options::{HTTP_LISTENER_OPTION_FIELDS, LISTENER_OPTION_FIELDS, VIRTUAL_HOST_OPTION_FIELDS, is_guard};

pub(in crate::translate) use gateway_options::survey_gateway_option;
pub(in crate::translate) use survey::{RefusedField, plain_name, survey};

use field::{EXTENSIONS, field};
use survey::{USE_TLS, survey_with};

const SECURITY: &str = "a security option that is not built must not be skipped: the rules that use it answer 500";
const NOT_FRAMING: &str = "headers of framing and connection (`content-length`, `transfer-encoding` ...) stay: Warning";
const TRANSFORMATION: &str = "requests would reach the backend in another shape than was asked for";
const NO_TLS: &str = "not built; a BackendTLSPolicy for the Service makes the gateway speak TLS. Plain text instead would be unsafe";
const PLAINLY: &str = "of Gloo's function discovery: requests are forwarded as they are, JSON is not made gRPC";
const NO_SUCH_BACKEND: &str = "this kind of backend is not supported; expected kube or static";

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

/// The same for a RouteOption: an option that guards listeners may have been put into one.
pub(super) fn survey_route_option(spec: &impl Serialize, findings: &mut Findings) -> Vec<RefusedField> {
    survey_with(spec, ROUTE_OPTION_FIELDS, &[HTTP_LISTENER_OPTION_FIELDS, ROUTE_OPTION_FIELDS], findings)
}

#[cfg(test)]
mod tests;
