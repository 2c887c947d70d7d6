//! How the fields of VirtualHostOption, ListenerOption and HttpListenerOption are answered.

use serde::Serialize;
use serde_json::{Value, json};

use crate::base::Kind;
use crate::translate::gloo::findings::Findings;

use super::{
    field::{
        Answer::{Honoured, Ignored, NotApplied, Refused},
        EXTENSIONS, Field, field,
    },
    survey::{RefusedField, survey_with},
};

const GUARD: &str = "a security option that is not built must not be skipped";
const SHAPE: &str = "requests would reach the backend in another shape than was asked for";
const CHARTS_VALUES: &str = "for the whole gateway: the chart's values `clients.*`";

const TARGET_GROUP: Field = field("spec.targetRefs[].group", Honoured, "`gateway.networking.k8s.io`; others: notice");
const TARGET_KIND: Field = field("spec.targetRefs[].kind", Honoured, "`Gateway`; others: notice");
const TARGET_NAME: Field = field("spec.targetRefs[].name", Honoured, "a Gateway that does not exist: notice");
const TARGET_NAMESPACE: Field =
    field("spec.targetRefs[].namespace", Honoured, "only the option's own namespace has an effect, as in Gloo; others: notice");
const TARGET_SECTION: Field = field("spec.targetRefs[].sectionName", Honoured, "the name of a listener; one that does not exist: notice");
const STATUSES: Field = field("spec.namespacedStatuses", Ignored, "written by Gloo");

/// Every field of VirtualHostOption.
pub const VIRTUAL_HOST_OPTION_FIELDS: &[Field] = &[
    TARGET_GROUP,
    TARGET_KIND,
    TARGET_NAME,
    TARGET_NAMESPACE,
    TARGET_SECTION,
    field("spec.options.cors", NotApplied, "without its headers browsers refuse what it would allow"),
    field("spec.options.retries", NotApplied, ""),
    field("spec.options.stats", NotApplied, ""),
    field("spec.options.bufferPerRoute", NotApplied, ""),
    field("spec.options.includeRequestAttemptCount", NotApplied, ""),
    field("spec.options.includeAttemptCountInResponse", NotApplied, ""),
    field("spec.options.extensions", NotApplied, EXTENSIONS),
    field("spec.options.headerManipulation", NotApplied, "changes of answers"),
    field("spec.options.headerManipulation.requestHeadersToAdd", Refused, SHAPE),
    field("spec.options.headerManipulation.requestHeadersToRemove", Refused, SHAPE),
    field("spec.options.transformations", Refused, SHAPE),
    field("spec.options.stagedTransformations", Refused, SHAPE),
    field("spec.options.csrf", Refused, GUARD),
    field("spec.options.dlp", Refused, GUARD),
    field("spec.options.extauth", Refused, GUARD),
    field("spec.options.extProc", Refused, GUARD),
    field("spec.options.extProcEarly", Refused, GUARD),
    field("spec.options.extProcLate", Refused, GUARD),
    field("spec.options.jwt", Refused, GUARD),
    field("spec.options.jwtStaged", Refused, GUARD),
    field("spec.options.rbac", Refused, GUARD),
    field("spec.options.waf", Refused, GUARD),
    field("spec.options.ratelimit", Refused, GUARD),
    field("spec.options.ratelimitEarly", Refused, GUARD),
    field("spec.options.ratelimitRegular", Refused, GUARD),
    field("spec.options.ratelimitBasic", Refused, GUARD),
    field("spec.options.rateLimitConfigs", Refused, GUARD),
    field("spec.options.rateLimitEarlyConfigs", Refused, GUARD),
    field("spec.options.rateLimitRegularConfigs", Refused, GUARD),
    STATUSES,
];

/// Every field of ListenerOption.
pub const LISTENER_OPTION_FIELDS: &[Field] = &[
    TARGET_GROUP,
    TARGET_KIND,
    TARGET_NAME,
    TARGET_NAMESPACE,
    TARGET_SECTION,
    field("spec.options.accessLoggingService", NotApplied, "for the whole gateway: the chart's value `accessLog`"),
    field("spec.options.listenerAccessLoggingService", NotApplied, "for the whole gateway: the chart's value `accessLog`"),
    field("spec.options.connectionBalanceConfig", NotApplied, ""),
    field("spec.options.extensions", NotApplied, EXTENSIONS),
    field("spec.options.perConnectionBufferLimitBytes", NotApplied, ""),
    field("spec.options.proxyProtocol", NotApplied, "what speaks the PROXY protocol is answered 400"),
    field("spec.options.socketOptions", NotApplied, ""),
    field("spec.options.tcpStats", NotApplied, ""),
    STATUSES,
];

/// Every field of HttpListenerOption.
pub const HTTP_LISTENER_OPTION_FIELDS: &[Field] = &[
    TARGET_GROUP,
    TARGET_KIND,
    TARGET_NAME,
    TARGET_NAMESPACE,
    TARGET_SECTION,
    field("spec.options.httpConnectionManagerSettings", NotApplied, CHARTS_VALUES),
    field("spec.options.leftmostXffAddress", NotApplied, CHARTS_VALUES),
    field("spec.options.buffer", NotApplied, ""),
    field("spec.options.caching", NotApplied, ""),
    field("spec.options.dynamicForwardProxy", NotApplied, ""),
    field("spec.options.extensions", NotApplied, EXTENSIONS),
    field("spec.options.grpcWeb", NotApplied, ""),
    field("spec.options.gzip", NotApplied, ""),
    field("spec.options.headerValidationSettings", NotApplied, ""),
    field("spec.options.healthCheck", NotApplied, ""),
    field("spec.options.proxyLatency", NotApplied, ""),
    field("spec.options.router", NotApplied, ""),
    field("spec.options.statefulSession", NotApplied, "RouteOption and Upstream hold sessions"),
    field("spec.options.tap", NotApplied, ""),
    field("spec.options.disableExtProc", Ignored, "there is no external processing"),
    field("spec.options.sanitizeClusterHeader", Ignored, "no header chooses a backend"),
    field("spec.options.grpcJsonTranscoder", Refused, SHAPE),
    field("spec.options.wasm", Refused, GUARD),
    field("spec.options.csrf", Refused, GUARD),
    field("spec.options.dlp", Refused, GUARD),
    field("spec.options.extauth", Refused, GUARD),
    field("spec.options.extProc", Refused, GUARD),
    field("spec.options.extProcEarly", Refused, GUARD),
    field("spec.options.extProcLate", Refused, GUARD),
    field("spec.options.waf", Refused, GUARD),
    field("spec.options.connectionLimit", Refused, GUARD),
    field("spec.options.httpLocalRatelimit", Refused, GUARD),
    field("spec.options.networkLocalRatelimit", Refused, GUARD),
    field("spec.options.ratelimitServer", Refused, GUARD),
    STATUSES,
];

/// Tables whose refused fields are guards wherever they are written: an option of one kind may have been put into another.
const GUARDS: [&[Field]; 2] = [VIRTUAL_HOST_OPTION_FIELDS, HTTP_LISTENER_OPTION_FIELDS];

const TABLES: [(Kind, &[Field]); 3] = [
    (Kind::HttpListenerOption, HTTP_LISTENER_OPTION_FIELDS),
    (Kind::ListenerOption, LISTENER_OPTION_FIELDS),
    (Kind::VirtualHostOption, VIRTUAL_HOST_OPTION_FIELDS),
];

/// The fields of one of `Kind::GATEWAY_OPTIONS`; of another kind none.
fn fields(kind: Kind) -> &'static [Field] {
    TABLES.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, fields)| fields)
}

/// Whether an option of such an object guards something: the listeners that it is for answer 500.
pub fn is_guard(kind: Kind, option: &str, value: &Value) -> bool {
    !survey_gateway_option(kind, &json!({"options": {option: value}}), &mut Findings::default()).is_empty()
}

/// Looks through the fields that the `spec` of such an object sets: warnings go into `findings`, the fields that are refused come back.
pub(in crate::translate) fn survey_gateway_option(kind: Kind, spec: &impl Serialize, findings: &mut Findings) -> Vec<RefusedField> {
    survey_with(spec, fields(kind), &GUARDS, findings)
}
