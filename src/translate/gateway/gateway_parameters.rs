//! GatewayParameters: what they say of a Gateway's Service. A value that cannot be used is refused with its field, and nothing of the
//! object is used then.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde_json::Value;

use crate::api::{GatewayParameters, NodePort, ServiceParameters, Uint, Unmodelled};
use crate::base::text::{quoted, word};

use super::infrastructure::{ExternalTrafficPolicy, InfrastructureOptions, ServiceOverrides, ServiceType};

/// Most characters of a label's value, and of the name in a key (Kubernetes).
const MAX_LABEL: usize = 63;
/// Most characters of the prefix of a key.
const MAX_PREFIX: usize = 253;

/// A field and what is wrong with it.
type Problem = String;

/// What the parameters say, together with the chart's values, which decide what fits.
///
/// # Errors
/// The first field that cannot be used, and what was expected.
pub(in crate::translate) fn read(parameters: &GatewayParameters, chart: &InfrastructureOptions) -> Result<ServiceOverrides, Problem> {
    unknown("spec", &parameters.spec.other)?;
    let Some(service) = &parameters.spec.service else { return Ok(ServiceOverrides::default()) };
    unknown("spec.service", &service.other)?;
    let overrides = ServiceOverrides {
        service_type: chosen("type", service.service_type.as_deref(), &SERVICE_TYPES)?,
        external_traffic_policy: chosen("externalTrafficPolicy", service.external_traffic_policy.as_deref(), &POLICIES)?,
        labels: texts("labels", service.labels.as_ref(), true)?,
        annotations: texts("annotations", service.annotations.as_ref(), false)?,
        load_balancer_class: class(service.load_balancer_class.as_deref())?,
        load_balancer_source_ranges: ranges(service)?,
        allocate_load_balancer_node_ports: service.allocate_load_balancer_node_ports,
        node_ports: node_ports(service.node_ports.as_deref().unwrap_or_default())?,
        health_check_node_port: service.health_check_node_port.map(|port| number("spec.service.healthCheckNodePort", port)).transpose()?,
    };
    fits(&overrides, &overrides.over(chart))?;
    Ok(overrides)
}

const SERVICE_TYPES: [(&str, ServiceType); 3] =
    [("LoadBalancer", ServiceType::LoadBalancer), ("NodePort", ServiceType::NodePort), ("ClusterIP", ServiceType::ClusterIP)];
const POLICIES: [(&str, ExternalTrafficPolicy); 2] = [("Local", ExternalTrafficPolicy::Local), ("Cluster", ExternalTrafficPolicy::Cluster)];

/// What the API server would refuse because of the type of the Service.
fn fits(overrides: &ServiceOverrides, effective: &InfrastructureOptions) -> Result<(), Problem> {
    let is_load_balancer = effective.service_type == ServiceType::LoadBalancer;
    let of_load_balancers = [
        ("loadBalancerClass", overrides.load_balancer_class.is_some()),
        ("loadBalancerSourceRanges", overrides.load_balancer_source_ranges.as_ref().is_some_and(|ranges| !ranges.is_empty())),
        ("allocateLoadBalancerNodePorts", overrides.allocate_load_balancer_node_ports.is_some()),
        ("healthCheckNodePort", overrides.health_check_node_port.is_some()),
    ];
    if let Some((field, _)) = of_load_balancers.iter().find(|(_, is_set)| *is_set && !is_load_balancer) {
        return Err(format!("spec.service.{field}: the Service is of type {:?}; expected LoadBalancer", effective.service_type));
    }
    if !overrides.node_ports.is_empty() && effective.service_type == ServiceType::ClusterIP {
        return Err("spec.service.nodePorts: the Service is of type ClusterIP; expected NodePort or LoadBalancer".to_owned());
    }
    if overrides.health_check_node_port.is_some() && effective.external_traffic_policy != ExternalTrafficPolicy::Local {
        return Err("spec.service.healthCheckNodePort: externalTrafficPolicy is Cluster; expected Local".to_owned());
    }
    Ok(())
}

fn unknown(path: &str, other: &Unmodelled) -> Result<(), Problem> {
    match other.keys().next() {
        Some(field) => Err(format!("{path}.{}: there is no such field", word(field))),
        None => Ok(()),
    }
}

fn chosen<T: Copy>(field: &str, written: Option<&str>, among: &[(&str, T)]) -> Result<Option<T>, Problem> {
    let Some(written) = written else { return Ok(None) };
    let names: Vec<&str> = among.iter().map(|(name, _)| *name).collect();
    let found = among.iter().find(|(name, _)| *name == written).map(|(_, value)| *value);
    found.map(Some).ok_or_else(|| format!("spec.service.{field}: {} is not supported; expected {}", quoted(written), names.join(", ")))
}

/// Labels or annotations.
fn texts(field: &str, written: Option<&BTreeMap<String, Value>>, are_labels: bool) -> Result<BTreeMap<String, String>, Problem> {
    let mut texts = BTreeMap::new();
    for (key, value) in written.into_iter().flatten() {
        let at = || format!("spec.service.{field}[{}]", quoted(key));
        if !is_key(key) {
            return Err(format!("{}: expected a name such as example.com/team", at()));
        }
        let Value::String(text) = value else { return Err(format!("{}: expected a text", at())) };
        if are_labels && !(text.is_empty() || is_name(text)) {
            return Err(format!("{}: {} is no label; expected at most {MAX_LABEL} letters, digits, '-', '_' and '.'", at(), quoted(text)));
        }
        texts.insert(key.clone(), text.clone());
    }
    Ok(texts)
}

/// A key of labels and annotations: a name, with or without a DNS prefix.
fn is_key(key: &str) -> bool {
    let is_prefix = |prefix: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !prefix.is_empty() && prefix.len() <= MAX_PREFIX && prefix.bytes().all(plain)
    };
    match key.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_name(name),
        None => is_name(key),
    }
}

fn is_name(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= MAX_LABEL && ends(text.bytes().next()) && ends(text.bytes().last()) && text.bytes().all(plain)
}

fn class(written: Option<&str>) -> Result<Option<Box<str>>, Problem> {
    match written {
        Some(class) if !is_key(class) => {
            Err(format!("spec.service.loadBalancerClass: {} is no class; expected a name such as example.com/internal", quoted(class)))
        }
        other => Ok(other.map(Into::into)),
    }
}

fn ranges(service: &ServiceParameters) -> Result<Option<Vec<IpNet>>, Problem> {
    let Some(written) = &service.load_balancer_source_ranges else { return Ok(None) };
    let range = |(index, text): (usize, &String)| {
        let wrong =
            || format!("spec.service.loadBalancerSourceRanges[{index}]: {} is no range; expected one such as 192.0.2.0/24", quoted(text));
        text.parse::<IpNet>().map_err(|_| wrong())
    };
    written.iter().enumerate().map(range).collect::<Result<_, _>>().map(Some)
}

fn node_ports(written: &[NodePort]) -> Result<BTreeMap<u16, u16>, Problem> {
    let (mut ports, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (index, entry) in written.iter().enumerate() {
        let path = format!("spec.service.nodePorts[{index}]");
        unknown(&path, &entry.other)?;
        let (port, node_port) = (number(&format!("{path}.port"), entry.port)?, number(&format!("{path}.nodePort"), entry.node_port)?);
        if ports.insert(port, node_port).is_some() {
            return Err(format!("{path}.port: {port} is there twice"));
        }
        if !taken.insert(node_port) {
            return Err(format!("{path}.nodePort: {node_port} is there twice"));
        }
    }
    Ok(ports)
}

fn number(path: &str, written: Uint) -> Result<u16, Problem> {
    let port = u16::try_from(written.0).ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("{path}: {} is no port; expected 1 to 65535", written.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters(service: &Value) -> GatewayParameters {
        serde_json::from_value(json!({
            "apiVersion": "clingfish.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": "p"}, "spec": {"service": service},
        }))
        .unwrap()
    }

    fn read_of(service: &Value) -> Result<ServiceOverrides, Problem> {
        read(&parameters(service), &InfrastructureOptions::default())
    }

    #[test]
    fn every_field_is_read() {
        let read = read_of(&json!({
            "type": "LoadBalancer", "labels": {"team": "edge"}, "annotations": {"example.com/a": "any text"}, "externalTrafficPolicy": "Local",
            "loadBalancerClass": "example.com/internal", "loadBalancerSourceRanges": ["192.0.2.0/24", "fd00::/8"],
            "allocateLoadBalancerNodePorts": true, "nodePorts": [{"port": 80, "nodePort": "30080"}], "healthCheckNodePort": 30099,
        }))
        .unwrap();
        let expected = ServiceOverrides {
            service_type: Some(ServiceType::LoadBalancer),
            external_traffic_policy: Some(ExternalTrafficPolicy::Local),
            labels: BTreeMap::from([("team".into(), "edge".into())]),
            annotations: BTreeMap::from([("example.com/a".into(), "any text".into())]),
            load_balancer_class: Some("example.com/internal".into()),
            load_balancer_source_ranges: Some(vec!["192.0.2.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()]),
            allocate_load_balancer_node_ports: Some(true),
            node_ports: BTreeMap::from([(80, 30_080)]),
            health_check_node_port: Some(30_099),
        };
        assert_eq!(read, expected);
        assert_eq!(read_of(&json!({})), Ok(ServiceOverrides::default()));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_field() {
        for (service, expected) in [
            (json!({"type": "ExternalName"}), "spec.service.type: "),
            (json!({"externalTrafficPolicy": "local"}), "spec.service.externalTrafficPolicy: "),
            (json!({"labels": {"a": 5}}), "spec.service.labels[\"a\"]: expected a text"),
            (json!({"labels": {"a": "b c"}}), "spec.service.labels[\"a\"]: "),
            (json!({"annotations": {"a b": "c"}}), "spec.service.annotations[\"a b\"]: "),
            (json!({"loadBalancerClass": ""}), "spec.service.loadBalancerClass: "),
            (json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.1"]}), "spec.service.loadBalancerSourceRanges[1]: "),
            (json!({"nodePorts": [{"port": 80, "nodePort": 0}]}), "spec.service.nodePorts[0].nodePort: 0 is no port"),
            (
                json!({"nodePorts": [{"port": 80, "nodePort": 1}, {"port": 80, "nodePort": 2}]}),
                "spec.service.nodePorts[1].port: 80 is there twice",
            ),
            (json!({"nodePorts": [{"port": 80, "nodePort": 1}, {"port": 81, "nodePort": 1}]}), "spec.service.nodePorts[1].nodePort: "),
            (json!({"nodePorts": [{"port": 80, "nodePort": 1, "name": "x"}]}), "spec.service.nodePorts[0].name: there is no such field"),
            (json!({"healthCheckNodePort": 70_000}), "spec.service.healthCheckNodePort: "),
            (json!({"healthCheckNodePort": 30_000, "externalTrafficPolicy": "Cluster"}), "spec.service.healthCheckNodePort: "),
            (json!({"type": "NodePort", "loadBalancerClass": "a/b"}), "spec.service.loadBalancerClass: the Service is of type NodePort"),
            (json!({"type": "ClusterIP", "nodePorts": [{"port": 80, "nodePort": 30_000}]}), "spec.service.nodePorts: "),
            (json!({"typ": "NodePort"}), "spec.service.typ: there is no such field"),
        ] {
            let problem = read_of(&service).unwrap_err();
            assert!(problem.starts_with(expected), "{service}: {problem}");
        }
        let mut odd = parameters(&json!({}));
        odd.spec.other.insert("services".into(), json!({}));
        assert_eq!(read(&odd, &InfrastructureOptions::default()), Err("spec.services: there is no such field".to_owned()));
    }

    #[test]
    fn what_fits_depends_on_the_charts_values() {
        let node_port = InfrastructureOptions { service_type: ServiceType::NodePort, ..Default::default() };
        let class = parameters(&json!({"loadBalancerClass": "a/b"}));
        assert!(read(&class, &node_port).is_err() && read(&class, &InfrastructureOptions::default()).is_ok());
    }

    #[test]
    fn the_gateways_own_values_stand_in_the_place_of_the_charts() {
        let chart = InfrastructureOptions {
            labels: BTreeMap::from([("a".into(), "chart".into()), ("b".into(), "chart".into())]),
            load_balancer_class: Some("chart/class".into()),
            ..Default::default()
        };
        let overrides = read_of(&json!({"type": "NodePort", "labels": {"b": "own"}})).unwrap();
        let effective = overrides.over(&chart);
        assert_eq!((effective.service_type, effective.load_balancer_class.as_deref()), (ServiceType::NodePort, Some("chart/class")));
        assert_eq!(effective.labels, BTreeMap::from([("a".into(), "chart".into()), ("b".into(), "own".into())]));
        assert_eq!(*ServiceOverrides::default().over(&chart), chart);
    }
}
