//! Parameters of GatewayClasses and Gateways. None are read. Gloo's GatewayParameters, which Gloo's own classes name, are left aside with a
//! word; any other kind is refused, as the Gateway API asks.

use gateway_api::experimental::{gatewayclasses::GatewayClass, gateways::Gateway};

use crate::base::text::word;

use super::condition::{Refusal, reason};

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

/// Why the Gateway cannot be served, if so.
pub(super) fn gateway_refusal(gateway: &Gateway) -> Option<Refusal> {
    of_gateway(gateway)?.refusal()
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
        let Self { field, group, kind, name } = self;
        let found = format!("{}/{} {}", word(group), word(kind), word(name));
        let refusal =
            || Refusal::new(reason::INVALID_PARAMETERS, format!("{field}: parameters are not supported, found {found}; remove the field"));
        (!self.is_gloos()).then(refusal)
    }
}
