//! `kube` and `static`: where the hosts come from.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use crate::api::{KubeUpstream, StaticHost, StaticUpstream};
use crate::base::{
    ObjectName,
    text::{quoted, word},
};
use crate::snapshot::TransportPort;
use crate::translate::backend::endpoints::{EndpointRules, Reach, reach, service_port};
use crate::translate::gloo::findings::Findings;

use super::{
    compiled::{CompiledHost, CompiledUpstream, UpstreamHosts},
    view::BackendView,
};

/// Resolves the Service. Comes back with an error if the Service does not exist.
pub(super) fn service_hosts(
    upstream: &ObjectName,
    kube: &KubeUpstream,
    view: &impl BackendView,
    compiled: &mut CompiledUpstream,
) -> Option<String> {
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
            upstream.namespace,
            word(&service_name.namespace),
            upstream.namespace
        ));
        return None;
    }
    let Some(service) = view.service(&service_name) else {
        return Some(format!(
            "Upstream {} references the service '{}' which does not exist in namespace '{}'",
            upstream.name,
            word(&service_name.name),
            word(&service_name.namespace)
        ));
    };
    if is_external_name(service) {
        findings
            .refuse(format!("field spec.kube.serviceName: Service {service_name} is of type ExternalName; expected one with endpoints"));
        return None;
    }
    // One Upstream has one list of hosts: where its port carries both, that of TCP.
    let port = service_port(service, TransportPort::tcp(number)).or_else(|| service_port(service, TransportPort::udp(number)));
    match port {
        Some(port) => compiled.hosts = UpstreamHosts::Service(Box::new(port.clone())),
        None => findings.warn(format!("field spec.kube.servicePort: port {number} not found on Service {service_name}")),
    }
    None
}

/// Whether requests to a Service would leave for a DNS name of its owner's choice.
pub(in crate::translate) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Takes addresses and names in.
pub(super) fn static_hosts(upstream: &StaticUpstream, rules: EndpointRules, compiled: &mut CompiledUpstream) {
    let tls_port = upstream.hosts.iter().any(|host| host.port.0 == 443);
    match upstream.use_tls {
        Some(true) => compiled.findings.refuse("field spec.static.useTls: TLS to static hosts is not built yet; expected false".to_owned()),
        None if tls_port => compiled.findings.refuse(
            "field spec.static.useTls is not set and a host has port 443, which means TLS; TLS to static hosts is not built yet: expected \
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
            findings.refuse(format!("{field}.addr is {}: expected an IP address or a DNS name", quoted(&host.addr)));
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
