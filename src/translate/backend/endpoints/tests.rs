use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const CLUSTER: EndpointRules = EndpointRules { ipv6: true, allow_local: false, own: [None; 2], by_ordinal: false, keeps_draining: false };

fn service(ports: &Value) -> Service {
    serde_json::from_value(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": {"ports": ports}}),
    )
    .unwrap()
}

fn dual_stack(first: &str) -> Service {
    let mut service = service(&json!([{"port": 80}]));
    service.spec.as_mut().unwrap().ip_families = Some(vec![first.to_owned(), "x".to_owned()]);
    service
}

fn slice(ports: &Value, endpoints: &Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s-1", "namespace": "n"},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
    .unwrap()
}

fn addresses(service: &Service, number: u16, slices: &[EndpointSlice], rules: EndpointRules) -> Vec<String> {
    let port = service_port(service, TransportPort::tcp(number)).expect("the port");
    endpoints(service, port, slices, rules).list.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

fn pod(uid: &str) -> Value {
    json!({"kind": "Pod", "name": uid, "namespace": "n", "uid": uid})
}

#[test]
fn the_port_is_found_by_name() {
    let guide = service(&json!([{"name": "http", "port": 8000, "targetPort": 8080}, {"name": "tcp", "port": 9000}]));
    let both = slice(&json!([{"name": "tcp", "port": 9000}, {"name": "http", "port": 8080}]), &json!([{"addresses": ["10.0.0.1"]}]));
    let only_tcp = slice(&json!([{"name": "tcp", "port": 9000}]), &json!([{"addresses": ["10.0.0.2"]}]));
    assert_eq!(addresses(&guide, 8000, &[both.clone(), only_tcp.clone()], CLUSTER), ["10.0.0.1:8080"]);
    assert_eq!(addresses(&guide, 9000, &[both, only_tcp], CLUSTER), ["10.0.0.1:9000", "10.0.0.2:9000"]);
}

#[test]
fn a_single_port_takes_the_last_number() {
    let single = service(&json!([{"port": 80}]));
    for (ports, expected) in [
        (json!([{"name": "x", "port": 1}, {"port": 2}, {"name": "y"}]), vec!["10.0.0.1:2"]),
        (json!([{"name": "y"}]), vec![]),
        (json!([{"port": 0}]), vec![]),
        (json!([{"port": 70000}]), vec![]),
        (json!([]), vec![]),
        (json!(null), vec![]),
    ] {
        let slices = [slice(&ports, &json!([{"addresses": ["10.0.0.1"]}]))];
        assert_eq!(addresses(&single, 80, &slices, CLUSTER), expected, "{ports}");
    }
}

#[test]
fn ports_of_other_protocols_are_none() {
    let udp = service(&json!([{"port": 53, "protocol": "UDP"}, {"port": 80}]));
    for (port, expected) in [
        (TransportPort::tcp(53), false),
        (TransportPort::udp(53), true),
        (TransportPort::tcp(80), true),
        (TransportPort::udp(80), false),
        (TransportPort::tcp(81), false),
    ] {
        assert_eq!(service_port(&udp, port).is_some(), expected, "{port}");
    }
}

#[test]
fn only_not_ready_is_left_out() {
    let endpoints = json!([
        {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
        {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true}},
        {"addresses": ["10.0.0.3"], "conditions": {}},
        {"addresses": ["10.0.0.4"]},
        {"addresses": ["10.0.0.5"], "conditions": {"ready": true, "terminating": true}},
    ]);
    let slices = [slice(&json!([{"port": 8080}]), &endpoints)];
    let expected = ["10.0.0.1:8080", "10.0.0.3:8080", "10.0.0.4:8080", "10.0.0.5:8080"];
    assert_eq!(addresses(&service(&json!([{"port": 80}])), 80, &slices, CLUSTER), expected);
}

#[test]
fn pods_that_end_serve_while_none_is_ready() {
    let of = |address: &str, ready: bool, serving: Option<bool>, terminating: bool| {
        let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
        json!({"addresses": [address], "conditions": conditions})
    };
    let single = service(&json!([{"port": 80}]));
    for (listed, expected) in [
        (vec![of("10.0.0.1", false, Some(true), true), of("10.0.0.2", true, Some(true), false)], vec!["10.0.0.2:1"]),
        (vec![of("10.0.0.1", false, Some(true), true), of("10.0.0.2", false, Some(false), false)], vec!["10.0.0.1:1"]),
        (vec![of("10.0.0.1", false, Some(true), true), of("10.0.0.2", false, None, true)], vec!["10.0.0.1:1", "10.0.0.2:1"]),
        // It does not serve any more; it is not ready, but not about to end either.
        (vec![of("10.0.0.1", false, Some(false), true)], vec![]),
        (vec![of("10.0.0.1", false, Some(true), false)], vec![]),
        // A ready address that may not be sent to is none.
        (vec![of("10.0.0.1", false, Some(true), true), of("127.0.0.1", true, Some(true), false)], vec!["10.0.0.1:1"]),
    ] {
        // Each in a slice of its own: readiness is asked of all slices together.
        let slices: Vec<_> = listed.iter().map(|endpoint| slice(&json!([{"port": 1}]), &json!([endpoint]))).collect();
        assert_eq!(addresses(&single, 80, &slices, CLUSTER), expected, "{listed:?}");
    }
    let both = slice(&json!([{"port": 1}]), &json!([of("127.0.0.1", true, None, false), of("127.0.0.2", false, Some(true), true)]));
    assert_eq!(endpoints(&single, service_port(&single, TransportPort::tcp(80)).unwrap(), &[both], CLUSTER).refused.len(), 2);
}

#[test]
fn the_order_is_by_number_and_addresses_come_once() {
    let endpoints = json!([{"addresses": ["10.0.0.10", "10.0.0.2"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["fd00::1"]}, {"addresses": ["9.9.9.9"]}]);
    let slices = [slice(&json!([{"port": 2}]), &endpoints), slice(&json!([{"port": 1}]), &json!([{"addresses": ["10.0.0.2"]}]))];
    let expected = ["9.9.9.9:2", "10.0.0.2:1", "10.0.0.2:2", "10.0.0.10:2", "[fd00::1]:2"];
    assert_eq!(addresses(&service(&json!([{"port": 80}])), 80, &slices, CLUSTER), expected);
}

#[test]
fn a_pod_counts_once_in_the_first_family() {
    let v4 = slice(
        &json!([{"port": 1}]),
        &json!([{"addresses": ["10.0.0.1"], "targetRef": pod("a")}, {"addresses": ["10.0.0.2"], "targetRef": pod("b")}]),
    );
    let v6 = slice(&json!([{"port": 1}]), &json!([{"addresses": ["fd00::1"], "targetRef": pod("a")}, {"addresses": ["fd00::9"]}]));
    let slices = [v6, v4];
    assert_eq!(addresses(&dual_stack("IPv4"), 80, &slices, CLUSTER), ["10.0.0.1:1", "10.0.0.2:1", "[fd00::9]:1"]);
    assert_eq!(addresses(&dual_stack("IPv6"), 80, &slices, CLUSTER), ["10.0.0.2:1", "[fd00::1]:1", "[fd00::9]:1"]);
    // Without an IPv6 address of its own the gateway takes the pod's other address.
    let no_ipv6 = EndpointRules { ipv6: false, ..CLUSTER };
    assert_eq!(addresses(&dual_stack("IPv6"), 80, &slices, no_ipv6), ["10.0.0.1:1", "10.0.0.2:1"]);
}

#[test]
fn local_addresses_are_refused_where_they_reach_the_gateway_itself() {
    let listed =
        json!([{"addresses": ["127.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "0.0.0.0", "224.0.0.1", "10.0.0.1"]}]);
    let slices = [slice(&json!([{"port": 1}]), &listed)];
    let single = service(&json!([{"port": 80}]));
    assert_eq!(addresses(&single, 80, &slices, CLUSTER), ["10.0.0.1:1"]);
    let refused = endpoints(&single, service_port(&single, TransportPort::tcp(80)).unwrap(), &slices, CLUSTER).refused;
    assert_eq!(refused.len(), 6, "{refused:?}");
    let standalone = EndpointRules { ipv6: false, allow_local: true, own: [None; 2], by_ordinal: false, keeps_draining: false };
    let expected = ["10.0.0.1:1", "127.0.0.1:1", "169.254.169.254:1", "[::1]:1", "[fe80::1]:1"];
    assert_eq!(addresses(&single, 80, &slices, standalone), expected);
}

#[test]
fn names_and_nonsense_are_no_addresses() {
    let mut fqdn = slice(&json!([{"port": 1}]), &json!([{"addresses": ["10.0.0.1"]}]));
    fqdn.address_type = "FQDN".to_owned();
    let nonsense = slice(&json!([{"port": 1}]), &json!([{"addresses": ["example.com", "", "10.0.0.256"]}]));
    assert_eq!(addresses(&service(&json!([{"port": 80}])), 80, &[fqdn, nonsense], CLUSTER), [""; 0]);
}

#[test]
fn pods_are_known_by_their_target_ref() {
    let listed = json!([
        {"addresses": ["10.0.0.1"], "targetRef": pod("a")},
        {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Node", "name": "x"}},
        {"addresses": ["10.0.0.1"]},
    ]);
    let single = service(&json!([{"port": 80}]));
    let found =
        endpoints(&single, service_port(&single, TransportPort::tcp(80)).unwrap(), &[slice(&json!([{"port": 1}]), &listed)], CLUSTER).list;
    let uids: Vec<_> = found.iter().map(|endpoint| endpoint.pod.as_ref().map(|pod| &*pod.uid)).collect();
    assert_eq!(uids, [Some("a"), None]);
}

proptest! {
    /// The order in which slices and endpoints are listed says nothing.
    #[test]
    fn any_order_gives_the_same_list(
        listed in prop::collection::vec((0_u8..8, 0_u8..4, prop::bool::ANY), 0..12),
        split in 0_usize..12,
        v6_first in prop::bool::ANY,
    ) {
        let endpoint = |(address, uid, v6): &(u8, u8, bool)| {
            let ip = if *v6 { format!("fd00::{address:x}") } else { format!("10.0.0.{address}") };
            if *uid == 0 { json!({"addresses": [ip]}) } else { json!({"addresses": [ip], "targetRef": pod(&uid.to_string())}) }
        };
        let service = dual_stack(if v6_first { "IPv6" } else { "IPv4" });
        let port = service_port(&service, TransportPort::tcp(80)).unwrap();
        let forwards: Vec<Value> = listed.iter().map(endpoint).collect();
        let backwards: Vec<Value> = forwards.iter().rev().cloned().collect();
        let ports = json!([{"port": 1}]);
        let (head, tail) = backwards.split_at(split.min(backwards.len()));
        let one = endpoints(&service, port, &[slice(&ports, &json!(forwards))], CLUSTER);
        let two = endpoints(&service, port, &[slice(&ports, &json!(head)), slice(&ports, &json!(tail))], CLUSTER);
        prop_assert_eq!(&one, &two);
        prop_assert!(one.list.is_sorted_by(|a, b| a.address < b.address));
        // A pod is there in one family only.
        for endpoint in one.list.iter().filter(|endpoint| endpoint.pod.is_some()) {
            prop_assert!(one.list.iter().all(|other| other.pod != endpoint.pod || other.address.is_ipv4() == endpoint.address.is_ipv4()));
        }
    }
}
