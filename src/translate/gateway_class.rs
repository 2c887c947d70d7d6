//! GatewayClass: which classes are ours, and what they promise.

use gateway_api::experimental::gatewayclasses::GatewayClass;

use crate::base::{Kind, ObjectName, ObjectRef};

use super::{
    Options, Resources,
    condition::{self, Refusal, kind, reason},
    status::{GatewayClassStatus, SupportedFeature},
};

/// Features that are built, sorted; the names are Gateway API's.
const SUPPORTED_FEATURES: &[&str] = &[
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// Whether this controller answers for the class.
pub(super) fn is_ours(class: &GatewayClass, options: &Options) -> bool {
    options.any_controller || *class.spec.controller_name == *options.controller_name
}

/// Why Gateways of the class cannot be served, if so.
pub(super) fn refusal(class: &GatewayClass) -> Option<Refusal> {
    let parameters = class.spec.parameters_ref.as_ref()?;
    Some(Refusal::new(
        reason::INVALID_PARAMETERS,
        format!(
            "spec.parametersRef: no kind of parameters is read, found {}/{} {}; remove the field",
            parameters.group, parameters.kind, parameters.name
        ),
    ))
}

/// The status of a class of ours.
pub(super) fn status(class: &GatewayClass, name: &ObjectName, resources: &Resources) -> GatewayClassStatus {
    let generation = class.metadata.generation;
    let reference = ObjectRef { kind: Kind::GatewayClass, name: name.clone() };
    let accepted = match resources.refused(&reference) {
        Some(refused) => super::last_good::condition(refused, generation),
        None => condition::from_refusal(
            kind::ACCEPTED,
            refusal(class).as_ref(),
            (reason::ACCEPTED, "Gateways of this class are served"),
            generation,
        ),
    };
    let supported_features = SUPPORTED_FEATURES.iter().map(|name| SupportedFeature { name }).collect();
    GatewayClassStatus { conditions: vec![accepted], supported_features }
}

/// What an operator should know about the class.
pub(super) fn notice(class: &GatewayClass, name: &ObjectName, options: &Options) -> Option<String> {
    let foreign = *class.spec.controller_name != *options.controller_name;
    (options.any_controller && foreign).then(|| {
        format!(
            "GatewayClass {name}: spec.controllerName is {}, not {}; served all the same, since there is no other controller here",
            class.spec.controller_name, options.controller_name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::SUPPORTED_FEATURES;

    #[test]
    fn the_features_are_sorted_unique_and_within_the_limit_of_64() {
        assert!(SUPPORTED_FEATURES.is_sorted_by(|a, b| a < b));
        assert!(SUPPORTED_FEATURES.len() <= 64);
    }
}
