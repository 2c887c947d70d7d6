//! The checks that the API server makes before it stores an object of a CRD. A manifest from a file has not passed an API server, so they
//! are made here.

mod cel;
mod check;
mod findings;
mod rule;
mod schema;

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde_json::Value;

use crate::base::Kind;

use super::{
    AffinityPolicy, AffinitySlots, GatewayParameters,
    gloo::{RouteOption, Upstream},
};
use schema::Schema;

pub(super) use findings::{Findings, Violation};

/// A schema of the binary, or why it cannot be read.
type Compiled = Result<Schema, String>;

static AFFINITY_POLICY: LazyLock<Compiled> = LazyLock::new(of_type::<AffinityPolicy>);
static AFFINITY_SLOTS: LazyLock<Compiled> = LazyLock::new(of_type::<AffinitySlots>);
static BACKEND_TLS_POLICY: LazyLock<Compiled> =
    LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/backendtlspolicies.json")));
static BACKEND_TRAFFIC_POLICY: LazyLock<Compiled> =
    LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/xbackendtrafficpolicies.json")));
static GATEWAY_CLASS: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/gatewayclasses.json")));
static GATEWAY: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/gateways.json")));
static GATEWAY_PARAMETERS: LazyLock<Compiled> = LazyLock::new(of_type::<GatewayParameters>);
static HTTP_ROUTE: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/httproutes.json")));
static GRPC_ROUTE: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/grpcroutes.json")));
static LISTENER_SET: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/listenersets.json")));
static REFERENCE_GRANT: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/referencegrants.json")));
static ROUTE_OPTION: LazyLock<Compiled> = LazyLock::new(of_type::<RouteOption>);
static TCP_ROUTE: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/tcproutes.json")));
static TLS_ROUTE: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/tlsroutes.json")));
static UDP_ROUTE: LazyLock<Compiled> = LazyLock::new(|| of_text(include_str!("../../../crds/gateway-api/udproutes.json")));
static UPSTREAM: LazyLock<Compiled> = LazyLock::new(of_type::<Upstream>);

/// Holds an object against the CRD of its kind. Of kinds without one here nothing is found.
///
/// Rules about changes (`oldSelf`) are passed over: a directory knows no before.
pub(super) fn check(kind: Kind, object: &Value) -> Findings {
    match schema(kind) {
        None => Findings::default(),
        Some(Ok(schema)) => schema.check(object),
        Some(Err(error)) => {
            let message = format!("the schema of {kind} in this binary cannot be read: {error}; please report this");
            Findings { violations: vec![Violation { field: String::new(), message }], unknown: Vec::new() }
        }
    }
}

/// Takes out what the CRD of its kind does not know, as the API server does. What a kind shares with another in this binary could be read else.
pub(super) fn prune(kind: Kind, object: &mut Value) {
    if let Some(Ok(schema)) = schema(kind) {
        schema.prune(object);
    }
}

/// What the CRD of a kind says; `None`: there is none here.
fn schema(kind: Kind) -> Option<&'static Compiled> {
    let compiled = match kind {
        Kind::AffinityPolicy => &AFFINITY_POLICY,
        Kind::AffinitySlots => &AFFINITY_SLOTS,
        Kind::BackendTlsPolicy => &BACKEND_TLS_POLICY,
        Kind::BackendTrafficPolicy => &BACKEND_TRAFFIC_POLICY,
        Kind::Gateway => &GATEWAY,
        Kind::GatewayClass => &GATEWAY_CLASS,
        Kind::GatewayParameters => &GATEWAY_PARAMETERS,
        Kind::GrpcRoute => &GRPC_ROUTE,
        Kind::HttpRoute => &HTTP_ROUTE,
        Kind::ListenerSet => &LISTENER_SET,
        Kind::ReferenceGrant => &REFERENCE_GRANT,
        Kind::RouteOption => &ROUTE_OPTION,
        Kind::TcpRoute => &TCP_ROUTE,
        Kind::TlsRoute => &TLS_ROUTE,
        Kind::UdpRoute => &UDP_ROUTE,
        Kind::Upstream => &UPSTREAM,
        Kind::ConfigMap | Kind::EndpointSlice | Kind::Namespace | Kind::Secret | Kind::Service => return None,
        // Only their targets are read, and a field that no schema knows may still be meant to guard something.
        Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption => return None,
    };
    Some(compiled)
}

fn of_text(json: &str) -> Compiled {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

fn of_type<T: CustomResourceExt>() -> Compiled {
    let version = T::crd().spec.versions.into_iter().next();
    let schema = version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema).ok_or("it is absent")?;
    let mut schema = serde_json::to_value(schema).map_err(|error| error.to_string())?;
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("status");
    }
    serde_json::from_value(schema).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
