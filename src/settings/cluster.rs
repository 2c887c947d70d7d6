//! Settings of `run`: what the chart says of its install and of what stands in front of Gateways.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::ValueEnum;
use ipnet::IpNet;

use super::{
    Settings,
    error::{SettingsError, refused},
};

/// Type of the Services in front of Gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ServiceType {
    /// An address from a load balancer
    #[default]
    #[value(name = "LoadBalancer")]
    LoadBalancer,
    /// A port of every node
    #[value(name = "NodePort")]
    NodePort,
    /// Reached from inside the cluster only
    #[value(name = "ClusterIP")]
    ClusterIp,
}

/// `spec.externalTrafficPolicy` of the Services in front of Gateways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TrafficPolicy {
    /// Keeps the client's address; only nodes with a pod of the gateway answer
    #[default]
    #[value(name = "Local")]
    Local,
    /// Every node answers
    #[value(name = "Cluster")]
    Cluster,
}

/// `spec.ipFamilyPolicy` of the Services in front of Gateways; no `RequireDualStack`: a cluster of one family would refuse the Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IpFamilyPolicy {
    /// An address of the cluster's first family
    #[value(name = "SingleStack")]
    SingleStack,
    /// An address of each family that the cluster has
    #[value(name = "PreferDualStack")]
    PreferDualStack,
}

/// For whom `validate` answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ValidateAs {
    /// For `clingfish run` with the flags given here
    #[default]
    Cluster,
    /// For `clingfish standalone`
    Standalone,
}

/// Whether an Upstream may name a Service of another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UpstreamCrossNamespace {
    /// Upstreams of the install namespace may; elsewhere a ReferenceGrant is needed
    ReleaseNamespace,
    /// A ReferenceGrant is always needed
    Grant,
    /// Any may, as in Gloo
    Any,
}

/// Settings of `run` as they were given.
#[derive(Clone, Debug, Default)]
pub struct RawRunSettings {
    /// `--controller-name`.
    pub controller_name: String,
    /// `--install-namespace`.
    pub install_namespace: String,
    /// `--instance-name`.
    pub instance_name: String,
    /// `--owner-config-map`.
    pub owner_config_map: String,
    /// `--pod-name`.
    pub pod_name: Option<String>,
    /// `--pod-ips`.
    pub pod_ips: Vec<IpAddr>,
    /// `--pod-selector`.
    pub pod_selector: String,
    /// `--gloo`.
    pub gloo: bool,
    /// `--service-type`.
    pub service_type: ServiceType,
    /// `--external-traffic-policy`.
    pub external_traffic_policy: TrafficPolicy,
    /// `--ip-family-policy`.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// `--service-annotations`.
    pub service_annotations: String,
    /// `--service-labels`.
    pub service_labels: String,
    /// `--load-balancer-source-ranges`.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `--allocate-load-balancer-node-ports`.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// `--service-rest`.
    pub service_rest: Duration,
    /// `--load-balancer-class`.
    pub load_balancer_class: Option<String>,
    /// `--extra-services`.
    pub extra_services: bool,
    /// `--node-addresses`.
    pub node_addresses: bool,
    /// `--class-finalizer`.
    pub class_finalizer: bool,
    /// `--upstream-cross-namespace`.
    pub upstream_cross_namespace: Option<UpstreamCrossNamespace>,
    /// `--secret-namespaces`.
    pub secret_namespaces: Vec<String>,
    /// `--cluster-domain`.
    pub cluster_domain: String,
    /// `--admin-local`.
    pub admin_local: Option<SocketAddr>,
}

/// Settings of `run`, validated.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// What all serving commands share; `admin` is the port that others reach.
    pub serve: Settings,
    /// The admin port on loopback, which shows everything.
    pub admin_local: SocketAddr,
    /// Our controllerName.
    pub controller_name: Box<str>,
    /// Namespace of the gateway's pods.
    pub install_namespace: Box<str>,
    /// Name of the install: of its Lease and its ConfigMap of ports.
    pub instance_name: Box<str>,
    /// The chart's ConfigMap with which everything that is written is deleted.
    pub owner_config_map: Box<str>,
    /// Name of this process in the Lease.
    pub identity: Box<str>,
    /// Addresses of this pod.
    pub pod_ips: [Option<IpAddr>; 2],
    /// Labels of the gateway's pods.
    pub pod_selector: BTreeMap<String, String>,
    /// Names and permissions as Gloo has them.
    pub gloo: bool,
    /// Type of the Services in front of Gateways.
    pub service_type: ServiceType,
    /// Their `spec.externalTrafficPolicy`.
    pub external_traffic_policy: TrafficPolicy,
    /// Their `spec.ipFamilyPolicy`; `None`: the cluster's default.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Their annotations.
    pub service_annotations: BTreeMap<String, String>,
    /// Their labels.
    pub service_labels: BTreeMap<String, String>,
    /// Their `spec.loadBalancerSourceRanges`; empty: those that a Service has.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// Their `spec.allocateLoadBalancerNodePorts`; `None`: what a Service has.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// How long one that is not wanted any more is kept.
    pub service_rest: Duration,
    /// Their `spec.loadBalancerClass`.
    pub load_balancer_class: Option<Box<str>>,
    /// Gateways in other namespaces get an ExternalName Service there.
    pub extra_services: bool,
    /// Nodes are watched, and NodePort Services are reached at their addresses.
    pub node_addresses: bool,
    /// GatewayClasses that Gateways use have a finalizer.
    pub class_finalizer: bool,
    /// Whether an Upstream may name a Service of another namespace.
    pub upstream_cross_namespace: UpstreamCrossNamespace,
    /// Namespaces whose Secrets may be listed and watched.
    pub secret_namespaces: Vec<Box<str>>,
    /// DNS domain of the cluster.
    pub cluster_domain: Box<str>,
}

// === impl RawRunSettings ===

impl RawRunSettings {
    /// Addresses on which a pod with these addresses listens: all of its families.
    pub fn wildcard(&self) -> IpAddr {
        if self.pod_ips.iter().any(IpAddr::is_ipv6) { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
    }

    /// Validates and fills in defaults.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn validate(self, mut serve: Settings) -> Result<RunSettings, SettingsError> {
        let mut ips = self.pod_ips.iter().copied();
        let pod_ips = [ips.next(), ips.next()];
        let admin_local = self.admin_local.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9902));
        if !admin_local.ip().is_loopback() {
            return Err(refused("--admin-local", format!("{admin_local} is not on loopback; this port shows the whole configuration")));
        }
        let identity = self.pod_name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("process-{}", std::process::id()));
        if let Some(tracing) = &mut serve.tracing {
            super::tracing::name_pod(tracing, &self.install_namespace, &identity);
        }
        Ok(RunSettings {
            serve,
            admin_local,
            controller_name: required("--controller-name", self.controller_name)?,
            install_namespace: required("--install-namespace", self.install_namespace)?,
            instance_name: required("--instance-name", self.instance_name)?,
            owner_config_map: required("--owner-config-map", self.owner_config_map)?,
            identity: identity.into(),
            pod_ips,
            pod_selector: selector(&self.pod_selector)?,
            gloo: self.gloo,
            service_type: self.service_type,
            external_traffic_policy: self.external_traffic_policy,
            service_rest: self.service_rest,
            ip_family_policy: self.ip_family_policy,
            service_annotations: strings("--service-annotations", &self.service_annotations)?,
            service_labels: strings("--service-labels", &self.service_labels)?,
            load_balancer_source_ranges: self.load_balancer_source_ranges,
            allocate_load_balancer_node_ports: self.allocate_load_balancer_node_ports,
            load_balancer_class: self.load_balancer_class.filter(|class| !class.is_empty()).map(Into::into),
            extra_services: self.extra_services,
            class_finalizer: self.class_finalizer,
            node_addresses: self.node_addresses,
            upstream_cross_namespace: UpstreamCrossNamespace::or_default(self.upstream_cross_namespace, self.gloo),
            secret_namespaces: self.secret_namespaces.into_iter().filter(|name| !name.is_empty()).map(Into::into).collect(),
            cluster_domain: required("--cluster-domain", self.cluster_domain)?,
        })
    }
}

fn required(flag: &'static str, value: String) -> Result<Box<str>, SettingsError> {
    if value.is_empty() { Err(refused(flag, "must not be empty".into())) } else { Ok(value.into()) }
}

/// Labels or annotations.
fn strings(flag: &'static str, json: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    serde_json::from_str(json)
        .map_err(|error| refused(flag, format!("{error}; expected a JSON object of strings, for example {{\"name\": \"value\"}}")))
}

// === impl UpstreamCrossNamespace ===

impl UpstreamCrossNamespace {
    /// What holds where this was given, or nothing.
    pub fn or_default(given: Option<Self>, gloo: bool) -> Self {
        given.unwrap_or(if gloo { Self::Any } else { Self::ReleaseNamespace })
    }
}

/// `key=value,key=value`.
fn selector(text: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    let expected = || refused("--pod-selector", format!("{text:?} is no selector; expected key=value, several separated by commas"));
    let labels: Option<BTreeMap<_, _>> =
        text.split(',').map(|label| label.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))).collect();
    labels.filter(|labels| labels.keys().all(|key| !key.is_empty())).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::RawSettings;

    fn raw() -> RawRunSettings {
        RawRunSettings {
            controller_name: "clingfish.dev/gateway-controller".into(),
            install_namespace: "system".into(),
            instance_name: "clingfish".into(),
            owner_config_map: "clingfish-install".into(),
            service_rest: Duration::from_secs(60),
            pod_selector: "app.kubernetes.io/name=clingfish, b=".into(),
            service_annotations: "{\"a\": \"1\"}".into(),
            service_labels: "{\"l\": \"2\"}".into(),
            cluster_domain: "cluster.local".into(),
            ..Default::default()
        }
    }

    fn validate(raw: RawRunSettings) -> Result<RunSettings, SettingsError> {
        raw.validate(RawSettings::default().validate().unwrap())
    }

    #[test]
    fn defaults_follow_the_gloo_switch() {
        let settings = validate(raw()).unwrap();
        assert_eq!(
            settings.pod_selector,
            BTreeMap::from([("app.kubernetes.io/name".into(), "clingfish".into()), ("b".into(), String::new())])
        );
        assert_eq!((&*settings.service_annotations["a"], &*settings.service_labels["l"]), ("1", "2"));
        assert_eq!((settings.admin_local.to_string().as_str(), settings.pod_ips), ("127.0.0.1:9902", [None; 2]));
        for (gloo, given, expected) in [
            (false, None, UpstreamCrossNamespace::ReleaseNamespace),
            (true, None, UpstreamCrossNamespace::Any),
            (true, Some(UpstreamCrossNamespace::Grant), UpstreamCrossNamespace::Grant),
        ] {
            let settings = validate(RawRunSettings { gloo, upstream_cross_namespace: given, ..raw() }).unwrap();
            assert_eq!(settings.upstream_cross_namespace, expected);
        }
    }

    #[test]
    fn a_refused_setting_names_its_flag() {
        for (raw, flag) in [
            (RawRunSettings { install_namespace: String::new(), ..raw() }, "--install-namespace"),
            (RawRunSettings { service_annotations: "a=b".into(), ..raw() }, "--service-annotations"),
            (RawRunSettings { service_labels: "{\"a\": 1}".into(), ..raw() }, "--service-labels"),
            (RawRunSettings { pod_selector: "a".into(), ..raw() }, "--pod-selector"),
            (RawRunSettings { admin_local: Some("0.0.0.0:9902".parse().unwrap()), ..raw() }, "--admin-local"),
        ] {
            assert_eq!(validate(raw).unwrap_err().flag, flag);
        }
    }

    #[test]
    fn a_pod_with_an_ipv6_address_listens_on_both_families() {
        for (ips, wildcard) in [(vec![], "0.0.0.0"), (vec!["10.0.0.1"], "0.0.0.0"), (vec!["10.0.0.1", "fd00::1"], "::")] {
            let pod_ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(RawRunSettings { pod_ips, ..raw() }.wildcard().to_string(), wildcard);
        }
    }
}
