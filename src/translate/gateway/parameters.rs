//! Parameters of GatewayClasses and Gateways. Of Gateways our own GatewayParameters are read. Gloo's GatewayParameters, which Gloo's own
//! classes name, are left aside with a word; any other kind is refused, as the Gateway API asks.

use std::sync::Arc;

use gateway_api::experimental::{gatewayclasses::GatewayClass, gateways::Gateway};

use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::translate::{
    Options, Resources,
    condition::{Refusal, reason},
};

use super::{
    gateway_parameters,
    infrastructure::{InfrastructureOptions, ServiceOverrides},
};

const GLOO_GROUP: &str = "gateway.gloo.solo.io";
const GLOO_KIND: &str = "GatewayParameters";

/// Annotation by which a Gateway names GatewayParameters in Gloo.
const GLOO_ANNOTATION: &str = "gateway.gloo.solo.io/gateway-parameters-name";

/// A reference to parameters.
struct Reference<'a> {
    field: &'static str,
    group: &'a str,
    kind: &'a str,
    name: &'a str,
}

/// Why Gateways of the class cannot be served, if so.
pub(super) fn class_refusal(class: &GatewayClass) -> Option<Refusal> {
    of_class(class)?.refusal()
}

/// What of the class's parameters is left aside, if anything.
pub(super) fn class_unread(class: &GatewayClass) -> Option<String> {
    of_class(class)?.unread()
}

/// What a Gateway's own parameters say of its Service.
///
/// # Errors
/// Why they cannot be used.
pub(super) fn of_gateway_service(gateway: &Gateway, resources: &Resources, options: &Options) -> Result<Arc<ServiceOverrides>, Refusal> {
    let Some(reference) = of_gateway(gateway).filter(|reference| !reference.is_gloos()) else { return Ok(Arc::default()) };
    if reference.group != Kind::GatewayParameters.group() || reference.kind != Kind::GatewayParameters.as_str() {
        return Err(reference.unsupported(&format!("expected {}/{}", Kind::GatewayParameters.group(), Kind::GatewayParameters)));
    }
    let invalid = |why: &str| {
        Refusal::new(reason::INVALID_PARAMETERS, format!("{}: GatewayParameters {}: {why}", reference.field, word(reference.name)))
    };
    let name = ObjectName::new(gateway.metadata.namespace.as_deref().unwrap_or_default(), reference.name);
    if let Some(refused) = resources.refused(&ObjectRef { kind: Kind::GatewayParameters, name: name.clone() }) {
        return Err(invalid(refused.message.as_str()));
    }
    let parameters = resources.gateway_parameters(&name).ok_or_else(|| invalid("there is none in the Gateway's namespace"))?;
    let defaults = InfrastructureOptions::default();
    let chart = options.infrastructure.as_deref().unwrap_or(&defaults);
    gateway_parameters::read(parameters, chart).map(Arc::new).map_err(|why| invalid(&why))
}

/// What of the Gateway's parameters is left aside, if anything.
pub(super) fn gateway_unread(gateway: &Gateway) -> Option<String> {
    let annotation = gateway.metadata.annotations.as_ref().and_then(|annotations| annotations.get(GLOO_ANNOTATION));
    let by_annotation = annotation.map(|name| unread(&format!("annotation {GLOO_ANNOTATION}"), name));
    let both: Vec<String> = by_annotation.into_iter().chain(of_gateway(gateway).and_then(|reference| reference.unread())).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

fn of_class(class: &GatewayClass) -> Option<Reference<'_>> {
    let parameters = class.spec.parameters_ref.as_ref()?;
    Some(Reference { field: "spec.parametersRef", group: &parameters.group, kind: &parameters.kind, name: &parameters.name })
}

fn of_gateway(gateway: &Gateway) -> Option<Reference<'_>> {
    let parameters = gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let field = "spec.infrastructure.parametersRef";
    Some(Reference { field, group: &parameters.group, kind: &parameters.kind, name: &parameters.name })
}

fn unread(field: &str, name: &str) -> String {
    format!("{field}: {GLOO_KIND} {} is not read, the chart's values take its place", word(name))
}

// === impl Reference ===

impl Reference<'_> {
    fn is_gloos(&self) -> bool {
        self.group == GLOO_GROUP && self.kind == GLOO_KIND
    }

    fn unread(&self) -> Option<String> {
        self.is_gloos().then(|| unread(self.field, self.name))
    }

    fn refusal(&self) -> Option<Refusal> {
        (!self.is_gloos()).then(|| self.unsupported("remove the field"))
    }

    fn unsupported(&self, advice: &str) -> Refusal {
        let Self { field, group, kind, name } = self;
        let found = format!("{}/{} {}", word(group), word(kind), word(name));
        Refusal::new(reason::INVALID_PARAMETERS, format!("{field}: such parameters are not supported, found {found}; {advice}"))
    }
}
