//! Options of what stands in front of Gateways.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use serde::Serialize;

/// Options of what stands in front of Gateways: values of the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfrastructureOptions {
    /// Namespace of the gateway's pods and of the Services that select them.
    pub install_namespace: Box<str>,
    /// Name of the install: of its Lease and of its ConfigMap of ports.
    pub instance: Box<str>,
    /// The chart's ConfigMap that owns those Services.
    pub owner: Box<str>,
    /// Services are called as Gloo's are: `gloo-proxy-<gateway>` instead of `clingfish-<gateway>`.
    pub gloo_names: bool,
    /// Type of the Services.
    pub service_type: ServiceType,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: ExternalTrafficPolicy,
    /// `spec.ipFamilyPolicy`; `None`: the cluster's default.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// How long a Service is kept that is not wanted any more, unless its Gateway was deleted on purpose.
    pub service_rest: Duration,
    /// Annotations of the Services.
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Services.
    pub labels: BTreeMap<String, String>,
    /// `spec.loadBalancerSourceRanges`; empty: those that a Service has.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `spec.allocateLoadBalancerNodePorts`; `None`: what a Service has.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<Box<str>>,
    /// A Gateway in another namespace gets an ExternalName Service there.
    pub extra_services: bool,
    /// Labels that select the gateway's pods.
    pub selector: BTreeMap<String, String>,
    /// Ports of the pod that are no Gateway's.
    pub reserved_ports: BTreeSet<u16>,
    /// DNS domain of the cluster.
    pub cluster_domain: Box<str>,
    /// GatewayClasses that Gateways use have a finalizer.
    pub class_finalizer: bool,
}

/// Type of the Services in front of Gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum ServiceType {
    #[default]
    LoadBalancer,
    NodePort,
    ClusterIP,
}

/// `spec.externalTrafficPolicy` of the Services in front of Gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ExternalTrafficPolicy {
    /// Keeps the client's address: only nodes with a pod of the gateway answer.
    #[default]
    Local,
    /// Every node answers.
    Cluster,
}

/// `spec.ipFamilyPolicy` of the Services in front of Gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum IpFamilyPolicy {
    SingleStack,
    PreferDualStack,
}

// === impl InfrastructureOptions ===

impl Default for InfrastructureOptions {
    fn default() -> Self {
        Self {
            install_namespace: "clingfish-system".into(),
            instance: "clingfish".into(),
            owner: "clingfish-install".into(),
            service_rest: Duration::from_secs(60),
            gloo_names: false,
            service_type: ServiceType::default(),
            external_traffic_policy: ExternalTrafficPolicy::default(),
            ip_family_policy: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            load_balancer_source_ranges: Vec::new(),
            allocate_load_balancer_node_ports: None,
            load_balancer_class: None,
            extra_services: true,
            selector: BTreeMap::from([("app.kubernetes.io/name".into(), "clingfish".into())]),
            reserved_ports: BTreeSet::from([9_901, 9_902]),
            cluster_domain: "cluster.local".into(),
            class_finalizer: true,
        }
    }
}

impl InfrastructureOptions {
    /// Value of `INSTALL_ANNOTATION`.
    pub fn install(&self) -> String {
        format!("{}/{}", self.install_namespace, self.instance)
    }
}
