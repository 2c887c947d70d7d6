use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::base::{Kind, ObjectName};
use crate::snapshot::{CircuitBreakers, ClusterState, TransportPort};
use crate::translate::backend::upstream::{compile, tests as given};

use super::*;

const RINGS: RingLimits = RingLimits { one: 1 << 20, available: 8 << 20 };

fn slice(addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "httpbin-1", "namespace": "httpbin"},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    })
}

fn view(addresses: &[&str]) -> given::View {
    given::View { slices: vec![serde_json::from_value(slice(addresses)).unwrap()], ..given::view() }
}

fn built(spec: &Value, view: &given::View, previous: Option<&Arc<Cluster>>) -> Arc<Cluster> {
    let name = BackendName {
        kind: Kind::Upstream,
        name: ObjectName::new("gloo-system", "httpbin"),
        port: None,
        policy: None,
        is_persistent: false,
    };
    let compiled = compile(&given::upstream(spec), view, given::RULES);
    upstream_cluster(
        ClusterId(7),
        &name,
        &compiled,
        &ClusterPolicies::default(),
        view,
        given::RULES,
        RINGS,
        previous,
        &mut Tables::unlimited(),
    )
    .cluster
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    cluster.hosts.iter().map(|host| host.address.to_string()).collect()
}

#[test]
fn the_guides_upstream_is_a_cluster_with_a_table() {
    let cluster = built(&given::guide(json!({"loadBalancerConfig": {"ringHash": {}}})), &view(&["10.0.43.175", "10.0.38.52"]), None);
    assert_eq!(cluster.id, ClusterId(7));
    assert_eq!(cluster.state, ClusterState::Ready);
    assert_eq!(addresses(&cluster), ["10.0.38.52:8080", "10.0.43.175:8080"]);
    assert_eq!(cluster.balancer.table().unwrap().size, 1024);
    assert_eq!(&*cluster.hosts[0].text, "10.0.38.52:8080");
    assert!(cluster.hosts[0].live.is_none());
}

#[test]
fn what_did_not_change_is_the_same_cluster() {
    let spec = given::guide(json!({"loadBalancerConfig": {"maglev": {}}}));
    let first = built(&spec, &view(&["10.0.0.1", "10.0.0.2"]), None);
    let same = built(&spec, &view(&["10.0.0.2", "10.0.0.1"]), Some(&first));
    assert!(Arc::ptr_eq(&first, &same));
    let others = [
        built(&spec, &view(&["10.0.0.1"]), Some(&first)),
        built(&given::guide(json!({})), &view(&["10.0.0.1", "10.0.0.2"]), Some(&first)),
        built(
            &given::guide(json!({"loadBalancerConfig": {"maglev": {}}, "connectionConfig": {"connectTimeout": "3s"}})),
            &view(&["10.0.0.1", "10.0.0.2"]),
            Some(&first),
        ),
        built(
            &given::guide(json!({"loadBalancerConfig": {"maglev": {}, "closeConnectionsOnHostSetChange": true}})),
            &view(&["10.0.0.1", "10.0.0.2"]),
            Some(&first),
        ),
        built(
            &given::guide(json!({"loadBalancerConfig": {"maglev": {}}, "sslConfig": {}})),
            &view(&["10.0.0.1", "10.0.0.2"]),
            Some(&first),
        ),
        built(
            &given::guide(json!({"loadBalancerConfig": {"maglev": {}}, "circuitBreakers": {"maxRequests": 7}})),
            &view(&["10.0.0.1", "10.0.0.2"]),
            Some(&first),
        ),
    ];
    assert!(others.iter().all(|other| !Arc::ptr_eq(other, &first)));
    assert!(others.iter().all(|other| Arc::ptr_eq(&other.live, &first.live)), "what is in flight stays counted");
    assert_eq!(others[5].circuit_breakers, CircuitBreakers { max_requests: Some(7), ..CircuitBreakers::default() });
}

#[test]
fn counters_are_kept_by_address_and_only_where_they_are_read() {
    let spec = given::guide(json!({"loadBalancerConfig": {"leastRequest": {}}}));
    let first = built(&spec, &view(&["10.0.0.2"]), None);
    first.hosts[0].live.as_ref().unwrap().active.store(5, Ordering::Relaxed);
    let second = built(&spec, &view(&["10.0.0.1", "10.0.0.2"]), Some(&first));
    let active: Vec<u32> = second.hosts.iter().map(|host| host.live.as_ref().unwrap().active.load(Ordering::Relaxed)).collect();
    assert_eq!(active, [0, 5]);
    assert!(Arc::ptr_eq(&second.hosts[1].text, &first.hosts[0].text));
    let round_robin = built(&given::guide(json!({})), &view(&["10.0.0.2"]), Some(&second));
    assert!(round_robin.hosts[0].live.is_none());
}

#[test]
fn a_rejected_upstream_is_refused_and_a_missing_service_is_empty() {
    let refused = built(&given::guide(json!({"sslConfig": {}})), &view(&["10.0.0.1"]), None);
    assert!(matches!(&refused.state, ClusterState::Refused(reason) if reason.contains("spec.sslConfig")));
    assert!(refused.hosts.is_empty() && refused.balancer.choose(0, 0, |_| 0).is_none());
    let missing = json!({"kube": {"serviceName": "gone", "serviceNamespace": "httpbin", "servicePort": 8000}});
    let empty = built(&missing, &view(&["10.0.0.1"]), None);
    assert_eq!((&empty.state, empty.hosts.len()), (&ClusterState::Ready, 0));
}

#[test]
fn a_service_is_a_cluster_in_turns() {
    let name = |port: u16| BackendName {
        kind: Kind::Service,
        name: ObjectName::new("httpbin", "httpbin"),
        port: Some(TransportPort::tcp(port)),
        policy: None,
        is_persistent: false,
    };
    let mut view = view(&["10.0.0.1", "127.0.0.1"]);
    let built =
        service_cluster(ClusterId(1), &name(8000), &ClusterPolicies::default(), &view, given::RULES, RINGS, None, &mut Tables::unlimited());
    assert_eq!(addresses(&built.cluster), ["10.0.0.1:8080"]);
    assert!(!built.cluster.balancer.uses_hash());
    assert_eq!(built.notices.len(), 1);
    assert!(built.notices[0].contains("Service httpbin/httpbin:8000: endpoint 127.0.0.1"), "{:?}", built.notices);
    assert_eq!(
        service_cluster(ClusterId(1), &name(1), &ClusterPolicies::default(), &view, given::RULES, RINGS, None, &mut Tables::unlimited())
            .cluster
            .hosts
            .len(),
        0
    );
    view.services.values_mut().for_each(|service| service.spec.as_mut().unwrap().type_ = Some("ExternalName".to_owned()));
    let external =
        service_cluster(ClusterId(1), &name(8000), &ClusterPolicies::default(), &view, given::RULES, RINGS, None, &mut Tables::unlimited())
            .cluster;
    assert!(matches!(&external.state, ClusterState::Refused(reason) if reason.contains("ExternalName")));
}

#[test]
fn static_hosts_are_resolved_and_weighted() {
    let spec = json!({
        "static": {"hosts": [
            {"addr": "10.0.0.9", "port": 80, "loadBalancingWeight": 3}, {"addr": "a.example", "port": 80}, {"addr": "b.example", "port": 80}, {"addr": "later.example", "port": 80},
        ]},
        "loadBalancerConfig": {"ringHash": {}},
    });
    let mut view = view(&[]);
    view.dns.insert("a.example".to_owned(), vec!["10.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap()]);
    view.dns.insert("b.example".to_owned(), vec!["10.0.0.2".parse().unwrap()]);
    let cluster = built(&spec, &view, None);
    // In the order of the resource, which a ring can depend on; the same address once.
    assert_eq!(addresses(&cluster), ["10.0.0.9:80", "10.0.0.2:80"]);
    assert_eq!(cluster.hosts[0].weight, 3);

    // With the names as keys two hosts on one address are two entries (one would take the other's share).
    let mut by_name = spec;
    by_name["loadBalancerConfig"]["useHostnameForHashing"] = json!(true);
    let cluster = built(&by_name, &view, None);
    let keys: Vec<_> = cluster.hosts.iter().map(|host| (host.address.to_string(), host.hash_key.clone().unwrap().to_string())).collect();
    let expected = [("10.0.0.9:80", "10.0.0.9"), ("10.0.0.2:80", "a.example"), ("10.0.0.2:80", "b.example")];
    assert_eq!(keys, expected.map(|(address, key)| (address.to_owned(), key.to_owned())));
}

#[test]
fn a_ring_beyond_the_limits_is_refused_before_it_is_built() {
    let name = BackendName {
        kind: Kind::Upstream,
        name: ObjectName::new("gloo-system", "httpbin"),
        port: None,
        policy: None,
        is_persistent: false,
    };
    let view = view(&["10.0.0.1", "10.0.0.2"]);
    for (size, limits, points, refusal) in [
        (4096, RINGS, 4096, None),
        (2 << 20, RINGS, 0, Some("expected at most 1048576")),
        (4096, RingLimits { available: 4095, ..RINGS }, 4096, Some("leave no room")),
        (4096, RingLimits { available: 4096, ..RINGS }, 4096, None),
    ] {
        let spec = given::guide(json!({"loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": size}}}}));
        let compiled = compile(&given::upstream(&spec), &view, given::RULES);
        let built = upstream_cluster(
            ClusterId(7),
            &name,
            &compiled,
            &ClusterPolicies::default(),
            &view,
            given::RULES,
            limits,
            None,
            &mut Tables::unlimited(),
        );
        assert_eq!(built.ring.points, points, "{size} {limits:?}");
        assert_eq!(built.ring.refusal.as_ref().is_some_and(|found| found.contains(refusal.unwrap_or("?"))), refusal.is_some(), "{size}");
        let table = built.cluster.balancer.table().map(|table| table.size);
        assert_eq!(table, refusal.is_none().then_some(points), "{size} {limits:?}");
        assert_eq!(built.cluster.state != ClusterState::Ready, refusal.is_some());
    }
}
