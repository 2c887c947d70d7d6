//! What a Gateway's own GatewayParameters say of its Service.

use std::sync::Arc;

use gateway_api::experimental::gateways::Gateway;

use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::translate::{
    Options, Resources,
    condition::{Refusal, reason},
};

use super::{
    gateway_parameters,
    infrastructure::{InfrastructureOptions, ServiceOverrides},
    parameters_ref::of_gateway,
};

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
