//! GatewayClass: which classes are ours, and what they promise.

use gateway_api::experimental::gatewayclasses::GatewayClass;

use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::snapshot::Observed;
use crate::translate::{
    Condition, Options, Resources,
    condition::{self, kind, reason},
    status::{GatewayClassStatus, SupportedFeature},
};

use super::parameters_ref;

/// Features that are built, sorted; the names are Gateway API's.
const SUPPORTED_FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteNamedRouteRule",
    "GRPCRouteSessionPersistence",
    "GRPCRouteSessionPersistenceHeader",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayInfrastructure",
    "GatewayPort8080",
    "GatewayStaticAddresses",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "HTTPRouteSessionPersistence",
    "HTTPRouteSessionPersistenceCookieLifetimeTypePermanent",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

/// Versions of the Gateway API's CRDs that are served.
const SUPPORTED_MAJOR: u32 = 1;
const SUPPORTED_MINORS: std::ops::RangeInclusive<u32> = 1..=6;

/// Whether this controller answers for the class.
pub(in crate::translate) fn is_ours(class: &GatewayClass, options: &Options) -> bool {
    options.any_controller || *class.spec.controller_name == *options.controller_name
}

/// The status of a class of ours.
pub(in crate::translate) fn status(
    class: &GatewayClass,
    name: &ObjectName,
    resources: &Resources,
    observed: &Observed,
    options: &Options,
) -> GatewayClassStatus {
    let generation = class.metadata.generation;
    let reference = ObjectRef { kind: Kind::GatewayClass, name: name.clone() };
    let unread = parameters_ref::class_unread(class).map(|unread| format!("; {unread}"));
    let words = format!("Gateways of this class are served{}{}", unread.unwrap_or_default(), ending(class, options).unwrap_or_default());
    let accepted = match resources.refused(&reference) {
        Some(refused) => crate::translate::last_good::condition(refused, generation),
        None => {
            condition::from_refusal(kind::ACCEPTED, parameters_ref::class_refusal(class).as_ref(), (reason::ACCEPTED, &words), generation)
        }
    };
    let supported_features = SUPPORTED_FEATURES.iter().map(|name| SupportedFeature { name }).collect();
    let version = observed.gateway_api_version.as_deref().map(|version| supported_version(version, generation));
    GatewayClassStatus { conditions: std::iter::once(accepted).chain(version).collect(), supported_features }
}

/// What becomes of a class that is being deleted.
fn ending(class: &GatewayClass, options: &Options) -> Option<String> {
    let values = options.infrastructure.as_deref().filter(|_| class.metadata.deletion_timestamp.is_some())?;
    Some(format!(
        "; the class is being deleted: it goes when no Gateway uses it, at the latest {} s after its deletion began, and its Gateways are not \
         served any more then",
        values.service_rest.as_secs()
    ))
}

/// Whether the installed CRDs are of a version that this one was tested with.
fn supported_version(installed: &str, generation: Option<i64>) -> Condition {
    let mut numbers = installed.trim_start_matches('v').split(['.', '-']).map(|number| number.parse::<u32>().ok());
    let minor = numbers.next().zip(numbers.next()).and_then(|(major, minor)| (major? == SUPPORTED_MAJOR).then_some(minor?));
    if minor.is_some_and(|minor| SUPPORTED_MINORS.contains(&minor)) {
        let message = format!("the CRDs of the Gateway API are of version {}", word(installed));
        return condition::holds(kind::SUPPORTED_VERSION, reason::SUPPORTED_VERSION, message, generation);
    }
    let (first, last) = (SUPPORTED_MINORS.start(), SUPPORTED_MINORS.end());
    let message = format!(
        "the CRDs of the Gateway API are of version {}; expected {SUPPORTED_MAJOR}.{first} to {SUPPORTED_MAJOR}.{last}, others are \
         served as far as they are the same",
        word(installed)
    );
    condition::fails(kind::SUPPORTED_VERSION, reason::UNSUPPORTED_VERSION, message, generation)
}

/// What an operator should know about the class.
pub(in crate::translate) fn notices(class: &GatewayClass, name: &ObjectName, options: &Options) -> Vec<String> {
    let unread = parameters_ref::class_unread(class).map(|unread| format!("GatewayClass {name}: {unread}"));
    let foreign = *class.spec.controller_name != *options.controller_name;
    let foreign = (options.any_controller && foreign).then(|| {
        format!(
            "GatewayClass {name}: spec.controllerName is {}, not {}; it is served all the same, since there is no other controller here",
            word(&class.spec.controller_name),
            options.controller_name
        )
    });
    foreign.into_iter().chain(unread).collect()
}

#[cfg(test)]
mod tests {
    use super::{SUPPORTED_FEATURES, supported_version};

    #[test]
    fn the_version_of_the_crds_is_judged_by_its_numbers() {
        for (installed, expected) in [
            ("v1.6.3", "True"),
            ("v1.1.0", "True"),
            ("v1.5.1-rc.1", "True"),
            ("1.2.0", "True"),
            ("v1.7.0", "False"),
            ("v1.0.0", "False"),
            ("v2.6.0", "False"),
            ("v0.8.1", "False"),
            ("main", "False"),
            ("", "False"),
            ("v1", "False"),
        ] {
            assert_eq!(supported_version(installed, None).status, expected, "{installed}");
        }
    }

    #[test]
    fn the_features_are_sorted_unique_and_within_the_limit_of_64() {
        assert!(SUPPORTED_FEATURES.is_sorted_by(|a, b| a < b));
        assert!(SUPPORTED_FEATURES.len() <= 64);
    }
}
