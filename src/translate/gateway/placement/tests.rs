//! A Gateway's way into a cluster, step by step: allocated, bound, its Service, its address.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use serde_json::{Value, json};

use crate::api::{Document, decode};
use crate::base::{Kind, ObjectRef};
use crate::snapshot::{BindAddress, BindState, GatewayPort, ObservedService, ServiceAddress, TransportPort};
use crate::translate::gateway::infrastructure::InfrastructureOptions;
use crate::translate::{AssumedClasses, Change, Resources, Translation, translate};

use super::*;

/// Translations folded one on the other; each must equal one from scratch.
struct World {
    resources: Resources,
    observed: Observed,
    options: Options,
    last: Option<Translation>,
}

impl World {
    fn new() -> Self {
        let infrastructure = InfrastructureOptions { install_namespace: "system".into(), ..Default::default() };
        let options = Options {
            any_controller: false,
            assumed_classes: AssumedClasses::None,
            shared_ports: false,
            infrastructure: Some(Arc::new(infrastructure)),
            ..Options::default()
        };
        let mut world = Self { resources: Resources::default(), observed: Observed::default(), options, last: None };
        world.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "clingfish", "uid": "class"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"},
        }));
        world
    }

    fn apply(&mut self, document: Value) {
        let Document::Object(object) = decode(document).unwrap() else { panic!("an object") };
        self.resources.apply(Change::Apply(object));
    }

    fn gateway(&mut self, name: &str, seconds: u32, ports: &[u16]) {
        let listeners: Vec<_> = ports.iter().map(|port| json!({"name": format!("p{port}"), "port": port, "protocol": "HTTP"})).collect();
        self.apply(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {
                "name": name, "namespace": "system", "uid": format!("uid-{name}"), "generation": 1,
                "creationTimestamp": format!("2026-01-01T00:00:{seconds:02}Z"),
            },
            "spec": {"gatewayClassName": "clingfish", "listeners": listeners},
        }));
    }

    fn allocate(&mut self, name: &str, port: u16, internal: u16) {
        self.observed.ports.insert(GatewayPort { uid: format!("uid-{name}").into(), port: TransportPort::tcp(port) }, internal);
    }

    fn bind(&mut self, internal: u16, state: BindState) {
        self.observed.bound.insert(BindAddress::tcp(SocketAddr::new(self.options.bind, internal)), state);
    }

    fn serve(&mut self, service: &str, gateway: Option<&str>, address: &str) {
        let service = ObjectName::new("system", service);
        let addresses = vec![ServiceAddress::Ip(address.parse().unwrap())];
        let gateway = gateway.map(|name| ObjectName::new("system", name));
        self.observed.services.insert(service, ObservedService { gateway, addresses, ..Default::default() });
    }

    fn turn(&mut self) -> &Translation {
        let folded = translate(&self.resources, &self.observed, &self.options, self.last.take());
        self.resources.clear_changes();
        let fresh = translate(&self.resources, &self.observed, &self.options, None);
        assert_eq!(folded.statuses, fresh.statuses);
        assert_eq!(folded.infrastructure, fresh.infrastructure);
        self.last.insert(folded)
    }

    /// `Programmed` of the Gateway: status, reason and a part of its message; and the addresses.
    fn programmed(&self, name: &str) -> (String, Vec<String>) {
        let reference = ObjectRef::new(Kind::Gateway, "system", name);
        let status = serde_json::to_value(&self.last.as_ref().unwrap().statuses[&reference]).unwrap();
        let conditions = status["conditions"].as_array().unwrap();
        let programmed = conditions.iter().find(|condition| condition["type"] == "Programmed").unwrap();
        let text = |field: &str| programmed[field].as_str().unwrap();
        let addresses = status["addresses"].as_array().unwrap().iter().map(|address| address["value"].as_str().unwrap().to_owned());
        (format!("{}/{}: {}", text("status"), text("reason"), text("message")), addresses.collect())
    }

    fn service_ports(&self, service: &str) -> Option<Vec<(u16, u16)>> {
        let services = &self.last.as_ref().unwrap().infrastructure.services;
        services
            .get(&ObjectName::new("system", service))
            .map(|service| service.ports.iter().map(|(port, internal)| (port.number, *internal)).collect())
    }

    fn binds(&self) -> Vec<(u16, u16)> {
        self.last.as_ref().unwrap().snapshot.binds.values().map(|bind| (bind.address.port(), bind.port)).collect()
    }
}

#[test]
fn both_transports_of_a_number_are_placed_each_for_itself() {
    let mut world = World::new();
    let listeners = [("tcp", "TCP"), ("udp", "UDP")].map(|(name, protocol)| json!({"name": name, "port": 53, "protocol": protocol}));
    world.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "dns", "namespace": "system", "uid": "uid-dns", "generation": 1},
        "spec": {"gatewayClassName": "clingfish", "listeners": listeners},
    }));
    // What a version wrote that knows no UDP.
    world.allocate("dns", 53, 8053);
    world.bind(8053, BindState::Bound);
    world.turn();
    assert_eq!(world.programmed("dns").0, "False/Pending: port 53/UDP has no internal port of the gateway's pods yet");
    let wanted = &world.last.as_ref().unwrap().infrastructure.ports;
    let assigned: Vec<_> = wanted.iter().map(|wanted| (wanted.key.port.to_string(), wanted.assigned)).collect();
    assert_eq!(assigned, [("53".into(), Some(8053)), ("53/UDP".into(), None)]);
    assert_eq!(world.service_ports("clingfish-dns"), None);

    world.observed.ports.insert(GatewayPort { uid: "uid-dns".into(), port: TransportPort::udp(53) }, 8053);
    world.turn();
    assert_eq!(world.programmed("dns").0, "False/Pending: 0.0.0.0:8053/UDP is not bound yet");
    let bound = SocketAddr::new(world.options.bind, 8053);
    world.observed.bound.insert(BindAddress::udp(bound), BindState::Bound);
    world.turn();
    let binds: Vec<_> = world.last.as_ref().unwrap().snapshot.binds.keys().copied().collect();
    assert_eq!(binds, [BindAddress::tcp(bound), BindAddress::udp(bound)]);
    assert_eq!(world.service_ports("clingfish-dns"), Some(vec![(53, 8053), (53, 8053)]));
}

#[test]
fn a_gateway_is_allocated_bound_given_a_service_and_then_programmed() {
    let mut world = World::new();
    world.gateway("web", 1, &[80]);
    world.turn();
    assert_eq!(world.programmed("web"), ("False/Pending: port 80 has no internal port of the gateway's pods yet".into(), vec![]));
    assert_eq!((world.binds(), world.service_ports("clingfish-web")), (vec![], None));
    assert_eq!(world.last.as_ref().unwrap().infrastructure.ports.len(), 1);

    world.allocate("web", 80, 8080);
    world.turn();
    assert_eq!(world.programmed("web").0, "False/Pending: 0.0.0.0:8080 is not bound yet");
    assert_eq!((world.binds(), world.service_ports("clingfish-web")), (vec![(8080, 80)], None));

    world.bind(8080, BindState::Bound);
    world.turn();
    assert_eq!(world.programmed("web"), ("False/Pending: Service system/clingfish-web is not made yet".into(), vec![]));
    assert_eq!(world.service_ports("clingfish-web"), Some(vec![(80, 8080)]));

    world.serve("clingfish-web", Some("web"), "10.124.0.1");
    world.turn();
    assert_eq!(world.programmed("web"), ("True/Programmed: requests are served".into(), vec!["10.124.0.1".into()]));

    world.serve("clingfish-web", None, "10.124.0.1");
    world.turn();
    let (programmed, addresses) = world.programmed("web");
    assert!(programmed.starts_with("False/AddressNotAssigned: Service system/clingfish-web exists and was not made by"), "{programmed}");
    assert_eq!(addresses, Vec::<String>::new());
}

#[test]
fn gateways_that_declare_one_port_are_both_served_on_ports_of_their_own() {
    let mut world = World::new();
    world.gateway("young", 2, &[8080]);
    world.gateway("old", 1, &[8080]);
    world.turn();
    let order: Vec<_> = world.last.as_ref().unwrap().infrastructure.ports.iter().map(|wanted| wanted.gateway.name.to_string()).collect();
    assert_eq!(order, ["old", "young"]);
    for (name, internal) in [("old", 8080), ("young", 16_080)] {
        world.allocate(name, 8080, internal);
        world.bind(internal, BindState::Bound);
        world.serve(&format!("clingfish-{name}"), Some(name), "10.124.0.1");
    }
    world.turn();
    assert_eq!(world.binds(), [(8080, 8080), (16_080, 8080)]);
    for name in ["old", "young"] {
        assert_eq!(world.programmed(name).0, "True/Programmed: requests are served");
    }
}

#[test]
fn of_a_duplicate_allocation_only_the_older_gateway_is_bound() {
    let mut world = World::new();
    world.gateway("young", 2, &[80]);
    world.gateway("old", 1, &[80]);
    world.allocate("old", 80, 8080);
    world.allocate("young", 80, 8080);
    world.bind(8080, BindState::Bound);
    world.turn();
    assert_eq!(world.binds(), [(8080, 80)]);
    let snapshot = &world.last.as_ref().unwrap().snapshot;
    assert_eq!(snapshot.binds.values().next().unwrap().gateway.to_string(), "system/old");
    let (programmed, _) = world.programmed("young");
    assert!(programmed.contains("belongs to Gateway system/old"), "{programmed}");
}

#[test]
fn a_port_that_another_process_holds_is_left_out_of_the_service() {
    let mut world = World::new();
    world.gateway("web", 1, &[80, 81]);
    world.allocate("web", 80, 8080);
    world.allocate("web", 81, 8081);
    world.bind(8080, BindState::Bound);
    world.bind(8081, BindState::Failed("address in use".into()));
    world.turn();
    assert_eq!(world.service_ports("clingfish-web"), Some(vec![(80, 8080)]));
}

#[test]
fn a_gateway_that_is_gone_leaves_no_port_and_no_service_wanted() {
    let mut world = World::new();
    world.gateway("web", 1, &[80]);
    world.allocate("web", 80, 8080);
    world.bind(8080, BindState::Bound);
    world.turn();
    world.resources.apply(Change::Delete(ObjectRef::new(Kind::Gateway, "system", "web")));
    world.turn();
    let classes = BTreeSet::from(["clingfish".into()]);
    assert_eq!(*world.last.as_ref().unwrap().infrastructure, Infrastructure { classes, ..Infrastructure::default() });
    assert_eq!(world.binds(), []);
}

#[test]
fn what_the_config_map_loses_moves_no_gateway() {
    let mut world = World::new();
    world.gateway("old", 1, &[80]);
    world.gateway("young", 2, &[80]);
    let ports = [("old", 10_000), ("young", 8080)];
    for (name, internal) in ports {
        world.allocate(name, 80, internal);
        world.bind(internal, BindState::Bound);
        world.serve(&format!("clingfish-{name}"), Some(name), "10.124.0.1");
        let service = world.observed.services.get_mut(&ObjectName::new("system", format!("clingfish-{name}"))).unwrap();
        service.ports = BTreeMap::from([(TransportPort::tcp(80), internal)]);
    }
    world.turn();
    world.observed.held_ports = world.observed.ports.clone();
    let (right, swapped) = (world.observed.ports.clone(), ports.map(|(_, internal)| internal));
    for lost in ["all of it", "a value", "which is which"] {
        world.observed.ports = right.clone();
        match lost {
            "all of it" => world.observed.ports.clear(),
            "a value" => drop(world.observed.ports.pop_first()),
            _ => world.observed.ports.values_mut().zip(swapped.iter().rev()).for_each(|(port, other)| *port = *other),
        }
        for is_new in [false, true] {
            world.observed.held_ports = if is_new { BTreeMap::new() } else { right.clone() };
            world.turn();
            let binds = &world.last.as_ref().unwrap().snapshot.binds;
            let served: Vec<_> = binds.values().map(|bind| (&*bind.gateway.name, bind.address.port())).collect();
            assert_eq!(served, [("young", 8080), ("old", 10_000)], "lost: {lost}; new process: {is_new}");
            for (name, internal) in ports {
                assert_eq!(world.programmed(name).0, "True/Programmed: requests are served", "lost: {lost}");
                assert_eq!(world.service_ports(&format!("clingfish-{name}")), Some(vec![(80, internal)]), "lost: {lost}");
            }
        }
    }
}

#[test]
fn wrong_parameters_refuse_a_new_gateway_and_leave_one_that_is_served_as_it_is() {
    let parameters = |service_type: &str| {
        json!({
            "apiVersion": "clingfish.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": "p", "namespace": "system"},
            "spec": {"service": {"type": service_type}},
        })
    };
    let accepted = |world: &World| {
        let status = &world.last.as_ref().unwrap().statuses[&ObjectRef::new(Kind::Gateway, "system", "http")];
        let condition = serde_json::to_value(status).unwrap()["conditions"][0].clone();
        format!(
            "{}/{}: {}",
            condition["status"].as_str().unwrap(),
            condition["reason"].as_str().unwrap(),
            condition["message"].as_str().unwrap()
        )
    };
    let mut world = World::new();
    world.apply(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "http", "namespace": "system", "uid": "uid-http"},
        "spec": {
            "gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            "infrastructure": {"parametersRef": {"group": "clingfish.dev", "kind": "GatewayParameters", "name": "p"}},
        },
    }));
    assert_eq!(world.turn().infrastructure.ports, []);
    assert!(accepted(&world).starts_with("False/InvalidParameters: spec.infrastructure.parametersRef: GatewayParameters p: there is none"));
    world.apply(parameters("NodePort"));
    world.allocate("http", 80, 8080);
    world.bind(8080, BindState::Bound);
    let services = world.turn().infrastructure.services.clone();
    let service = services.values().next().unwrap();
    assert_eq!(service.overrides.service_type, Some(infrastructure::ServiceType::NodePort));
    world.serve("clingfish-http", Some("http"), "10.0.0.1");
    world.apply(parameters("Nodeport"));
    let infrastructure = Arc::clone(&world.turn().infrastructure);
    assert!(
        accepted(&world).starts_with("False/InvalidParameters: ") && accepted(&world).contains("spec.service.type"),
        "{}",
        accepted(&world)
    );
    assert!(infrastructure.services.is_empty() && infrastructure.pending.contains(&ObjectName::new("system", "http")));
    assert_eq!((infrastructure.ports.len(), world.programmed("http").1), (1, vec!["10.0.0.1".to_owned()]));
    world.apply(parameters("ClusterIP"));
    world.turn();
    assert!(accepted(&world).starts_with("True/"), "{}", accepted(&world));
}
