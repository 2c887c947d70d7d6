//! Upstream: where requests go and how a host is chosen. Every field is honoured, answered with a warning, or refused by name.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use crate::api::{ConnectionConfig, KubeUpstream, LoadBalancerConfig, StaticHost, StaticUpstream, Upstream, UpstreamSpec, object_name};
use crate::base::ObjectName;
use crate::lb::{BalancerConfig, MaglevConfig, Policy, RingConfig};
use crate::snapshot::ConnectionOptions;

use crate::translate::endpoints::{EndpointRules, Reach, reach, service_port};
use crate::translate::gloo_fields::{UPSTREAM_FIELDS, survey};
use crate::translate::gloo_status::Findings;

/// Envoy's default of `choice_count`.
const DEFAULT_CHOICE_COUNT: u64 = 2;

/// Hosts looked at for one request, at most: more would cost time without a better choice.
const MAX_CHOICE_COUNT: u64 = 128;

/// What `idleTimeout: 0s` (never) counts as: no connection outlives a day unused.
const LONGEST_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// What translation of backends reads.
pub trait BackendView {
    /// The Service of this name.
    fn service(&self, name: &ObjectName) -> Option<&Service>;
    /// The EndpointSlices of the Service (by label `kubernetes.io/service-name`), in any order.
    fn slices(&self, service: &ObjectName) -> Vec<&EndpointSlice>;
    /// Whether Upstreams of `namespace` may name this Service of another namespace.
    fn may_reference(&self, namespace: &str, service: &ObjectName) -> bool;
    /// Addresses of a DNS name; `None`: not resolved yet.
    fn dns(&self, name: &str) -> Option<Arc<[IpAddr]>>;
}

/// How the hosts of a backend are chosen and reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterSettings {
    /// How a host is chosen.
    pub balancer: BalancerConfig,
    /// How it is reached.
    pub connection: ConnectionOptions,
    /// Let pooled connections go when the set of hosts changes.
    pub close_connections_on_host_set_change: bool,
    /// Hash the hosts' names, not their addresses.
    pub hash_hostnames: bool,
}

/// A compiled Upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CompiledUpstream {
    /// How hosts are chosen and reached.
    pub settings: ClusterSettings,
    /// Where they come from.
    pub hosts: UpstreamHosts,
    /// Requests are answered 500; why.
    pub refused: Option<Box<str>>,
    /// For the status.
    pub findings: Findings,
    /// The Service named, whether it exists or not: the Upstream depends on it, on grants in its namespace, and on its slices.
    pub service: Option<ObjectName>,
    /// DNS names of static hosts, to be resolved; the Upstream depends on them.
    pub dns_names: BTreeSet<Box<str>>,
}

/// Where the hosts of an Upstream come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum UpstreamHosts {
    /// None: the Upstream is refused, or its Service or port does not exist.
    #[default]
    None,
    /// The endpoints of this port of `CompiledUpstream::service`.
    Service(Box<ServicePort>),
    /// Addresses and names.
    Static(Box<[CompiledHost]>),
}

/// A host of a static Upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledHost {
    /// As written: the key with `useHostnameForHashing`.
    pub name: Box<str>,
    /// The address, if `name` is one; else `name` is to be resolved.
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Weight, at least 1.
    pub weight: u32,
}

/// Compiles an Upstream.
pub fn compile(upstream: &Upstream, view: &impl BackendView, rules: EndpointRules) -> CompiledUpstream {
    let spec = &upstream.spec;
    let name = object_name(&upstream.metadata);
    let mut compiled = CompiledUpstream::default();
    for field in survey(spec, UPSTREAM_FIELDS, &mut compiled.findings) {
        compiled.findings.refuse(field.message);
    }
    if spec.use_http2 == Some(true) {
        compiled.findings.warn("field spec.useHttp2 is accepted but not applied: the hosts are spoken to in HTTP/1.1".to_owned());
    }
    settings(spec, &mut compiled);
    let awaited = match (&spec.kube, &spec.static_hosts) {
        (Some(_), Some(_)) => {
            compiled.findings.refuse("fields spec.kube and spec.static are both set: expected one of them".to_owned());
            None
        }
        (None, None) => {
            // A backend of another kind was refused by name already.
            if compiled.findings.errors.is_empty() {
                compiled.findings.refuse("neither spec.kube nor spec.static is set: expected one of them".to_owned());
            }
            None
        }
        (Some(kube), None) => service_hosts(&name, kube, view, &mut compiled),
        (None, Some(hosts)) => {
            static_hosts(hosts, rules, &mut compiled);
            None
        }
    };
    if !compiled.findings.errors.is_empty() {
        compiled.refused = Some(format!("Upstream {name} is rejected: {}", compiled.findings.errors.join("; ")).into());
        compiled.hosts = UpstreamHosts::None;
    }
    // A Service that is not there yet is an error to its author, but no refusal: requests are answered 503 until it comes.
    compiled.findings.errors.extend(awaited);
    compiled
}

/// The settings that a Service's annotation `gloo.solo.io/upstream_config` gives it; of them `loadBalancerConfig` is honoured. What is wrong
/// with it comes back in words: the Service serves with the defaults then.
pub fn service_settings(service: &Service) -> (ClusterSettings, Vec<String>) {
    const ANNOTATION: &str = "gloo.solo.io/upstream_config";
    let Some(text) = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION)) else {
        return (ClusterSettings::default(), Vec::new());
    };
    let name = object_name(&service.metadata);
    let notice = |message: String| format!("Service {name}: annotation {ANNOTATION}: {message}");
    let mut json = serde_json::Deserializer::from_str(text);
    let spec: UpstreamSpec = match serde_path_to_error::deserialize(&mut json) {
        Ok(spec) => spec,
        Err(error) => return (ClusterSettings::default(), vec![notice(format!("is not the spec of an Upstream: {error}"))]),
    };
    let mut notices = Vec::new();
    let others = [(spec.kube.is_some(), "kube"), (spec.static_hosts.is_some(), "static"), (spec.use_http2.is_some(), "useHttp2")];
    let unmodelled = spec.other.keys().map(String::as_str);
    for field in others.into_iter().filter_map(|(set, field)| set.then_some(field)).chain(unmodelled) {
        notices.push(notice(format!("field {field} is not applied: expected loadBalancerConfig or connectionConfig")));
    }
    let mut compiled = CompiledUpstream::default();
    let kept = UpstreamSpec {
        load_balancer_config: spec.load_balancer_config,
        connection_config: spec.connection_config,
        ..UpstreamSpec::default()
    };
    survey(&kept, UPSTREAM_FIELDS, &mut compiled.findings);
    settings(&kept, &mut compiled);
    if kept.load_balancer_config.is_some_and(|lb| lb.use_hostname_for_hashing == Some(true)) {
        compiled.findings.refuse("field spec.loadBalancerConfig.useHostnameForHashing needs static hosts".to_owned());
    }
    notices.extend(compiled.findings.errors.iter().chain(&compiled.findings.warnings).map(|message| notice(message.clone())));
    let settings = if compiled.findings.errors.is_empty() { compiled.settings } else { ClusterSettings::default() };
    (settings, notices)
}

fn settings(spec: &UpstreamSpec, compiled: &mut CompiledUpstream) {
    if let Some(config) = &spec.load_balancer_config {
        balancer(config, compiled);
    }
    if let Some(config) = &spec.connection_config {
        connection(config, compiled);
    }
}

fn balancer(config: &LoadBalancerConfig, compiled: &mut CompiledUpstream) {
    let set = [
        (config.round_robin.is_some(), "roundRobin"),
        (config.least_request.is_some(), "leastRequest"),
        (config.random.is_some(), "random"),
        (config.ring_hash.is_some(), "ringHash"),
        (config.maglev.is_some(), "maglev"),
    ];
    let set: Vec<&str> = set.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
    if set.len() > 1 {
        compiled.findings.refuse(format!("field spec.loadBalancerConfig has {}: expected one algorithm", set.join(" and ")));
        return;
    }
    compiled.settings.balancer.policy = if let Some(least) = &config.least_request {
        least_request(least.choice_count.map_or(0, |count| count.0), compiled)
    } else if let Some(ring) = &config.ring_hash {
        let sizes = ring.ring_hash_config.clone().unwrap_or_default();
        ring_hash(sizes.minimum_ring_size.map_or(0, |size| size.0), sizes.maximum_ring_size.map_or(0, |size| size.0), compiled)
    } else if config.maglev.is_some() {
        Policy::Maglev(MaglevConfig::default())
    } else if config.random.is_some() {
        Policy::Random
    } else {
        Policy::RoundRobin
    };
    if let Some(percent) = config.healthy_panic_threshold {
        if (0.0..=100.0).contains(&percent) {
            compiled.settings.balancer.healthy_panic_threshold = percent;
        } else {
            compiled.findings.refuse(format!("field spec.loadBalancerConfig.healthyPanicThreshold is {percent}: expected 0 to 100"));
        }
    }
    if config.update_merge_window.is_some_and(|window| window.to_std().is_none()) {
        compiled.findings.refuse("field spec.loadBalancerConfig.updateMergeWindow is negative: expected 0s or more".to_owned());
    }
    compiled.settings.hash_hostnames = config.use_hostname_for_hashing == Some(true);
    compiled.settings.close_connections_on_host_set_change = config.close_connections_on_host_set_change == Some(true);
}

fn least_request(choice_count: u64, compiled: &mut CompiledUpstream) -> Policy {
    const FIELD: &str = "field spec.loadBalancerConfig.leastRequest.choiceCount";
    let choice_count = match choice_count {
        0 => DEFAULT_CHOICE_COUNT,
        1 => {
            compiled.findings.refuse(format!("{FIELD} is 1: expected 2 or more"));
            DEFAULT_CHOICE_COUNT
        }
        count if count > MAX_CHOICE_COUNT => {
            compiled.findings.warn(format!("{FIELD} is {count}, it counts as {MAX_CHOICE_COUNT}"));
            MAX_CHOICE_COUNT
        }
        count => count,
    };
    Policy::LeastRequest { choice_count: u32::try_from(choice_count).unwrap_or(u32::MAX) }
}

/// `0` is the default.
fn ring_hash(minimum: u64, maximum: u64, compiled: &mut CompiledUpstream) -> Policy {
    const FIELD: &str = "field spec.loadBalancerConfig.ringHash.ringHashConfig";
    let default = RingConfig::default();
    let or_default = |size: u64, default: u64| if size == 0 { default } else { size };
    let ring = RingConfig {
        minimum_ring_size: or_default(minimum, default.minimum_ring_size),
        maximum_ring_size: or_default(maximum, default.maximum_ring_size),
        ..default
    };
    let limit = default.maximum_ring_size;
    for (name, size) in [("minimumRingSize", ring.minimum_ring_size), ("maximumRingSize", ring.maximum_ring_size)] {
        if size > limit {
            compiled.findings.refuse(format!("{FIELD}.{name} is {size}: expected at most {limit}"));
            return Policy::RingHash(default);
        }
    }
    if ring.minimum_ring_size > ring.maximum_ring_size {
        let origin = |size: u64| if size == 0 { " (default)" } else { "" };
        compiled.findings.refuse(format!(
            "{FIELD}.minimumRingSize is {}{} and maximumRingSize is {}{}: expected a minimum that is not greater than the maximum",
            ring.minimum_ring_size,
            origin(minimum),
            ring.maximum_ring_size,
            origin(maximum)
        ));
        return Policy::RingHash(default);
    }
    Policy::RingHash(ring)
}

fn connection(config: &ConnectionConfig, compiled: &mut CompiledUpstream) {
    let options = &mut compiled.settings.connection;
    options.max_requests_per_connection =
        config.max_requests_per_connection.filter(|max| max.0 != 0).map(|max| u32::try_from(max.0).unwrap_or(u32::MAX));
    if let Some(timeout) = config.connect_timeout {
        match timeout.to_std().filter(|timeout| !timeout.is_zero()) {
            Some(timeout) => options.connect_timeout = timeout,
            None => compiled.findings.refuse(format!("field spec.connectionConfig.connectTimeout is {timeout}: expected more than 0s")),
        }
    }
    if let Some(timeout) = config.common_http_protocol_options.as_ref().and_then(|common| common.idle_timeout) {
        match timeout.to_std() {
            Some(Duration::ZERO) => options.idle_timeout = LONGEST_IDLE,
            Some(timeout) => options.idle_timeout = timeout.min(LONGEST_IDLE),
            None => compiled
                .findings
                .refuse(format!("field spec.connectionConfig.commonHttpProtocolOptions.idleTimeout is {timeout}: expected 0s or more")),
        }
    }
}

/// Resolves the Service. Comes back with an error if the Service does not exist.
fn service_hosts(upstream: &ObjectName, kube: &KubeUpstream, view: &impl BackendView, compiled: &mut CompiledUpstream) -> Option<String> {
    let findings = &mut compiled.findings;
    if compiled.settings.hash_hostnames {
        findings.refuse(
            "field spec.loadBalancerConfig.useHostnameForHashing: endpoints of a Service have no hostnames; expected false, or spec.static"
                .to_owned(),
        );
    }
    for (value, name) in [(&kube.service_name, "serviceName"), (&kube.service_namespace, "serviceNamespace")] {
        if value.is_empty() {
            findings.refuse(format!("field spec.kube.{name} is empty: expected the {name} of a Service"));
        }
    }
    let Some(number) = u16::try_from(kube.service_port.0).ok().filter(|number| *number != 0) else {
        findings.refuse(format!("field spec.kube.servicePort is {}: expected 1 to 65535", kube.service_port.0));
        return None;
    };
    if kube.service_name.is_empty() || kube.service_namespace.is_empty() {
        return None;
    }
    let service_name = ObjectName::new(kube.service_namespace.as_str(), kube.service_name.as_str());
    compiled.service = Some(service_name.clone());
    // Permission first: whether a Service exists is not told to those who may not use it.
    if service_name.namespace != upstream.namespace && !view.may_reference(&upstream.namespace, &service_name) {
        findings.refuse(format!(
            "field spec.kube.serviceNamespace: Upstreams of namespace {} may not use Service {service_name}; expected a ReferenceGrant in \
             namespace {} from Upstream (gloo.solo.io) of namespace {} to Service",
            upstream.namespace, service_name.namespace, upstream.namespace
        ));
        return None;
    }
    let Some(service) = view.service(&service_name) else {
        return Some(format!(
            "Upstream {} references the service '{}' which does not exist in namespace '{}'",
            upstream.name, service_name.name, service_name.namespace
        ));
    };
    if is_external_name(service) {
        findings
            .refuse(format!("field spec.kube.serviceName: Service {service_name} is of type ExternalName; expected one with endpoints"));
        return None;
    }
    match service_port(service, number) {
        Some(port) => compiled.hosts = UpstreamHosts::Service(Box::new(port.clone())),
        None => findings.warn(format!("field spec.kube.servicePort: port {number} not found on Service {service_name}")),
    }
    None
}

/// Whether requests to a Service would leave for a DNS name of its owner's choice.
pub(super) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn static_hosts(upstream: &StaticUpstream, rules: EndpointRules, compiled: &mut CompiledUpstream) {
    let tls_port = upstream.hosts.iter().any(|host| host.port.0 == 443);
    match upstream.use_tls {
        Some(true) => compiled.findings.refuse("field spec.static.useTls: TLS to backends is not built yet; expected false".to_owned()),
        None if tls_port => compiled.findings.refuse(
            "field spec.static.useTls is not set and a host has port 443, which means TLS; TLS to backends is not built yet: expected \
             useTls: false for plain text"
                .to_owned(),
        ),
        Some(false) | None => {}
    }
    if upstream.hosts.is_empty() {
        compiled.findings.refuse("field spec.static.hosts is empty: expected at least one host".to_owned());
    }
    let hosts: Vec<CompiledHost> = upstream
        .hosts
        .iter()
        .enumerate()
        .filter_map(|(index, host)| static_host(host, rules, &mut compiled.findings, &format!("field spec.static.hosts[{index}]")))
        .collect();
    compiled.dns_names = hosts.iter().filter(|host| host.address.is_none()).map(|host| host.name.clone()).collect();
    compiled.hosts = UpstreamHosts::Static(hosts.into());
}

fn static_host(host: &StaticHost, rules: EndpointRules, findings: &mut Findings, field: &str) -> Option<CompiledHost> {
    let port = u16::try_from(host.port.0).ok().filter(|port| *port != 0);
    if port.is_none() {
        findings.refuse(format!("{field}.port is {}: expected 1 to 65535", host.port.0));
    }
    let weight = host.load_balancing_weight.map_or(1, |weight| weight.0);
    let weight = u32::try_from(weight).ok().filter(|weight| *weight != 0);
    if weight.is_none() {
        findings.refuse(format!("{field}.loadBalancingWeight: expected 1 to {}", u32::MAX));
    }
    let literal = host.addr.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host.addr);
    let address = literal.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
    match address.map(|ip| reach(ip, rules)) {
        Some(Reach::Forbidden) => {
            findings.refuse(format!("{field}.addr is {}: expected neither a loopback nor a link-local address", host.addr));
            return None;
        }
        Some(Reach::NoRoute) => {
            findings.warn(format!("{field}.addr is {}: left out, there is no IPv6 address here to reach it from", host.addr));
            return None;
        }
        None if !is_dns_name(&host.addr) => {
            findings.refuse(format!("{field}.addr is {:?}: expected an IP address or a DNS name", host.addr));
            return None;
        }
        Some(Reach::Reachable) | None => {}
    }
    let name = if address.is_some() { host.addr.clone() } else { host.addr.to_ascii_lowercase() };
    Some(CompiledHost { name: name.into(), address, port: port?, weight: weight? })
}

/// Labels of letters, digits, `-` and `_`, at most 253 characters; not all digits, which would be a broken address.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label) && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

// === impl CompiledUpstream ===

impl CompiledUpstream {
    /// Whether a host is chosen by a hash of the request.
    pub fn uses_hash(&self) -> bool {
        matches!(self.settings.balancer.policy, Policy::RingHash(_) | Policy::Maglev(_))
    }
}

#[cfg(test)]
pub(super) mod tests;
