//! Parameters that GatewayClasses and Gateways name. Gloo's GatewayParameters, which Gloo's own classes name, are left aside with a word; of
//! a class any other kind is refused, as the Gateway API asks.

use gateway_api::experimental::{gatewayclasses::GatewayClass, gateways::Gateway};

use crate::base::text::word;
use crate::translate::condition::{Refusal, reason};

const GLOO_GROUP: &str = "gateway.gloo.solo.io";

const GLOO_KIND: &str = "GatewayParameters";

/// Annotation by which a Gateway names GatewayParameters in Gloo.
const GLOO_ANNOTATION: &str = "gateway.gloo.solo.io/gateway-parameters-name";

/// A reference to parameters.
pub(super) struct Reference<'a> {
    pub(super) field: &'static str,
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
}

/// Why Gateways of the class cannot be served, if so.
pub(in crate::translate) fn class_refusal(class: &GatewayClass) -> Option<Refusal> {
    of_class(class)?.refusal()
}

/// What of the class's parameters is left aside, if anything.
pub(super) fn class_unread(class: &GatewayClass) -> Option<String> {
    of_class(class)?.unread()
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

/// The parameters that a Gateway names by a reference.
pub(super) fn of_gateway(gateway: &Gateway) -> Option<Reference<'_>> {
    let parameters = gateway.spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let field = "spec.infrastructure.parametersRef";
    Some(Reference { field, group: &parameters.group, kind: &parameters.kind, name: &parameters.name })
}

fn unread(field: &str, name: &str) -> String {
    format!("{field}: {GLOO_KIND} {} is not read, the chart's values take its place", word(name))
}

// === impl Reference ===

impl Reference<'_> {
    /// Whether they are Gloo's.
    pub(super) fn is_gloos(&self) -> bool {
        self.group == GLOO_GROUP && self.kind == GLOO_KIND
    }

    fn unread(&self) -> Option<String> {
        self.is_gloos().then(|| unread(self.field, self.name))
    }

    fn refusal(&self) -> Option<Refusal> {
        (!self.is_gloos()).then(|| self.unsupported("remove the field"))
    }

    /// Why such parameters cannot be used.
    pub(super) fn unsupported(&self, advice: &str) -> Refusal {
        let Self { field, group, kind, name } = self;
        let found = format!("{}/{} {}", word(group), word(kind), word(name));
        Refusal::new(reason::INVALID_PARAMETERS, format!("{field}: such parameters are not supported, found {found}; {advice}"))
    }
}
