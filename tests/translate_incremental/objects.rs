//! Random objects of every kind, few enough in names that they meet each other.

use clingfish::base::Kind;
use proptest::{prelude::*, strategy::Union};
use serde_json::{Value, json};

use super::routes::{grpc_route, http_route, route_option, stream_route};

const NAMESPACES: [&str; 2] = ["a", "b"];

pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";
pub(super) const GATEWAY_API_V1: &str = "gateway.networking.k8s.io/v1";

/// An object of any kind.
pub(super) fn object() -> impl Strategy<Value = Value> {
    Union::new_weighted(Kind::ALL.iter().map(|kind| of_kind(*kind)).collect())
}

/// How often an object of the kind comes, and what it is. A kind without a line does not compile.
pub(super) fn of_kind(kind: Kind) -> (u32, BoxedStrategy<Value>) {
    match kind {
        Kind::AffinityPolicy => (3, affinity_policy().boxed()),
        Kind::AffinitySlots => (1, affinity_slots().boxed()),
        Kind::BackendTlsPolicy => (3, backend_tls_policy().boxed()),
        Kind::BackendTrafficPolicy => (2, backend_traffic_policy().boxed()),
        Kind::ConfigMap => (2, authorities().boxed()),
        Kind::EndpointSlice => (4, slice().boxed()),
        Kind::Gateway => (4, gateway().boxed()),
        Kind::GatewayClass => (1, class().boxed()),
        Kind::GatewayParameters => (1, parameters().boxed()),
        Kind::GrpcRoute => (3, grpc_route().boxed()),
        Kind::HttpRoute => (6, http_route().boxed()),
        Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption => (1, gateway_option(kind).boxed()),
        Kind::ListenerSet => (3, listener_set().boxed()),
        Kind::Namespace => (1, namespace_object().boxed()),
        Kind::ReferenceGrant => (2, grant().boxed()),
        Kind::RouteOption => (3, route_option().boxed()),
        Kind::Secret => (2, secret().boxed()),
        Kind::Service => (3, service().boxed()),
        Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute => (1, stream_route(kind).boxed()),
        Kind::Upstream => (3, upstream().boxed()),
    }
}

pub(super) fn metadata(namespace: &str, name: &str, age: u8) -> Value {
    let uid = format!("uid-{namespace}-{name}");
    let mut metadata = json!({"namespace": namespace, "name": name, "uid": uid, "generation": i64::from(age) + 1});
    if age > 0 {
        metadata["creationTimestamp"] = json!(format!("2026-01-{age:02}T00:00:00Z"));
    }
    metadata
}

pub(super) fn namespace() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMESPACES[..])
}

fn affinity_policy() -> impl Strategy<Value = Value> {
    let target = prop_oneof![
        Just(json!({"group": "", "kind": "Service", "name": "web"})),
        Just(json!({"group": "", "kind": "Service", "name": "web", "sectionName": "http"})),
        Just(json!({"group": "gloo.solo.io", "kind": "Upstream", "name": "up"})),
        (0..3u8).prop_map(|index| json!({"group": GATEWAY_API, "kind": "HTTPRoute", "name": format!("route-{index}")})),
        Just(json!({"group": GATEWAY_API, "kind": "HTTPRoute", "name": "route-0", "sectionName": "rule"})),
        Just(json!({"group": GATEWAY_API, "kind": "TCPRoute", "name": "route-0"})),
        Just(json!({"group": GATEWAY_API, "kind": "GRPCRoute", "name": "route-0"})),
    ];
    let settings = prop_oneof![
        Just(json!({"keys": [{"cookie": {"name": "c", "ttl": "0s"}}], "missing": "Connection"})),
        Just(
            json!({"keys": [{"header": {"name": "x", "regex": {"pattern": "a+", "substitution": "b"}}}], "algorithm": {"ringHash": {"min": 8, "max": 16}}})
        ),
        Just(json!({"identity": "Ordinal", "algorithm": {"maglev": {"tableSize": 103}}, "load": {"boundPercent": 120}})),
        Just(json!({"keys": [{"cookie": {"name": "c", "ttl": "0s"}}], "hold": "WhileAlive"})),
        Just(json!({"algorithm": {"maglev": {"tableSize": 100}}})),
        Just(json!({"identity": "Slot", "algorithm": {"maglev": {"tableSize": 103}}})),
        Just(
            json!({"identity": "Slot", "spareTime": "0s", "warmUp": {"duration": "100s"}, "algorithm": {"ringHash": {"min": 8, "max": 16}}})
        ),
        Just(json!({"warmUp": {"duration": "20s", "minPercent": 50}, "algorithm": {"maglev": {"tableSize": 103}}})),
        Just(json!({"keys": [{}]})),
    ];
    let policy = (namespace(), 0..3u8, 0..4u8, proptest::collection::vec(target, 0..3), settings);
    policy.prop_map(|(namespace, name, age, targets, mut spec)| {
        spec["targetRefs"] = targets.into();
        let metadata = metadata(namespace, &format!("affinity-{name}"), age);
        json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy", "metadata": metadata, "spec": spec})
    })
}

fn backend_traffic_policy() -> impl Strategy<Value = Value> {
    let target = prop_oneof![
        Just(json!({"group": "", "kind": "Service", "name": "web"})),
        Just(json!({"group": "gloo.solo.io", "kind": "Upstream", "name": "up"})),
        Just(json!({"group": "", "kind": "Secret", "name": "web"})),
    ];
    let persistence = prop_oneof![
        Just(json!({"sessionName": "s", "absoluteTimeout": "1h"})),
        Just(json!({"type": "Header", "header": {"name": "x-s"}})),
        Just(json!({"cookieConfig": {"lifetimeType": "Permanent"}})),
        Just(json!(null)),
    ];
    let policy = (namespace(), 0..3u8, 0..4u8, proptest::collection::vec(target, 0..3), persistence);
    policy.prop_map(|(namespace, name, age, targets, persistence)| {
        let metadata = metadata(namespace, &format!("traffic-{name}"), age);
        let spec = json!({"targetRefs": targets, "sessionPersistence": persistence});
        json!({"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy", "metadata": metadata, "spec": spec})
    })
}

fn affinity_slots() -> impl Strategy<Value = Value> {
    let holder = prop_oneof![Just("10.0.0.1:8080"), Just("10.0.0.1"), Just("pod-0")];
    let target = prop_oneof![Just(("", "Service", "web", "service-web")), Just(("gloo.solo.io", "Upstream", "up", "upstream-up"))];
    (namespace(), 0..3u8, holder, 950..1_000u64, target).prop_map(|(namespace, number, holder, since, (group, kind, target, name))| {
        let slots = json!([{"number": 7, "holder": {"pod": "10.0.0.2:8080", "since": 1}}, {"number": number, "holder": {"pod": holder, "since": since}}]);
        let spec = json!({"targetRef": {"group": group, "kind": kind, "name": target}, "slots": slots});
        json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinitySlots", "metadata": metadata(namespace, name, 0), "spec": spec})
    })
}

fn class() -> impl Strategy<Value = Value> {
    (0..2u8, 0..3u8).prop_map(|(name, variant)| {
        let mut spec = json!({"controllerName": if variant == 0 { "example.com/other" } else { "clingfish.dev/gateway-controller" }});
        if variant == 2 {
            spec["parametersRef"] = json!({"group": "g", "kind": "K", "name": "n"});
        }
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": format!("class-{name}")}, "spec": spec})
    })
}

pub(super) fn listener(index: u8) -> Value {
    [
        json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}),
        json!({"name": "wild", "port": 80, "protocol": "HTTP", "hostname": "*.example.com"}),
        json!({"name": "other", "port": 81, "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "x"}}}}}),
        json!({"name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls", "namespace": "a"}, {"name": "tls"}]}}),
        json!({"name": "again", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}, {"kind": "HTTPRoute"}]}}),
        json!({"name": "datagrams", "port": 80, "protocol": "UDP", "allowedRoutes": {"namespaces": {"from": "All"}}}),
        json!({"name": "through", "port": 443, "protocol": "TLS", "hostname": "*.through.org", "tls": {"mode": "Passthrough"},
            "allowedRoutes": {"namespaces": {"from": "All"}}}),
        json!({"name": "here", "port": 443, "protocol": "TLS", "hostname": "*.here.org", "tls": {"certificateRefs": [{"name": "tls"}]}}),
        json!({"name": "stream", "port": 81, "protocol": "TCP", "allowedRoutes": {"namespaces": {"from": "All"}}}),
    ][usize::from(index)]
    .clone()
}

fn listeners() -> impl Strategy<Value = Vec<Value>> {
    let indices = proptest::sample::subsequence(vec![0u8, 1, 2, 3, 4, 5, 6, 7, 8], 1..5).prop_shuffle();
    indices.prop_map(|indices| indices.into_iter().map(listener).collect())
}

fn gateway() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8, 0..3u8, listeners(), (0..3u8, 0..4u8, 0..3u8, 0..5u8)).prop_map(
        |(namespace, class, age, listeners, (address, sets, parameters, tls))| {
            let mut spec = json!({"gatewayClassName": format!("class-{class}"), "listeners": listeners});
            if address > 0 {
                let kind = if address == 1 { "IPAddress" } else { "Hostname" };
                spec["addresses"] = json!([{"type": kind, "value": "127.0.0.9"}]);
            }
            match sets {
                0 => {}
                1 => spec["allowedListeners"] = json!({"namespaces": {"from": "Same"}}),
                2 => spec["allowedListeners"] = json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "x"}}}}),
                _ => spec["allowedListeners"] = json!({"namespaces": {"from": "All"}}),
            }
            let authorities = json!([{"group": "", "kind": "ConfigMap", "name": "ca", "namespace": "a"}]);
            match tls {
                0 => spec["tls"] = json!({"frontend": {"default": {"validation": {"caCertificateRefs": authorities}}}}),
                1 => spec["tls"] = json!({"backend": {"clientCertificateRef": {"name": "tls"}}}),
                _ => {}
            }
            if parameters == 0 {
                spec["infrastructure"] =
                    json!({"parametersRef": {"group": "clingfish.dev", "kind": "GatewayParameters", "name": "parameters"}});
            }
            json!({"apiVersion": GATEWAY_API_V1, "kind": "Gateway", "metadata": metadata(namespace, "gw", age), "spec": spec})
        },
    )
}

fn listener_set() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8, 0..3u8, listeners(), 0..5u8, 0..4u8).prop_map(|(namespace, name, age, mut listeners, parent, own)| {
        let parent = [
            json!({"name": "gw"}),
            json!({"name": "gw", "namespace": "a"}),
            json!({"name": "gw", "namespace": "b"}),
            json!({"name": "gone"}),
            json!({"name": "gw", "kind": "Service", "group": ""}),
        ][usize::from(parent)]
        .clone();
        // With a hostname of its own a set is mostly in nobody's way.
        if own > 0
            && let Some(first) = listeners.first_mut()
        {
            first["hostname"] = json!(format!("set-{name}.{namespace}.example.com"));
        }
        json!({"apiVersion": GATEWAY_API_V1, "kind": "ListenerSet", "metadata": metadata(namespace, &format!("set-{name}"), age),
            "spec": {"parentRef": parent, "listeners": listeners}})
    })
}

fn parameters() -> impl Strategy<Value = Value> {
    (namespace(), 0..4u8).prop_map(|(namespace, variant)| {
        let service = [
            json!({"type": "NodePort"}),
            json!({"annotations": {"x": "y"}, "nodePorts": [{"port": 80, "nodePort": 30080}]}),
            json!({"type": "Balancer"}),
            json!({"color": "red"}),
        ][usize::from(variant)]
        .clone();
        json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "GatewayParameters", "metadata": metadata(namespace, "parameters", 0),
            "spec": {"service": service}})
    })
}

fn service() -> impl Strategy<Value = Value> {
    (namespace(), 0..5u8, 0..6u8).prop_map(|(namespace, variant, affinity)| {
        let ports = [
            json!([{"port": 80}]),
            json!([{"name": "http", "port": 80}, {"name": "x", "port": 81}]),
            json!([{"port": 80, "appProtocol": "kubernetes.io/h2c"}]),
            json!([{"port": 90}]),
            json!([{"name": "http", "port": 80, "protocol": "UDP"}, {"name": "x", "port": 80}]),
        ][usize::from(variant)]
        .clone();
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(namespace, "web", 0),
            "spec": {"ports": ports, "sessionAffinity": if affinity == 0 { "ClientIP" } else { "None" }}})
    })
}

fn slice() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8, 0..4u8, 0..3u8, 0..4u8).prop_map(|(namespace, name, host, service, state)| {
        let (family, address) = if host == 3 { ("IPv6", "fd00::1".to_owned()) } else { ("IPv4", format!("10.0.0.{host}")) };
        let mut metadata = metadata(namespace, &format!("slice-{name}"), 0);
        if service > 0 {
            metadata["labels"] = json!({"kubernetes.io/service-name": if service == 1 { "web" } else { "other" }});
        }
        let conditions = json!({"ready": state < 2, "serving": state < 3, "terminating": state > 1});
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": family,
            "endpoints": [{"addresses": [address], "conditions": conditions}],
            "ports": [{"name": "http", "port": 8080}, {"port": 9090}]})
    })
}

fn upstream() -> impl Strategy<Value = Value> {
    (namespace(), namespace(), 0..6u8).prop_map(|(namespace, target, variant)| {
        let kube = json!({"serviceName": "web", "serviceNamespace": target, "servicePort": 80});
        let spec = match variant {
            0 => json!({"kube": kube}),
            1 => json!({"kube": kube, "loadBalancerConfig": {"maglev": {}}}),
            2 => {
                json!({"kube": kube, "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": 9, "maximumRingSize": 5}}}})
            }
            3 => json!({"static": {"hosts": [{"addr": "name.example", "port": 80}, {"addr": "10.9.9.9", "port": 80}]}}),
            4 => json!({"kube": kube, "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": 1050}}}}),
            _ => json!({"kube": kube, "loadBalancerConfig": {"ringHash": {}}, "circuitBreakers": {}}),
        };
        json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": metadata(namespace, "up", 0), "spec": spec})
    })
}

fn gateway_option(kind: Kind) -> impl Strategy<Value = Value> {
    (namespace(), namespace(), 0..4u8, 0..3u8).prop_map(move |(namespace, target, section, variant)| {
        let options = [json!({"extauth": {}}), json!({"extensions": {}}), json!({})][usize::from(variant)].clone();
        let mut reference = json!({"group": GATEWAY_API, "kind": "Gateway", "name": "gw", "namespace": target});
        if section > 0 {
            reference["sectionName"] = json!(["http", "wild", "none"][usize::from(section) - 1]);
        }
        json!({"apiVersion": "gateway.solo.io/v1", "kind": kind.as_str(), "metadata": metadata(namespace, "option", 0),
            "spec": {"targetRefs": [reference], "options": options}})
    })
}

fn grant() -> impl Strategy<Value = Value> {
    let from = proptest::sample::select(vec![
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TcpRoute,
        Kind::TlsRoute,
        Kind::UdpRoute,
        Kind::Upstream,
        Kind::Gateway,
        Kind::ListenerSet,
    ]);
    (namespace(), 0..2u8, from, 0..3u8).prop_map(|(namespace, name, from, to)| {
        let other = if namespace == "a" { "b" } else { "a" };
        let to = match (from, to) {
            (Kind::Gateway | Kind::ListenerSet, _) => json!({"group": "", "kind": "Secret"}),
            (_, 0) => json!({"group": "gloo.solo.io", "kind": "Upstream", "name": "up"}),
            _ => json!({"group": "", "kind": "Service"}),
        };
        json!({"apiVersion": GATEWAY_API_V1, "kind": "ReferenceGrant", "metadata": metadata(namespace, &format!("grant-{name}"), 0),
            "spec": {"from": [{"group": from.group(), "kind": from.as_str(), "namespace": other}], "to": [to]}})
    })
}

/// Always one that can be used, and none is ever deleted: then the last good one would serve, which nothing made from scratch knows.
fn secret() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8).prop_map(|(namespace, version)| {
        let pair = match version {
            0 => (include_str!("../certificates/a.crt"), include_str!("../certificates/a.key")),
            _ => (include_str!("../certificates/b.crt"), include_str!("../certificates/b.key")),
        };
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(namespace, "tls", 0), "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pair.0, "tls.key": pair.1}})
    })
}

fn authorities() -> impl Strategy<Value = Value> {
    (namespace(), 0..4u8).prop_map(|(namespace, variant)| {
        let text =
            [include_str!("../certificates/ca.crt"), include_str!("../certificates/clients.crt"), "", "no PEM"][usize::from(variant)];
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata(namespace, "ca", 0), "data": {"ca.crt": text}})
    })
}

fn backend_tls_policy() -> impl Strategy<Value = Value> {
    (namespace(), 0..3u8, 0..3u8, 0..4u8, 0..4u8).prop_map(|(namespace, name, age, section, variant)| {
        let section = [None, None, Some("http"), Some("x")][usize::from(section)];
        let hostname = ["a.example", "b.example", "192.0.2.1", "a.example"][usize::from(variant)];
        let name = format!("policy-{name}");
        let references = json!([{"group": "", "kind": if variant == 3 { "Secret" } else { "ConfigMap" }, "name": "ca"}]);
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": metadata(namespace, &name, age),
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "web", "sectionName": section}],
                "validation": {"hostname": hostname, "caCertificateRefs": references}}})
    })
}

fn namespace_object() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8).prop_map(|(name, label)| {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": if label == 0 { "x" } else { "y" }}}})
    })
}
