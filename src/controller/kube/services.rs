//! Services in front of Gateways as documents: what is created, what is patched, what is observed. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Map, Value, json};

use crate::base::ObjectName;
use crate::snapshot::{ObservedService, ObservedServiceType, ServiceAddress, Transport, TransportPort};
use crate::translate::infrastructure::{
    ALIAS_ANNOTATION, CLASS_ANNOTATION, DesiredService, GATEWAY_ANNOTATION, INSTALL_ANNOTATION, Infrastructure, InfrastructureOptions,
    ServiceTarget, ServiceType,
};

/// Annotation of our Services: the labels, annotations and optional fields that we set, so that those which are not wanted any more can be
/// told from those of others, such as a cloud's controller.
const PROPAGATED_ANNOTATION: &str = "clingfish.dev/propagated";

/// How long the Service of a Gateway that was deleted is kept: `kubectl replace --force` deletes, and makes it again.
const DELETED_REST: Duration = Duration::from_secs(5);

/// Fields of the spec that we set only where a value or a Gateway asks for them. Each that we set stands in `PROPAGATED_ANNOTATION`, after
/// `SPEC`, so that it is given back when nothing asks for it any more; one that somebody else set stays.
const OPTIONAL_FIELDS: [&str; 3] = ["loadBalancerIP", SOURCE_RANGES, "allocateLoadBalancerNodePorts"];
const SPEC: &str = "spec.";

/// Set only when a Service is made, or becomes a LoadBalancer: the API server refuses a change. That we set it stands in
/// `PROPAGATED_ANNOTATION` for as long as the Service has it.
const LOAD_BALANCER_CLASS: &str = "loadBalancerClass";

/// `protocol` of a port of datagrams.
const UDP: &str = Transport::Udp.as_str();

/// Chosen by the API server where nobody asks for one.
const NODE_PORT: &str = "nodePort";
const HEALTH_CHECK_NODE_PORT: &str = "healthCheckNodePort";

/// The API server refuses these where the type is not LoadBalancer. It drops the other fields of load balancers by itself.
const SOURCE_RANGES: &str = "loadBalancerSourceRanges";
const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const LOAD_BALANCER: &str = "LoadBalancer";

/// A write that brings a Service to what is desired.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    /// It does not exist.
    Create(Value),
    /// It differs: a JSON merge patch.
    Patch(Value),
    /// It is not wanted any more; with UID and resourceVersion of what was seen.
    Delete {
        /// `metadata.uid`.
        uid: String,
        /// `metadata.resourceVersion`.
        resource_version: String,
        /// How long it must have been unwanted.
        rest: Duration,
    },
}

/// The writes between what exists and what is desired. Services that are not ours are left alone; translation says so in the status.
pub(super) fn writes(
    infrastructure: &Infrastructure,
    existing: &BTreeMap<ObjectName, Value>,
    owner: Option<&OwnerReference>,
    options: &InfrastructureOptions,
) -> BTreeMap<ObjectName, Write> {
    let mut writes = BTreeMap::new();
    for (name, desired) in &infrastructure.services {
        let document = document(name, desired, owner, options);
        match existing.get(name) {
            None => drop(writes.insert(name.clone(), Write::Create(document))),
            Some(service) if gateway_of(service, options).as_ref() == Some(&desired.gateway) => {
                if let Some(patch) = patch(&document, service) {
                    writes.insert(name.clone(), Write::Patch(patch));
                }
            }
            Some(_) => {}
        }
    }
    for (name, service) in existing {
        let Some(gateway) = gateway_of(service, options) else { continue };
        if !infrastructure.services.contains_key(name) && !infrastructure.pending.contains(&gateway) {
            let text = |field: &str| service.pointer(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            let rest = rest(service, &gateway, infrastructure, options);
            let (uid, resource_version) = (text("/metadata/uid"), text("/metadata/resourceVersion"));
            writes.insert(name.clone(), Write::Delete { uid, resource_version, rest });
        }
    }
    writes
}

/// How long an unwanted Service is kept, since its address is gone with it: a Gateway that was deleted while its class stands was meant to go,
/// but may be about to be made again; one that is served by a Service of another name, or whose class is gone, may be an accident.
fn rest(service: &Value, gateway: &ObjectName, infrastructure: &Infrastructure, options: &InfrastructureOptions) -> Duration {
    let class = service.pointer("/metadata/annotations").and_then(|annotations| annotations.get(CLASS_ANNOTATION)).and_then(Value::as_str);
    let class_stands = class.is_some_and(|class| infrastructure.classes.contains(class));
    let is_served = infrastructure.services.values().any(|service| service.gateway == *gateway);
    if class_stands && !is_served { DELETED_REST.min(options.service_rest) } else { options.service_rest }
}

/// What translation needs to know of a Service.
pub(super) fn observe(service: &Value, options: &InfrastructureOptions) -> ObservedService {
    let text = |pointer: &str| service.pointer(pointer).and_then(Value::as_str);
    let list = |pointer: &str| service.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ip = |value: &Value| value.as_str()?.parse().ok().map(ServiceAddress::Ip);
    let addresses = match text("/spec/type") {
        Some("LoadBalancer") => list("/status/loadBalancer/ingress")
            .iter()
            .filter_map(|entry| {
                let hostname = || Some(ServiceAddress::Hostname(entry.get("hostname")?.as_str()?.into()));
                entry.get("ip").and_then(ip).or_else(hostname)
            })
            .collect(),
        Some("ExternalName") => Vec::new(),
        _ => list("/spec/clusterIPs").iter().filter_map(ip).collect(),
    };
    let number = |port: &Value, field: &str| u16::try_from(port.get(field)?.as_u64()?).ok();
    let leads_to = |port: &Value| number(port, "targetPort").filter(|_| text("/spec/type") != Some("ExternalName")).unwrap_or_default();
    let port_of = |port: &Value| {
        let transport = if port.get("protocol").is_some_and(|protocol| protocol == UDP) { Transport::Udp } else { Transport::Tcp };
        Some(TransportPort { number: number(port, "port")?, transport })
    };
    let ports = list("/spec/ports").iter().filter_map(|port| Some((port_of(port)?, leads_to(port)))).collect();
    ObservedService {
        gateway: gateway_of(service, options),
        addresses,
        deleting: text("/metadata/deletionTimestamp").is_some(),
        ports,
        is_alias: service.pointer("/metadata/annotations").is_some_and(|annotations| annotations.get(ALIAS_ANNOTATION).is_some()),
        service_type: match text("/spec/type") {
            Some("LoadBalancer") => ObservedServiceType::LoadBalancer,
            Some("NodePort") => ObservedServiceType::NodePort,
            Some("ExternalName") => ObservedServiceType::ExternalName,
            _ => ObservedServiceType::ClusterIP,
        },
        load_balancer_class: text("/spec/loadBalancerClass").map(Into::into),
        class_is_ours: has_class_of_ours(service),
        health_check_node_port: number(service.get("spec").unwrap_or(&Value::Null), HEALTH_CHECK_NODE_PORT).filter(|port| *port != 0),
    }
}

fn has_class_of_ours(service: &Value) -> bool {
    propagated(service).any(|key| key.strip_prefix(SPEC) == Some(LOAD_BALANCER_CLASS))
}

/// The Gateway that a Service of ours is for; `None`: it is not ours.
fn gateway_of(service: &Value, options: &InfrastructureOptions) -> Option<ObjectName> {
    let annotations = service.pointer("/metadata/annotations")?;
    if annotations.get(INSTALL_ANNOTATION)?.as_str()? != options.install() {
        return None;
    }
    let (namespace, name) = annotations.get(GATEWAY_ANNOTATION)?.as_str()?.split_once('/')?;
    Some(ObjectName::new(namespace, name))
}

/// The whole Service.
fn document(name: &ObjectName, desired: &DesiredService, owner: Option<&OwnerReference>, options: &InfrastructureOptions) -> Value {
    let owners = match &desired.target {
        ServiceTarget::Pods { .. } | ServiceTarget::Alias => owner.map(|owner| json!(owner)),
        ServiceTarget::Name { class, class_uid, .. } => {
            Some(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "name": class, "uid": class_uid}))
        }
    };
    let spec = spec(desired, &desired.overrides.over(options));
    let mut annotations = desired.annotations.clone();
    if !is_load_balancer(&spec) {
        annotations.remove(SOURCE_RANGES_ANNOTATION);
    }
    let set = OPTIONAL_FIELDS
        .iter()
        .chain([&LOAD_BALANCER_CLASS])
        .filter(|field| spec.contains_key(**field))
        .map(|field| format!("{SPEC}{field}"));
    let keys: BTreeSet<String> = desired.labels.keys().chain(annotations.keys()).cloned().chain(set).collect();
    annotations.insert(PROPAGATED_ANNOTATION.into(), keys.into_iter().collect::<Vec<_>>().join(","));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name.name,
            "namespace": name.namespace,
            "labels": desired.labels,
            "annotations": annotations,
            "ownerReferences": owners.into_iter().collect::<Vec<_>>(),
        },
        "spec": spec,
    })
}

fn is_load_balancer(spec: &Map<String, Value>) -> bool {
    spec.get("type").is_some_and(|kind| kind == LOAD_BALANCER)
}

fn spec(desired: &DesiredService, options: &InfrastructureOptions) -> Map<String, Value> {
    let ports = desired.ports.iter();
    let mut spec = Map::new();
    let load_balancer_ip = match &desired.target {
        ServiceTarget::Name { name, .. } => {
            let ports: Vec<_> = ports
                .map(|(port, _)| json!({"name": port_name(*port), "port": port.number, "protocol": port.transport.as_str()}))
                .collect();
            spec.insert("type".into(), json!("ExternalName"));
            spec.insert("externalName".into(), json!(name));
            spec.insert("ports".into(), ports.into());
            return spec;
        }
        ServiceTarget::Alias => &None,
        ServiceTarget::Pods { load_balancer_ip } => load_balancer_ip,
    };
    let service_type = if desired.target == ServiceTarget::Alias { ServiceType::ClusterIP } else { options.service_type };
    let node_port =
        |port: &TransportPort| desired.overrides.node_ports.get(&port.number).filter(|_| service_type != ServiceType::ClusterIP);
    let port = |(port, internal): (&TransportPort, &u16)| {
        let mut entry = json!({"name": port_name(*port), "port": port.number, "protocol": port.transport.as_str(), "targetPort": internal});
        if let (Some(node_port), Some(entry)) = (node_port(port), entry.as_object_mut()) {
            entry.insert(NODE_PORT.into(), json!(node_port));
        }
        entry
    };
    let ports: Vec<_> = ports.map(port).collect();
    spec.insert("type".into(), json!(service_type));
    spec.insert("selector".into(), json!(options.selector));
    spec.insert("ports".into(), ports.into());
    if let Some(policy) = options.ip_family_policy {
        spec.insert("ipFamilyPolicy".into(), json!(policy));
    }
    match service_type {
        ServiceType::LoadBalancer => {
            spec.insert("externalTrafficPolicy".into(), json!(options.external_traffic_policy));
            if let Some(class) = &options.load_balancer_class {
                spec.insert(LOAD_BALANCER_CLASS.into(), json!(class));
            }
            if let Some(ip) = load_balancer_ip {
                spec.insert("loadBalancerIP".into(), json!(ip));
            }
            if !options.load_balancer_source_ranges.is_empty() {
                let ranges: Vec<_> = options.load_balancer_source_ranges.iter().map(ToString::to_string).collect();
                spec.insert(SOURCE_RANGES.into(), json!(ranges));
            }
            if let Some(port) = desired.overrides.health_check_node_port {
                spec.insert(HEALTH_CHECK_NODE_PORT.into(), json!(port));
            }
            if let Some(allocate) = options.allocate_load_balancer_node_ports {
                spec.insert("allocateLoadBalancerNodePorts".into(), json!(allocate));
            }
        }
        ServiceType::NodePort => drop(spec.insert("externalTrafficPolicy".into(), json!(options.external_traffic_policy))),
        ServiceType::ClusterIP => {}
    }
    spec
}

/// Unique within a Service: both transports may have a port of one number.
fn port_name(port: TransportPort) -> String {
    match port.transport {
        Transport::Tcp => format!("port-{}", port.number),
        Transport::Udp => format!("port-{}-udp", port.number),
    }
}

/// The merge patch that makes `existing` say what `desired` says; `None` where it does. Fields of others are not named.
fn patch(desired: &Value, existing: &Value) -> Option<Value> {
    let desired = &with_class_mark(desired, existing);
    let mut metadata = Map::new();
    let (wanted_spec, standing_spec) = (object(desired, "/spec"), object(existing, "/spec"));
    let mut stale = stale_keys(desired, existing);
    if !is_load_balancer(&wanted_spec) {
        stale.push(SOURCE_RANGES_ANNOTATION);
    }
    for field in ["labels", "annotations"] {
        let pointer = format!("/metadata/{field}");
        let (wanted, standing) = (object(desired, &pointer), object(existing, &pointer));
        let mut changes: Map<String, Value> = wanted
            .iter()
            .filter(|(key, value)| standing.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let gone = stale.iter().filter(|key| standing.contains_key(**key) && !wanted.contains_key(**key));
        changes.extend(gone.map(|key| ((*key).to_owned(), Value::Null)));
        if !changes.is_empty() {
            metadata.insert(field.into(), changes.into());
        }
    }
    let owners = desired.pointer("/metadata/ownerReferences");
    if owners.and_then(Value::as_array).is_some_and(|owners| !owners.is_empty())
        && !same_owner(owners, existing.pointer("/metadata/ownerReferences"))
    {
        metadata.insert("ownerReferences".into(), owners.cloned().unwrap_or_default());
    }
    let ours: BTreeSet<&str> = propagated(existing).filter_map(|key| key.strip_prefix(SPEC)).collect();
    let spec = spec_patch(wanted_spec, &standing_spec, &ours);
    let mut patch = Map::new();
    if !metadata.is_empty() {
        patch.insert("metadata".into(), metadata.into());
    }
    if !spec.is_empty() {
        patch.insert("spec".into(), spec.into());
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// What is desired, with the mark of the class as it stands: a LoadBalancer keeps the class that it has.
fn with_class_mark(desired: &Value, existing: &Value) -> Value {
    let mut desired = desired.clone();
    let (wanted, standing) = (object(&desired, "/spec"), object(existing, "/spec"));
    if !is_load_balancer(&wanted) || !is_load_balancer(&standing) {
        return desired;
    }
    let class = standing.get(LOAD_BALANCER_CLASS);
    let is_ours = class.is_some() && (has_class_of_ours(existing) || class == wanted.get(LOAD_BALANCER_CLASS));
    let mark = format!("{SPEC}{LOAD_BALANCER_CLASS}");
    let mut keys: BTreeSet<String> = propagated(&desired).filter(|key| *key != mark).map(ToOwned::to_owned).collect();
    keys.extend(is_ours.then_some(mark));
    if let Some(annotations) = desired.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.insert(PROPAGATED_ANNOTATION.into(), keys.into_iter().collect::<Vec<_>>().join(",").into());
    }
    desired
}

/// `ours`: the optional fields that we set before.
fn spec_patch(wanted: Map<String, Value>, standing: &Map<String, Value>, ours: &BTreeSet<&str>) -> Map<String, Value> {
    let mut patch = Map::new();
    let gone = |field: &&str| !wanted.contains_key(*field) && standing.contains_key(*field);
    let is_refused = |field: &str| field == SOURCE_RANGES && !is_load_balancer(&wanted);
    let removed: Vec<_> = OPTIONAL_FIELDS.into_iter().filter(gone).filter(|field| ours.contains(field) || is_refused(field)).collect();
    for (key, value) in wanted {
        let same = match key.as_str() {
            "ports" => same_ports(&value, standing.get("ports").unwrap_or(&Value::Null)),
            // Immutable once there is one.
            HEALTH_CHECK_NODE_PORT => standing.get(&key).is_some_and(|port| *port != 0),
            // Immutable as long as the type is LoadBalancer, even where there is none.
            LOAD_BALANCER_CLASS => is_load_balancer(standing),
            _ => standing.get(&key) == Some(&value),
        };
        if !same {
            patch.insert(key, value);
        }
    }
    patch.extend(removed.into_iter().map(|field| (field.to_owned(), Value::Null)));
    // Another selector is another set of pods: keys that are not wanted must go.
    if let (Some(Value::Object(selector)), Some(Value::Object(standing))) = (patch.get_mut("selector"), standing.get("selector")) {
        for key in standing.keys() {
            selector.entry(key.clone()).or_insert(Value::Null);
        }
    }
    patch
}

/// Whether all ports are as wanted. What the API server fills in (nodePort) counts only where one is wanted.
fn same_ports(wanted: &Value, standing: &Value) -> bool {
    let node_ports =
        |ports: &Value| -> Vec<Option<Value>> { ports.as_array().into_iter().flatten().map(|port| port.get(NODE_PORT).cloned()).collect() };
    let is_met = |(wanted, standing): (&Option<Value>, &Option<Value>)| wanted.is_none() || wanted == standing;
    ports_of(wanted) == ports_of(standing) && node_ports(wanted).iter().zip(&node_ports(standing)).all(is_met)
}

/// Name, port and target of each port.
fn ports_of(ports: &Value) -> Vec<(Value, Value, Value)> {
    let field = |port: &Value, name: &str| port.get(name).cloned().unwrap_or_default();
    let target = |port: &Value| port.get("targetPort").or_else(|| port.get("port")).cloned().unwrap_or_default();
    let ports = ports.as_array().map(Vec::as_slice).unwrap_or_default();
    ports.iter().map(|port| (field(port, "name"), field(port, "port"), target(port))).collect()
}

fn same_owner(wanted: Option<&Value>, standing: Option<&Value>) -> bool {
    let uid = |owners: Option<&Value>| owners.and_then(|owners| owners.get(0)).and_then(|owner| owner.get("uid")).cloned();
    uid(wanted) == uid(standing)
}

/// Keys of labels and annotations that we set before, and that are not wanted any more.
fn stale_keys<'a>(desired: &Value, existing: &'a Value) -> Vec<&'a str> {
    let wanted = |key: &&str| {
        !object(desired, "/metadata/labels").contains_key(*key) || !object(desired, "/metadata/annotations").contains_key(*key)
    };
    propagated(existing).filter(wanted).collect()
}

/// What we set before.
fn propagated(existing: &Value) -> impl Iterator<Item = &str> {
    let annotations = existing.pointer("/metadata/annotations");
    let keys = annotations.and_then(|annotations| annotations.get(PROPAGATED_ANNOTATION)).and_then(Value::as_str);
    keys.unwrap_or_default().split(',').filter(|key| !key.is_empty())
}

fn object(value: &Value, pointer: &str) -> Map<String, Value> {
    value.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::translate::infrastructure::{IpFamilyPolicy, ServiceOverrides};

    fn options() -> InfrastructureOptions {
        InfrastructureOptions { install_namespace: "system".into(), ..Default::default() }
    }

    fn owner() -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            name: "clingfish".into(),
            uid: "d".into(),
            ..Default::default()
        }
    }

    fn desired(labels: &[(&str, &str)]) -> DesiredService {
        let annotations = [
            (GATEWAY_ANNOTATION, "system/http"),
            (CLASS_ANNOTATION, "clingfish"),
            (INSTALL_ANNOTATION, "system/clingfish"),
            ("lb", "internal"),
        ];
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        DesiredService {
            gateway: ObjectName::new("system", "http"),
            labels: owned(labels),
            annotations: owned(&annotations),
            target: ServiceTarget::Pods { load_balancer_ip: None },
            ports: BTreeMap::from([(TransportPort::tcp(80), 8080)]),
            overrides: Arc::default(),
        }
    }

    fn name() -> ObjectName {
        ObjectName::new("system", "clingfish-http")
    }

    fn infrastructure(service: DesiredService) -> Infrastructure {
        Infrastructure { services: BTreeMap::from([(name(), service)]), ..Default::default() }
    }

    fn write(infrastructure: &Infrastructure, existing: &[Value]) -> Option<Write> {
        let existing = existing.iter().map(|service| (name(), service.clone())).collect();
        let mut writes = writes(infrastructure, &existing, Some(&owner()), &options());
        assert!(writes.len() <= 1);
        writes.remove(&name())
    }

    /// As the API server would hand it out: with defaults, and with what others add.
    fn stored(service: &DesiredService) -> Value {
        let mut stored = document(&name(), service, Some(&owner()), &options());
        stored["metadata"]["uid"] = "u".into();
        stored["metadata"]["resourceVersion"] = "7".into();
        stored["metadata"]["annotations"]["cloud.example/id"] = "lb-1".into();
        stored["spec"]["ports"][0]["nodePort"] = 30_001.into();
        stored["spec"]["clusterIPs"] = json!(["10.96.0.1"]);
        stored
    }

    #[test]
    fn a_service_is_created_and_then_left_alone() {
        let wanted = desired(&[("a", "1")]);
        let Some(Write::Create(document)) = write(&infrastructure(wanted.clone()), &[]) else { panic!("a creation") };
        assert_eq!(
            document["spec"],
            json!({
                "type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app.kubernetes.io/name": "clingfish"},
                "ports": [{"name": "port-80", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            })
        );
        assert_eq!(document["metadata"]["ownerReferences"][0]["uid"], "d");
        assert_eq!(write(&infrastructure(wanted.clone()), &[stored(&wanted)]), None);
    }

    #[test]
    fn both_transports_have_a_port_of_one_number() {
        let ports = BTreeMap::from([(TransportPort::tcp(53), 8053), (TransportPort::udp(53), 10_000)]);
        let both = DesiredService { ports: ports.clone(), ..desired(&[]) };
        let Some(Write::Create(document)) = write(&infrastructure(both.clone()), &[]) else { panic!("a creation") };
        assert_eq!(
            document["spec"]["ports"],
            json!([
                {"name": "port-53", "port": 53, "protocol": "TCP", "targetPort": 8053},
                {"name": "port-53-udp", "port": 53, "protocol": "UDP", "targetPort": 10_000},
            ])
        );
        assert_eq!(observe(&document, &options()).ports, ports, "it is read as it was written");
        assert_eq!(write(&infrastructure(both.clone()), &[stored(&both)]), None);
        let one = DesiredService { ports: BTreeMap::from([(TransportPort::tcp(53), 8053)]), ..desired(&[]) };
        assert!(write(&infrastructure(both), &[stored(&one)]).is_some(), "a port of the other transport is one more");
    }

    #[test]
    fn a_patch_names_what_differs_and_removes_only_what_we_set() {
        let before = desired(&[("a", "1"), ("b", "2")]);
        let mut wanted = desired(&[("a", "1"), ("c", "3")]);
        wanted.ports = BTreeMap::from([(TransportPort::tcp(80), 8080), (TransportPort::tcp(443), 8443)]);
        wanted.annotations.remove("lb");
        let Some(Write::Patch(patch)) = write(&infrastructure(wanted), &[stored(&before)]) else { panic!("a patch") };
        assert_eq!(patch["metadata"]["labels"], json!({"b": null, "c": "3"}));
        let annotations = patch["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), [PROPAGATED_ANNOTATION, "lb"]);
        assert_eq!(annotations["lb"], Value::Null);
        assert_eq!(patch["spec"].as_object().unwrap().keys().collect::<Vec<_>>(), ["ports"]);
        assert_eq!(patch["spec"]["ports"][1]["targetPort"], 8443);
    }

    #[test]
    fn a_policy_of_families_is_written_where_there_is_one() {
        let dual = InfrastructureOptions { ip_family_policy: Some(IpFamilyPolicy::PreferDualStack), ..options() };
        let of = |options| spec(&desired(&[]), options).get("ipFamilyPolicy").cloned();
        assert_eq!((of(&dual), of(&options())), (Some(json!("PreferDualStack")), None));
        let outer =
            DesiredService { target: ServiceTarget::Name { name: "a.b".into(), class: "c".into(), class_uid: "u".into() }, ..desired(&[]) };
        assert_eq!(spec(&outer, &dual).get("ipFamilyPolicy"), None, "a name has no address");
        // What the API server wrote there of its own accord is not ours to change.
        let mut standing = stored(&desired(&[]));
        standing["spec"]["ipFamilyPolicy"] = "SingleStack".into();
        assert_eq!(write(&infrastructure(desired(&[])), std::slice::from_ref(&standing)), None);
        let wanted = document(&name(), &desired(&[]), Some(&owner()), &dual);
        assert_eq!(patch(&wanted, &standing), Some(json!({"spec": {"ipFamilyPolicy": "PreferDualStack"}})));
    }

    fn patched(options: &InfrastructureOptions, standing: &Value) -> Value {
        patch(&document(&name(), &desired(&[]), Some(&owner()), options), standing).unwrap_or_default()
    }

    fn with_ranges() -> InfrastructureOptions {
        let load_balancer_source_ranges = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        InfrastructureOptions { load_balancer_source_ranges, allocate_load_balancer_node_ports: Some(false), ..options() }
    }

    #[test]
    fn fields_of_load_balancers_are_written_where_there_is_one_and_given_back() {
        let fields = json!({"loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"], "allocateLoadBalancerNodePorts": false});
        for service_type in [ServiceType::LoadBalancer, ServiceType::NodePort, ServiceType::ClusterIP] {
            let spec = spec(&desired(&[]), &InfrastructureOptions { service_type, ..with_ranges() });
            for (field, value) in fields.as_object().unwrap() {
                assert_eq!(spec.get(field), Some(value).filter(|_| service_type == ServiceType::LoadBalancer), "{service_type:?}");
            }
        }
        assert_eq!(patched(&with_ranges(), &stored(&desired(&[])))["spec"], fields);
        let mut ours = document(&name(), &desired(&[]), Some(&owner()), &with_ranges());
        assert_eq!(patched(&with_ranges(), &ours), Value::Null);
        let given_back = patched(&options(), &ours);
        assert_eq!(given_back["spec"], json!({"loadBalancerSourceRanges": null, "allocateLoadBalancerNodePorts": null}));
        assert!(given_back["metadata"]["annotations"][PROPAGATED_ANNOTATION].is_string(), "{given_back}");
        ours["spec"]["loadBalancerSourceRanges"] = json!(["0.0.0.0/0"]);
        assert_eq!(patched(&with_ranges(), &ours), json!({"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"]}}));
    }

    #[test]
    fn source_ranges_of_somebody_else_stay_until_the_type_forbids_them() {
        let mut standing = stored(&desired(&[]));
        standing["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.0/24"]);
        standing["spec"]["allocateLoadBalancerNodePorts"] = true.into();
        standing["metadata"]["annotations"][SOURCE_RANGES_ANNOTATION] = "192.0.2.0/24".into();
        assert_eq!(patched(&options(), &standing), Value::Null);
        let cluster_ip = InfrastructureOptions { service_type: ServiceType::ClusterIP, ..options() };
        let removed = json!({"metadata": {"annotations": {SOURCE_RANGES_ANNOTATION: null}}, "spec": {"type": "ClusterIP", "loadBalancerSourceRanges": null}});
        assert_eq!(patched(&cluster_ip, &standing), removed);
    }

    #[test]
    fn an_annotation_that_only_load_balancers_may_have_is_left_out_elsewhere() {
        let mut wanted = desired(&[]);
        wanted.annotations.insert(SOURCE_RANGES_ANNOTATION.into(), "192.0.2.0/24".into());
        let outer = ServiceTarget::Name { name: "a.b".into(), class: "c".into(), class_uid: "u".into() };
        let node_port = InfrastructureOptions { service_type: ServiceType::NodePort, ..options() };
        let outer = DesiredService { target: outer, ..wanted.clone() };
        for (wanted, options, has) in [(&wanted, options(), true), (&wanted, node_port, false), (&outer, options(), false)] {
            let document = document(&name(), wanted, None, &options);
            assert_eq!(document["metadata"]["annotations"].get(SOURCE_RANGES_ANNOTATION).is_some(), has, "{document}");
        }
    }

    #[test]
    fn the_class_of_load_balancers_is_set_when_a_service_becomes_one() {
        let class = InfrastructureOptions { load_balancer_class: Some("example.com/lb".into()), ..options() };
        let mut standing = stored(&desired(&[]));
        assert_eq!(patched(&class, &standing), Value::Null, "the API server refuses another one");
        for service_type in ["ClusterIP", "NodePort"] {
            standing["spec"]["type"] = service_type.into();
            assert_eq!(patched(&class, &standing)["spec"], json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/lb"}));
        }
    }

    #[test]
    fn a_gateways_own_parameters_stand_in_the_place_of_the_charts_values() {
        let own = |overrides: ServiceOverrides| DesiredService { overrides: Arc::new(overrides), ..desired(&[]) };
        let node_port = own(ServiceOverrides {
            service_type: Some(ServiceType::NodePort),
            node_ports: BTreeMap::from([(80, 30_080)]),
            ..ServiceOverrides::default()
        });
        let spec_of = |wanted: &DesiredService| document(&name(), wanted, Some(&owner()), &options())["spec"].clone();
        let spec = spec_of(&node_port);
        assert_eq!((&spec["type"], &spec["ports"][0]["nodePort"]), (&json!("NodePort"), &json!(30_080)));
        let standing = json!([{"name": "port-80", "port": 80, "targetPort": 8080, "nodePort": 31_000, "protocol": "TCP"}]);
        assert!(!same_ports(&spec["ports"], &standing), "another port of the nodes is asked for");
        assert!(same_ports(&spec_of(&desired(&[]))["ports"], &standing), "any will do");
        let health = own(ServiceOverrides { health_check_node_port: Some(30_099), ..ServiceOverrides::default() });
        assert_eq!(spec_of(&health)[HEALTH_CHECK_NODE_PORT], 30_099);
        let mut standing = stored(&desired(&[]));
        standing["spec"][HEALTH_CHECK_NODE_PORT] = 31_099.into();
        let written = writes(&infrastructure(health), &BTreeMap::from([(name(), standing)]), Some(&owner()), &options());
        assert_eq!(written.get(&name()), None, "the API server refuses another one");
    }

    #[test]
    fn whose_class_a_load_balancer_has_is_known_for_as_long_as_it_has_it() {
        let class = |name: &str| InfrastructureOptions { load_balancer_class: Some(name.into()), ..options() };
        let mut ours = document(&name(), &desired(&[]), Some(&owner()), &class("a"));
        let seen = |service: &Value| {
            let seen = observe(service, &options());
            (seen.load_balancer_class.map(String::from), seen.class_is_ours)
        };
        assert_eq!(seen(&ours), (Some("a".into()), true));
        // Another one is asked for, or none: nothing is written that the API server would refuse, and the mark stays.
        for wanted in [class("b"), options()] {
            assert_eq!(patched(&wanted, &ours), Value::Null);
        }
        ours["metadata"]["annotations"][PROPAGATED_ANNOTATION] = propagated(&stored(&desired(&[]))).collect::<Vec<_>>().join(",").into();
        assert_eq!(seen(&ours), (Some("a".into()), false), "a cloud's own");
        assert_eq!(patched(&class("b"), &ours), Value::Null);
    }

    #[test]
    fn a_second_name_has_the_pods_and_no_address_and_becomes_the_first_where_that_is_gone() {
        let mut alias = DesiredService { target: ServiceTarget::Alias, ..desired(&[]) };
        alias.annotations.insert(ALIAS_ANNOTATION.into(), "system/clingfish-http".into());
        let document = document(&name(), &alias, Some(&owner()), &options());
        assert_eq!(document["spec"]["type"], "ClusterIP");
        assert_eq!(document["spec"]["selector"], json!(options().selector));
        assert!(observe(&document, &options()).is_alias);
        let patch = patched(&options(), &document);
        assert_eq!(patch["spec"], json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}));
        assert_eq!(patch["metadata"]["annotations"][ALIAS_ANNOTATION], Value::Null);
    }

    #[test]
    fn an_address_that_is_no_longer_asked_for_is_given_back() {
        let with =
            |ip: &str| DesiredService { target: ServiceTarget::Pods { load_balancer_ip: Some(ip.parse().unwrap()) }, ..desired(&[]) };
        for (wanted, expected) in [(with("10.0.0.2"), json!("10.0.0.2")), (desired(&[]), Value::Null)] {
            let Some(Write::Patch(patch)) = write(&infrastructure(wanted), &[stored(&with("10.0.0.1"))]) else { panic!("a patch") };
            assert_eq!(patch["spec"], json!({"loadBalancerIP": expected}));
        }
        // What a controller of load balancers wrote there is its own.
        let mut theirs = stored(&desired(&[]));
        theirs["spec"]["loadBalancerIP"] = "10.0.0.9".into();
        assert_eq!(write(&infrastructure(desired(&[])), &[theirs]), None);
    }

    #[test]
    fn a_service_of_somebody_else_is_never_touched() {
        let wanted = desired(&[]);
        let mut foreign = stored(&wanted);
        for (annotation, value) in
            [(INSTALL_ANNOTATION, json!("other/clingfish")), (GATEWAY_ANNOTATION, json!("system/other")), (INSTALL_ANNOTATION, Value::Null)]
        {
            foreign["metadata"]["annotations"][annotation] = value;
            foreign["spec"]["type"] = "NodePort".into();
            assert_eq!(write(&infrastructure(wanted.clone()), &[foreign.clone()]), None);
        }
        assert_eq!(write(&Infrastructure::default(), &[json!({"metadata": {"name": "clingfish-http"}})]), None);
    }

    #[test]
    fn the_services_of_a_gateway_that_is_gone_are_deleted_and_those_of_one_that_waits_are_not() {
        let existing = stored(&desired(&[]));
        let delete = |seconds| Some(Write::Delete { uid: "u".into(), resource_version: "7".into(), rest: Duration::from_secs(seconds) });
        let gone = |classes: &[&str]| Infrastructure { classes: classes.iter().map(|name| (*name).into()).collect(), ..Default::default() };
        for (classes, seconds) in [(&["clingfish"][..], 5), (&["other"], 60), (&[], 60)] {
            assert_eq!(write(&gone(classes), std::slice::from_ref(&existing)), delete(seconds), "{classes:?}");
        }
        // It is served by a Service of another name now.
        let other = ObjectName::new("system", "gloo-proxy-http");
        let renamed = Infrastructure { services: BTreeMap::from([(other, desired(&[]))]), ..gone(&["clingfish"]) };
        let written = writes(&renamed, &BTreeMap::from([(name(), existing.clone())]), None, &options()).remove(&name());
        assert_eq!(written, delete(60));
        let waiting = Infrastructure { pending: BTreeSet::from([ObjectName::new("system", "http")]), ..Default::default() };
        assert_eq!(write(&waiting, &[existing]), None);
    }

    #[test]
    fn addresses_are_those_that_clients_use() {
        let service = |spec: Value, status: Value| json!({"metadata": {"annotations": {INSTALL_ANNOTATION: "system/clingfish", GATEWAY_ANNOTATION: "n/g"}}, "spec": spec, "status": status});
        let ingress = json!({"loadBalancer": {"ingress": [{"ip": "10.124.0.1"}, {"hostname": "lb.example"}, {}]}});
        let ip = |text: &str| ServiceAddress::Ip(text.parse().unwrap());
        for (spec, status, expected) in [
            (json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"]}), json!({"loadBalancer": {}}), vec![]),
            (json!({"type": "LoadBalancer"}), ingress, vec![ip("10.124.0.1"), ServiceAddress::Hostname("lb.example".into())]),
            (json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1", "fd00::1"]}), json!({}), vec![ip("10.96.0.1"), ip("fd00::1")]),
            (json!({"type": "NodePort", "clusterIPs": ["None"]}), json!({}), vec![]),
            (json!({"type": "ExternalName", "externalName": "a"}), json!({}), vec![]),
        ] {
            let observed = observe(&service(spec.clone(), status), &options());
            assert_eq!(observed.addresses, expected, "{spec}");
            assert_eq!(observed.gateway, Some(ObjectName::new("n", "g")));
        }
        assert_eq!(
            observe(&json!({"spec": {"ports": [{"port": 80}]}}), &options()),
            ObservedService { ports: BTreeMap::from([(TransportPort::tcp(80), 0)]), ..Default::default() }
        );
    }

    #[test]
    fn a_neighbour_leads_to_the_other_service_and_belongs_to_the_class() {
        let target = ServiceTarget::Name { name: "x.system.svc.cluster.local".into(), class: "clingfish".into(), class_uid: "c".into() };
        let document =
            document(&ObjectName::new("team", "clingfish-http"), &DesiredService { target, ..desired(&[]) }, Some(&owner()), &options());
        assert_eq!(
            document["metadata"]["ownerReferences"],
            json!([{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "name": "clingfish", "uid": "c"}])
        );
        assert_eq!(document["spec"]["externalName"], "x.system.svc.cluster.local");
        assert_eq!(document["spec"].get("selector"), None);
    }
}
