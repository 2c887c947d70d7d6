//! Random routes of every kind, and the options for them.

use clingfish::base::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::objects::{GATEWAY_API, GATEWAY_API_V1, metadata, namespace};

fn parents() -> impl Strategy<Value = Vec<Value>> {
    let parents = [
        json!({"name": "gw"}),
        json!({"name": "gw", "namespace": "a", "sectionName": "http"}),
        json!({"name": "gw", "namespace": "b", "port": 81}),
        json!({"name": "gone"}),
        json!({"group": GATEWAY_API, "kind": "ListenerSet", "name": "set-0"}),
        json!({"group": GATEWAY_API, "kind": "ListenerSet", "name": "set-1", "namespace": "a", "sectionName": "wild"}),
        json!({"name": "gw", "namespace": "a"}),
    ];
    proptest::sample::subsequence(parents.to_vec(), 0..4)
}

fn hostnames() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(vec!["a.example.com", "*.example.com", "*.com", "other.org", "x.through.org", "x.here.org"], 0..3)
}

/// What a route refers to.
fn backend() -> impl Strategy<Value = Value> {
    (0..5u8, namespace(), 0..3u8).prop_map(|(kind, namespace, weight)| match kind {
        0 => json!({"name": "web", "port": 80, "namespace": namespace, "weight": weight}),
        1 => json!({"name": "web", "port": 81}),
        2 => json!({"name": "up", "kind": "Upstream", "group": "gloo.solo.io", "namespace": namespace}),
        3 => json!({"name": "web", "port": 80}),
        _ => json!({"name": "x", "kind": "Thing", "group": "g"}),
    })
}

/// Of rules and of backends, some of them wrong.
fn filter() -> impl Strategy<Value = Value> {
    (0..9u8, backend(), 0..3u8).prop_map(|(kind, backend, percent)| match kind {
        0 => json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}),
        1 => json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "x", "value": "y"}]}}),
        2 => json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/z"}}}),
        3 => json!({"type": "RequestRedirect", "requestRedirect": {"hostname": "c.example"}}),
        4 | 5 => mirror(backend, percent),
        6 => json!({"type": "CORS", "cors": {"allowOrigins": ["https://*.example.com"], "allowCredentials": true}}),
        7 => json!({"type": "CORS", "cors": {"allowOrigins": ["no origin"]}}),
        _ => json!({"type": "ExtensionRef", "extensionRef": {"group": "gateway.solo.io", "kind": "RouteOption", "name": "o"}}),
    })
}

fn mirror(mut backend: Value, percent: u8) -> Value {
    if let Some(backend) = backend.as_object_mut() {
        backend.remove("weight");
    }
    let mut mirror = json!({"backendRef": backend});
    if percent > 0 {
        mirror["percent"] = json!(percent * 40);
    }
    json!({"type": "RequestMirror", "requestMirror": mirror})
}

fn filters() -> impl Strategy<Value = Vec<Value>> {
    prop_oneof![3 => Just(Vec::new()), 2 => proptest::collection::vec(filter(), 1..3)]
}

fn backend_with_filters() -> impl Strategy<Value = Value> {
    (backend(), filters()).prop_map(|(mut backend, filters)| {
        if !filters.is_empty() {
            backend["filters"] = filters.into();
        }
        backend
    })
}

/// A rule of a route for requests.
fn rule(matches: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    (matches, filters(), proptest::collection::vec(backend_with_filters(), 0..3)).prop_map(|(matches, filters, backends)| {
        let mut rule = json!({"matches": [matches], "backendRefs": backends});
        if !filters.is_empty() {
            rule["filters"] = filters.into();
        }
        rule
    })
}

fn path() -> impl Strategy<Value = Value> {
    proptest::sample::select(vec![
        json!({"path": {"value": "/a"}}),
        json!({"path": {"type": "Exact", "value": "/a"}}),
        json!({"path": {"type": "RegularExpression", "value": "/a.*"}}),
        json!({"path": {"type": "RegularExpression", "value": "("}}),
        json!({"path": {"value": "/"}, "headers": [{"name": "x", "value": "1"}]}),
        json!({"path": {"value": "/a/b"}}),
    ])
}

fn method() -> impl Strategy<Value = Value> {
    proptest::sample::select(vec![
        json!({"method": {"service": "a.B", "method": "C"}}),
        json!({"method": {"service": "a.B"}}),
        json!({"method": {"type": "RegularExpression", "service": "a.*"}}),
        json!({"method": {"type": "RegularExpression", "method": "("}}),
        json!({"method": {"service": "a/b"}}),
        json!({"headers": [{"name": "x", "value": "1"}]}),
    ])
}

pub(super) fn http_route() -> impl Strategy<Value = Value> {
    let rules = proptest::collection::vec((rule(path()), 0..6u8), 0..3);
    (namespace(), 0..3u8, 0..3u8, hostnames(), parents(), rules).prop_map(|(namespace, name, age, hostnames, parents, rules)| {
        let rules = rules.into_iter().map(|(mut rule, timeouts)| {
            if timeouts == 1 {
                rule["sessionPersistence"] = json!({"cookie": {"name": "s"}});
            }
            if timeouts == 0 {
                rule["timeouts"] = json!({"request": "1s"});
            }
            rule
        });
        json!({"apiVersion": GATEWAY_API_V1, "kind": "HTTPRoute", "metadata": metadata(namespace, &format!("route-{name}"), age),
            "spec": {"parentRefs": parents, "hostnames": hostnames, "rules": rules.collect::<Vec<_>>()}})
    })
}

pub(super) fn grpc_route() -> impl Strategy<Value = Value> {
    let rules = proptest::collection::vec(rule(method()), 0..3);
    (namespace(), 0..2u8, 0..3u8, hostnames(), parents(), rules).prop_map(|(namespace, name, age, hostnames, parents, rules)| {
        json!({"apiVersion": GATEWAY_API_V1, "kind": "GRPCRoute", "metadata": metadata(namespace, &format!("route-{name}"), age),
            "spec": {"parentRefs": parents, "hostnames": hostnames, "rules": rules}})
    })
}

/// A route for connections or flows; only one kind has hostnames.
pub(super) fn stream_route(kind: Kind) -> impl Strategy<Value = Value> {
    let backends = proptest::collection::vec(backend(), 0..3);
    (namespace(), 0..2u8, 0..3u8, hostnames(), parents(), backends).prop_map(move |(namespace, name, age, hostnames, parents, backends)| {
        let mut spec = json!({"parentRefs": parents, "rules": [{"backendRefs": backends}]});
        if kind == Kind::TlsRoute {
            spec["hostnames"] = json!(hostnames);
        }
        json!({"apiVersion": GATEWAY_API_V1, "kind": kind.as_str(), "metadata": metadata(namespace, &format!("route-{name}"), age), "spec": spec})
    })
}

pub(super) fn route_option() -> impl Strategy<Value = Value> {
    let targets = proptest::sample::subsequence(vec!["route-0", "route-1", "gone"], 0..3);
    let kind =
        proptest::sample::select(vec![Kind::HttpRoute, Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute, Kind::TlsRoute, Kind::UdpRoute]);
    (namespace(), 0..2u8, 0..3u8, targets, kind, 0..5u8).prop_map(|(namespace, name, age, targets, kind, variant)| {
        let options = match variant {
            0 => json!({"lbHash": {"hashPolicies": [{"header": "x"}]}}),
            1 => json!({"timeout": "3s"}),
            2 => json!({"rbac": {}, "regexRewrite": {"pattern": {"regex": "^/(a|b)"}, "substitution": "/c"}}),
            3 => json!({"lbHash": {"hashPolicies": [{"sourceIp": true}]}}),
            _ => json!({"lbHash": {"hashPolicies": [{"cookie": {"name": "c", "ttl": "60s"}}]}, "timeout": "5s", "cors": {}}),
        };
        let refs: Vec<_> = targets.into_iter().map(|name| json!({"group": GATEWAY_API, "kind": kind.as_str(), "name": name})).collect();
        let name = if name == 0 { "o" } else { "p" };
        json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": metadata(namespace, name, age),
            "spec": {"targetRefs": refs, "options": options}})
    })
}
