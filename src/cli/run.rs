//! Flags of `run`: in a cluster the chart gives them as environment variables.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::{ArgAction, Args};
use ipnet::IpNet;

use crate::settings::{IpFamilyPolicy, RawRunSettings, RunSettings, ServiceType, SettingsError, TrafficPolicy, UpstreamCrossNamespace};

use super::{duration::duration, serve::ServeArgs};

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// spec.controllerName of the GatewayClasses that are served
    #[arg(long, env = "CLINGFISH_CONTROLLER_NAME", value_name = "NAME", default_value = "clingfish.dev/gateway-controller")]
    pub controller_name: String,
    /// Namespace of the gateway's pods, of their Services, of the Lease and of the ConfigMap of ports
    #[arg(long, env = "CLINGFISH_INSTALL_NAMESPACE", value_name = "NAMESPACE", default_value = "clingfish-system")]
    pub install_namespace: String,
    /// Name of the Lease and of the ConfigMap of ports
    #[arg(long, env = "CLINGFISH_INSTANCE_NAME", value_name = "NAME", default_value = "clingfish")]
    pub instance_name: String,
    /// The ConfigMap that owns the objects that Clingfish makes in the install namespace: Kubernetes deletes them when it is deleted
    #[arg(long, env = "CLINGFISH_OWNER_CONFIG_MAP", value_name = "NAME", default_value = "clingfish-install")]
    pub owner_config_map: String,
    /// Name of this pod, which is its identity in the Lease [default: made from the process id]
    #[arg(long, env = "CLINGFISH_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Addresses of this pod. No request is forwarded to them. If one is IPv6, listeners listen on IPv6 too
    #[arg(long, env = "CLINGFISH_POD_IPS", value_name = "IP,...", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// Labels that select the gateway's pods
    #[arg(long, env = "CLINGFISH_POD_SELECTOR", value_name = "KEY=VALUE,...", default_value = "app.kubernetes.io/name=clingfish")]
    pub pod_selector: String,
    /// Use Gloo Gateway's Service names, status keys and permissions
    #[arg(long, env = "CLINGFISH_GLOO", value_name = "BOOL", action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true")]
    pub gloo: bool,
    /// Type of the Service in front of each Gateway
    #[arg(long, env = "CLINGFISH_SERVICE_TYPE", value_enum, default_value_t = ServiceType::LoadBalancer)]
    pub service_type: ServiceType,
    /// spec.externalTrafficPolicy of these Services
    #[arg(long, env = "CLINGFISH_EXTERNAL_TRAFFIC_POLICY", value_enum, default_value_t = TrafficPolicy::Local)]
    pub external_traffic_policy: TrafficPolicy,
    /// spec.ipFamilyPolicy of these Services [default: the cluster's]
    #[arg(long, env = "CLINGFISH_IP_FAMILY_POLICY", value_enum)]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// How long a Service is kept whose Gateway is gone because its class is gone, so that both can come back to the same address
    #[arg(long, env = "CLINGFISH_SERVICE_REST", value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub service_rest: Duration,
    /// Annotations of these Services
    #[arg(long, env = "CLINGFISH_SERVICE_ANNOTATIONS", value_name = "JSON", default_value = "{}")]
    pub service_annotations: String,
    /// Labels of these Services
    #[arg(long, env = "CLINGFISH_SERVICE_LABELS", value_name = "JSON", default_value = "{}")]
    pub service_labels: String,
    /// spec.loadBalancerSourceRanges of these Services [default: what each one has]
    #[arg(long, env = "CLINGFISH_LOAD_BALANCER_SOURCE_RANGES", value_name = "CIDR,...", value_delimiter = ',')]
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// spec.allocateLoadBalancerNodePorts of these Services [default: what each one has]
    #[arg(long, env = "CLINGFISH_ALLOCATE_LOAD_BALANCER_NODE_PORTS", value_name = "BOOL")]
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// spec.loadBalancerClass of these Services
    #[arg(long, env = "CLINGFISH_LOAD_BALANCER_CLASS", value_name = "NAME")]
    pub load_balancer_class: Option<String>,
    /// Give a Gateway in another namespace a Service of type ExternalName there
    #[arg(long, env = "CLINGFISH_EXTRA_SERVICES", value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub extra_services: bool,
    /// Watch nodes, so that Gateways behind Services of type NodePort report the nodes' addresses and not cluster IPs
    #[arg(long, env = "CLINGFISH_NODE_ADDRESSES", value_name = "BOOL", action = ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true")]
    pub node_addresses: bool,
    /// Keep a finalizer on GatewayClasses that Gateways use, so that one which is deleted by mistake is held for --service-rest
    #[arg(long, env = "CLINGFISH_CLASS_FINALIZER", value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub class_finalizer: bool,
    /// Whether an Upstream may name a Service of another namespace [default: any with --gloo, else release-namespace]
    #[arg(long, env = "CLINGFISH_UPSTREAM_CROSS_NAMESPACE", value_enum)]
    pub upstream_cross_namespace: Option<UpstreamCrossNamespace>,
    /// Namespaces whose Secrets may be listed and watched; Secrets of other namespaces are read by name every 10 s, or less often if they are many
    #[arg(long, env = "CLINGFISH_SECRET_NAMESPACES", value_name = "NAMESPACE,...", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
    /// DNS domain of the cluster
    #[arg(long, env = "CLINGFISH_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Loopback address of the admin server that shows everything; the one at --admin has probes and metrics only [default: 127.0.0.1:9902]
    #[arg(long, env = "CLINGFISH_ADMIN_LOCAL", value_name = "ADDRESS")]
    pub admin_local: Option<SocketAddr>,
    /// Address that all listeners listen on [default: 0.0.0.0, or :: if the pod has an IPv6 address]
    #[arg(long, env = "CLINGFISH_BIND", value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// What all serving commands share.
    #[command(flatten)]
    pub serve: ServeArgs,
}

// === impl RunArgs ===

impl RunArgs {
    /// The validated settings.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn settings(self) -> Result<RunSettings, SettingsError> {
        let Self { mut serve, bind, .. } = self;
        let raw = RawRunSettings {
            controller_name: self.controller_name,
            install_namespace: self.install_namespace,
            instance_name: self.instance_name,
            owner_config_map: self.owner_config_map,
            pod_name: self.pod_name,
            pod_ips: self.pod_ips,
            pod_selector: self.pod_selector,
            gloo: self.gloo,
            service_type: self.service_type,
            external_traffic_policy: self.external_traffic_policy,
            service_rest: self.service_rest,
            ip_family_policy: self.ip_family_policy,
            service_annotations: self.service_annotations,
            service_labels: self.service_labels,
            load_balancer_source_ranges: self.load_balancer_source_ranges,
            allocate_load_balancer_node_ports: self.allocate_load_balancer_node_ports,
            load_balancer_class: self.load_balancer_class,
            extra_services: self.extra_services,
            class_finalizer: self.class_finalizer,
            node_addresses: self.node_addresses,
            upstream_cross_namespace: self.upstream_cross_namespace,
            secret_namespaces: self.secret_namespaces,
            cluster_domain: self.cluster_domain,
            admin_local: self.admin_local,
        };
        let wildcard = raw.wildcard();
        serve.admin.get_or_insert_with(|| SocketAddr::new(wildcard, 9901));
        raw.validate(serve.settings(Some(bind.unwrap_or(wildcard)))?)
    }
}
