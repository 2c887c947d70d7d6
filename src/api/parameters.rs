//! `clingfish.dev/v1alpha1` GatewayParameters: what the Service in front of a Gateway is to be, by the Gateway's
//! `spec.infrastructure.parametersRef`.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Uint, Unmodelled, gloo::open_object};

/// `spec` of GatewayParameters.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clingfish.dev",
    version = "v1alpha1",
    kind = "GatewayParameters",
    plural = "gatewayparameters",
    category = "gateway-api",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "What the Service in front of a Gateway is to be. A Gateway of the same namespace names it in spec.infrastructure.parametersRef.",
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParametersSpec {
    /// The Service in front of the Gateway. What is absent is as the chart's values `service.*` say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceParameters>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// What a Service is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceParameters {
    /// LoadBalancer, NodePort or ClusterIP.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Labels beside those of the chart; those of the Gateway's spec.infrastructure win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub labels: Option<BTreeMap<String, Value>>,
    /// Annotations beside those of the chart; those of the Gateway's spec.infrastructure win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "open_object")]
    pub annotations: Option<BTreeMap<String, Value>>,
    /// Local (keeps the client's address) or Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
    /// Class of the load balancer. Kubernetes lets nobody change it on a Service that is a LoadBalancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
    /// Who may reach the load balancer, such as 192.0.2.0/24.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Whether a LoadBalancer also has ports of the nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// Ports of the nodes, by port of the Gateway; for others the cluster chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_ports: Option<Vec<NodePort>>,
    /// Port of the nodes for health checks of a load balancer with externalTrafficPolicy Local. Kubernetes lets nobody change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<Uint>,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}

/// A port of the Gateway and the port of the nodes that leads to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodePort {
    /// Port of the Gateway's listeners, 1 to 65535.
    pub port: Uint,
    /// Port of the nodes, in the range that the cluster has for them.
    pub node_port: Uint,
    /// Fields that there are not: they are refused by name.
    #[serde(flatten)]
    pub other: Unmodelled,
}
