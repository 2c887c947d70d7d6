//! Folding single changes gives the same as translating from scratch: snapshot, statuses, notices, names to resolve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

use std::{collections::BTreeMap, sync::Arc};

use clingfish::{
    api::{self, DecodeError, Document, Object},
    base::{Kind, Message, ObjectRef},
    snapshot::{BindAddress, BindState, Cluster, Observed, TableState, dump},
    translate::{
        AssumedClasses, Change, CrossNamespace, HostnameOwnership, Limits, Options, Resources, TableRequest, Translation, translate,
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

const NAMESPACES: [&str; 2] = ["a", "b"];

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Apply(Value),
    Delete(ObjectRef),
    Undecodable(DecodeError),
    Observe(u8),
}

fn metadata(namespace: &str, name: &str, age: u8) -> Value {
    let mut metadata = json!({"namespace": namespace, "name": name, "generation": i64::from(age) + 1});
    if age > 0 {
        metadata["creationTimestamp"] = json!(format!("2026-01-{age:02}T00:00:00Z"));
    }
    metadata
}

fn namespace() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(&NAMESPACES[..])
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

fn listener(index: u8) -> Value {
    [
        json!({"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}}),
        json!({"name": "wild", "port": 80, "protocol": "HTTP", "hostname": "*.example.com"}),
        json!({"name": "other", "port": 81, "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "x"}}}}}),
        json!({"name": "tls", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "tls", "namespace": "a"}, {"name": "tls"}]}}),
        json!({"name": "again", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}, {"kind": "HTTPRoute"}]}}),
        json!({"name": "datagrams", "port": 80, "protocol": "UDP", "allowedRoutes": {"namespaces": {"from": "All"}}}),
    ][usize::from(index)]
    .clone()
}

fn gateway() -> impl Strategy<Value = Value> {
    let listeners = proptest::sample::subsequence(vec![0u8, 1, 2, 3, 4, 5], 1..4).prop_shuffle();
    (namespace(), 0..2u8, 0..3u8, listeners, 0..3u8, 0..5u8).prop_map(|(namespace, class, age, listeners, address, tls)| {
        let listeners: Vec<_> = listeners.into_iter().map(listener).collect();
        let mut spec = json!({"gatewayClassName": format!("class-{class}"), "listeners": listeners});
        if address > 0 {
            let kind = if address == 1 { "IPAddress" } else { "Hostname" };
            spec["addresses"] = json!([{"type": kind, "value": "127.0.0.9"}]);
        }
        let authorities = json!([{"group": "", "kind": "ConfigMap", "name": "ca", "namespace": "a"}]);
        match tls {
            0 => spec["tls"] = json!({"frontend": {"default": {"validation": {"caCertificateRefs": authorities}}}}),
            1 => spec["tls"] = json!({"backend": {"clientCertificateRef": {"name": "tls"}}}),
            _ => {}
        }
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata(namespace, "gw", age), "spec": spec})
    })
}

fn backend() -> impl Strategy<Value = Value> {
    (0..4u8, namespace(), 0..3u8).prop_map(|(kind, namespace, weight)| match kind {
        0 => json!({"name": "web", "port": 80, "namespace": namespace, "weight": weight}),
        1 => json!({"name": "web", "port": 81}),
        2 => json!({"name": "up", "kind": "Upstream", "group": "gloo.solo.io", "namespace": namespace}),
        _ => json!({"name": "x", "kind": "Thing", "group": "g"}),
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let backends = proptest::collection::vec(backend(), 0..3);
    (0..6u8, 0..6u8, backends).prop_map(|(path, extra, backends)| {
        let path = [
            json!({"value": "/a"}),
            json!({"type": "Exact", "value": "/a"}),
            json!({"type": "RegularExpression", "value": "/a.*"}),
            json!({"type": "RegularExpression", "value": "("}),
            json!({"value": "/"}),
            json!({"value": "/a/b"}),
        ][usize::from(path)]
        .clone();
        let mut rule = json!({"matches": [{"path": path}], "backendRefs": backends});
        match extra {
            0 => rule["filters"] = json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["x"]}}]),
            1 => rule["filters"] = json!([{"type": "CORS", "cors": {}}]),
            2 => {
                rule["filters"] =
                    json!([{"type": "ExtensionRef", "extensionRef": {"group": "gateway.solo.io", "kind": "RouteOption", "name": "o"}}]);
            }
            3 => rule["timeouts"] = json!({"request": "1s"}),
            _ => {}
        }
        rule
    })
}

fn route() -> impl Strategy<Value = Value> {
    let hostnames = proptest::sample::subsequence(vec!["a.example.com", "*.example.com", "*.com", "other.org"], 0..3);
    let parents = proptest::sample::subsequence(vec![0u8, 1, 2, 3], 0..3);
    let rules = proptest::collection::vec(rule(), 0..3);
    (namespace(), 0..3u8, 0..3u8, hostnames, parents, rules).prop_map(|(namespace, name, age, hostnames, parents, rules)| {
        let parents: Vec<_> = parents
            .into_iter()
            .map(|parent| match parent {
                0 => json!({"name": "gw"}),
                1 => json!({"name": "gw", "namespace": "a", "sectionName": "http"}),
                2 => json!({"name": "gw", "namespace": "b", "port": 81}),
                _ => json!({"name": "gone"}),
            })
            .collect();
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata(namespace, &format!("route-{name}"), age),
            "spec": {"parentRefs": parents, "hostnames": hostnames, "rules": rules}})
    })
}

fn udp_route() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8, 0..3u8, proptest::collection::vec(backend(), 0..3)).prop_map(|(namespace, name, age, backends)| {
        let parents = json!([{"name": "gw"}, {"name": "gw", "namespace": "a", "sectionName": "datagrams"}]);
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "UDPRoute", "metadata": metadata(namespace, &format!("route-{name}"), age),
            "spec": {"parentRefs": parents, "rules": [{"backendRefs": backends}]}})
    })
}

fn service() -> impl Strategy<Value = Value> {
    (namespace(), 0..5u8).prop_map(|(namespace, variant)| {
        let ports = [
            json!([{"port": 80}]),
            json!([{"name": "http", "port": 80}, {"name": "x", "port": 81}]),
            json!([{"port": 80, "appProtocol": "kubernetes.io/h2c"}]),
            json!([{"port": 90}]),
            json!([{"name": "http", "port": 80, "protocol": "UDP"}, {"name": "x", "port": 80}]),
        ][usize::from(variant)]
        .clone();
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(namespace, "web", 0), "spec": {"ports": ports}})
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

fn route_option() -> impl Strategy<Value = Value> {
    let targets = proptest::sample::subsequence(vec!["route-0", "route-1", "gone"], 0..3);
    (namespace(), 0..2u8, 0..3u8, targets, 0..4u8).prop_map(|(namespace, name, age, targets, variant)| {
        let options = match variant {
            0 => json!({"lbHash": {"hashPolicies": [{"header": "x"}]}}),
            1 => json!({"timeout": "3s"}),
            2 => json!({"rbac": {}, "regexRewrite": {"pattern": {"regex": "^/(a|b)"}, "substitution": "/c"}}),
            _ => json!({"lbHash": {"hashPolicies": [{"cookie": {"name": "c", "ttl": "60s"}}]}, "timeout": "5s", "cors": {}}),
        };
        let refs: Vec<_> =
            targets.into_iter().map(|name| json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name})).collect();
        let name = if name == 0 { "o" } else { "p" };
        json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": metadata(namespace, name, age),
            "spec": {"targetRefs": refs, "options": options}})
    })
}

fn gateway_option() -> impl Strategy<Value = Value> {
    let kind = proptest::sample::select(vec!["VirtualHostOption", "ListenerOption", "HttpListenerOption"]);
    (namespace(), namespace(), kind, 0..4u8, 0..3u8).prop_map(|(namespace, target, kind, section, variant)| {
        let options = [json!({"extauth": {}}), json!({"extensions": {}}), json!({})][usize::from(variant)].clone();
        let mut reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw", "namespace": target});
        if section > 0 {
            reference["sectionName"] = json!(["http", "wild", "none"][usize::from(section) - 1]);
        }
        json!({"apiVersion": "gateway.solo.io/v1", "kind": kind, "metadata": metadata(namespace, "option", 0),
            "spec": {"targetRefs": [reference], "options": options}})
    })
}

fn grant() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8, 0..5u8).prop_map(|(namespace, name, variant)| {
        let other = if namespace == "a" { "b" } else { "a" };
        if variant == 4 {
            return json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant",
                "metadata": metadata(namespace, &format!("grant-{name}"), 0),
                "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": other}],
                    "to": [{"group": "", "kind": "Secret"}]}});
        }
        let from = if variant % 2 == 0 { ("gateway.networking.k8s.io", "HTTPRoute") } else { ("gloo.solo.io", "Upstream") };
        let to = if variant < 2 { json!({"group": "", "kind": "Service"}) } else { json!({"group": "gloo.solo.io", "kind": "Upstream", "name": "up"}) };
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": metadata(namespace, &format!("grant-{name}"), 0),
            "spec": {"from": [{"group": from.0, "kind": from.1, "namespace": other}], "to": [to]}})
    })
}

/// Always one that can be used, and none is ever deleted: then the last good one would serve, which nothing made from scratch knows.
fn secret() -> impl Strategy<Value = Value> {
    (namespace(), 0..2u8).prop_map(|(namespace, version)| {
        let pair = match version {
            0 => (include_str!("certificates/a.crt"), include_str!("certificates/a.key")),
            _ => (include_str!("certificates/b.crt"), include_str!("certificates/b.key")),
        };
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(namespace, "tls", 0), "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": pair.0, "tls.key": pair.1}})
    })
}

fn authorities() -> impl Strategy<Value = Value> {
    (namespace(), 0..4u8).prop_map(|(namespace, variant)| {
        let text = [include_str!("certificates/ca.crt"), include_str!("certificates/clients.crt"), "", "no PEM"][usize::from(variant)];
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

fn object() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => class(),
        3 => gateway(),
        6 => route(),
        2 => udp_route(),
        3 => service(),
        4 => slice(),
        3 => upstream(),
        3 => route_option(),
        2 => gateway_option(),
        2 => grant(),
        1 => namespace_object(),
        2 => secret(),
        2 => authorities(),
        3 => backend_tls_policy(),
    ]
}

/// A version of the object that cannot be decoded: of a route or Gateway an outline can still be read.
fn undecodable(mut object: Value, generation: i64) -> DecodeError {
    let reference = decode(object.clone()).object_ref();
    object["metadata"]["generation"] = json!(generation);
    match reference.kind {
        Kind::HttpRoute => {
            let mut rules = object["spec"]["rules"].as_array().cloned().unwrap_or_default();
            rules.push(json!({"matches": [{"method": "FETCH"}]}));
            object["spec"]["rules"] = rules.into();
        }
        Kind::Gateway => object["spec"]["addresses"] = json!(generation),
        _ => {
            let message = "expected something else".into();
            return DecodeError {
                object: Some(reference),
                generation: Some(generation),
                uid: None,
                field: "spec".into(),
                message,
                outline: None,
            };
        }
    }
    let error = api::decode(object).unwrap_err();
    assert!(error.outline.is_some(), "{error}");
    error
}

fn step() -> impl Strategy<Value = Step> {
    let reference = |object: &Value| decode(object.clone()).object_ref();
    prop_oneof![
        12 => object().prop_map(Step::Apply),
        4 => object()
            .prop_filter("the last good certificate", |object| object["kind"] != "Secret")
            .prop_map(move |object| Step::Delete(reference(&object))),
        1 => (object(), 2..9i64).prop_map(|(object, generation)| Step::Undecodable(undecodable(object, generation))),
        1 => (0..8u8).prop_map(Step::Observe),
    ]
}

/// A start in which much is connected, so that short histories reach far.
fn start() -> Vec<Step> {
    let parents = json!([{"name": "gw", "namespace": "a"}]);
    let backends = json!([{"name": "web", "port": 80}, {"name": "up", "kind": "Upstream", "group": "gloo.solo.io"}]);
    [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "class-1"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata("a", "gw", 1),
            "spec": {"gatewayClassName": "class-1", "listeners": [listener(0), listener(1), listener(2)]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("a", "route-0", 2),
            "spec": {"parentRefs": parents, "rules": [{"backendRefs": backends}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("a", "web", 0), "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": metadata("a", "up", 0),
            "spec": {"kube": {"serviceName": "web", "serviceNamespace": "a", "servicePort": 80}, "loadBalancerConfig": {"maglev": {"x": 1}}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("a", "ca", 0),
            "data": {"ca.crt": include_str!("certificates/ca.crt")}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": metadata("a", "policy-0", 2),
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "validation": {"hostname": "a.example",
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}}}),
    ]
    .map(Step::Apply)
    .into()
}

fn decode(document: Value) -> Object {
    match api::decode(document.clone()) {
        Ok(Document::Object(object)) => *object,
        other => panic!("{document}: {other:?}"),
    }
}

fn observe(number: u8) -> Observed {
    let mut observed = Observed { ipv6: number & 1 > 0, ..Observed::default() };
    if number & 2 > 0 {
        observed.bound.insert(BindAddress::tcp("127.0.0.1:80".parse().unwrap()), BindState::Bound);
        observed.bound.insert(BindAddress::tcp("127.0.0.1:81".parse().unwrap()), BindState::Failed("in use".into()));
    }
    if number & 4 > 0 {
        observed.dns.insert("name.example".into(), Arc::new(["10.1.1.1".parse().unwrap()]));
    }
    observed
}

/// Everything that two translations can be compared by.
fn comparable(translation: &Translation) -> (Value, BTreeMap<String, Value>, Vec<&Message>, Vec<String>) {
    let statuses =
        translation.statuses.iter().map(|(object, status)| (object.to_string(), serde_json::to_value(&**status).unwrap())).collect();
    let names = translation.dns_names.iter().map(ToString::to_string);
    let wanted = names.chain(translation.wanted.iter().map(ToString::to_string));
    (dump(&translation.snapshot), statuses, translation.notices.iter().collect(), wanted.collect())
}

fn check(options: &Options, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut resources = Resources::default();
    let mut observed = Observed::default();
    let mut folded = translate(&resources, &observed, options, None);
    for step in steps {
        let before = folded.statuses.clone();
        match step {
            Step::Apply(object) => resources.apply(Change::Apply(Box::new(decode(object)))),
            Step::Delete(object) => resources.apply(Change::Delete(object)),
            Step::Undecodable(error) => resources.apply(Change::Undecodable(error)),
            Step::Observe(number) => observed = observe(number),
        }
        folded = translate(&resources, &observed, options, Some(folded));
        resources.clear_changes();
        let scratch = translate(&resources, &observed, options, None);
        prop_assert_eq!(comparable(&folded), comparable(&scratch));
        let touched = before.keys().chain(folded.statuses.keys()).filter(|object| before.get(*object) != folded.statuses.get(*object));
        let mut touched: Vec<_> = touched.cloned().collect();
        touched.sort();
        touched.dedup();
        prop_assert_eq!(&folded.changed_statuses, &touched);
        let again = Arc::clone(&folded.snapshot);
        folded = translate(&resources, &observed, options, Some(folded));
        prop_assert!(Arc::ptr_eq(&again, &folded.snapshot));
        prop_assert!(folded.changed_statuses.is_empty());
    }
    Ok(())
}

/// As `check`, but every hash table is built by somebody else, who takes his time: the table of one step is handed in after a later one.
fn check_slow(options: &Options, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let slow = Options { limits: Limits { table_entries_at_once: 0, ..options.limits }, ..options.clone() };
    let mut resources = Resources::default();
    let mut observed = Observed::default();
    let mut folded = translate(&resources, &observed, &slow, None);
    let mut being_built: Vec<TableRequest> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Apply(object) => resources.apply(Change::Apply(Box::new(decode(object)))),
            Step::Delete(object) => resources.apply(Change::Delete(object)),
            Step::Undecodable(error) => resources.apply(Change::Undecodable(error)),
            Step::Observe(number) => observed = observe(number),
        }
        if number % 2 == 1 {
            being_built.drain(..).for_each(|request| folded.hand_in(request.build()));
        }
        folded = translate(&resources, &observed, &slow, Some(folded));
        resources.clear_changes();
        if being_built.is_empty() {
            being_built = folded.wanted_tables().cloned().collect();
        }
        if number % 3 == 0 {
            continue;
        }
        let scratch = translate(&resources, &observed, &slow, None);
        let (now, then) = (comparable(&folded), comparable(&scratch));
        prop_assert_eq!((&now.1, &now.2, &now.3), (&then.1, &then.2, &then.3), "statuses, notices and names do not wait");
        check_meanwhile(&folded, &scratch)?;
        if number % 5 == 4 {
            folded = with_all_tables(&resources, &observed, &slow, folded)?;
            prop_assert_eq!(comparable(&folded), comparable(&scratch));
        }
    }
    folded = with_all_tables(&resources, &observed, &slow, folded)?;
    let scratch = translate(&resources, &observed, &slow, None);
    prop_assert_eq!(comparable(&folded), comparable(&scratch));
    Ok(())
}

/// A cluster whose table is being built knows its present hosts, or none if it had none, and chooses among them.
fn check_meanwhile(folded: &Translation, scratch: &Translation) -> Result<(), TestCaseError> {
    let wanted: BTreeMap<_, _> = folded.wanted_tables().map(|request| (&request.backend, request)).collect();
    let expected: BTreeMap<_, _> = scratch.snapshot.clusters.iter().flatten().map(|cluster| (&cluster.name, cluster)).collect();
    for cluster in folded.snapshot.clusters.iter().flatten() {
        prop_assert_eq!(cluster.table_state != TableState::Built, wanted.contains_key(&cluster.name));
        let addresses = |cluster: &Cluster| cluster.hosts.iter().map(|host| host.address).collect::<Vec<_>>();
        if cluster.table_state == TableState::Awaited {
            prop_assert!(cluster.hosts.is_empty() && cluster.no_hosts.is_some());
        } else {
            // Of one that no route uses any more nothing is expected: it goes when routes that wait are published.
            let expected = expected.get(&cluster.name);
            prop_assert!(expected.is_none_or(|expected| addresses(cluster) == addresses(expected)));
        }
        for hash in [0, 1 << 62, u64::MAX] {
            let choice = cluster.balancer.choose_by_hash(hash, 0);
            prop_assert_eq!(choice.is_none(), cluster.hosts.is_empty());
            prop_assert!(choice.is_none_or(|choice| (choice.host as usize) < cluster.hosts.len()));
        }
    }
    Ok(())
}

/// Hands in every table that is asked for, and needs one more translation for all of them.
fn with_all_tables(
    resources: &Resources,
    observed: &Observed,
    options: &Options,
    mut folded: Translation,
) -> Result<Translation, TestCaseError> {
    let wanted: Vec<_> = folded.wanted_tables().cloned().collect();
    wanted.into_iter().for_each(|request| folded.hand_in(request.build()));
    let folded = translate(resources, observed, options, Some(folded));
    prop_assert_eq!(folded.wanted_tables().count(), 0);
    Ok(folded)
}

/// So little that objects are in each other's way all the time.
fn narrowed(options: Options) -> Options {
    let limits = Limits { ring_points: 1500, points_of_one_ring: 1040, pattern_price: 700, matches_per_path: 2, ..options.limits };
    Options { limits, hostname_ownership: HostnameOwnership::FirstNamespace, ..options }
}

/// The older route takes the hostname over, and then its matches count against those of its namespace.
#[test]
fn the_matches_of_who_takes_a_hostname_over_count_at_once() {
    let rule = json!({"matches": [{"path": {"value": "/"}}], "backendRefs": []});
    let route = |namespace: &str, name: &str, age: u8, rules: &[Value]| {
        Step::Apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata(namespace, name, age),
            "spec": {"parentRefs": [{"name": "gw", "namespace": "a", "sectionName": "http"}], "rules": rules}}))
    };
    let steps = [route("b", "route-0", 1, &[]), route("a", "route-1", 0, &[rule.clone(), rule])];
    let options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..narrowed(Options::validate()) };
    check(&options, start().into_iter().chain(steps).collect()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn folding_changes_gives_what_translating_from_scratch_gives(
        steps in proptest::collection::vec(step(), 1..40),
        standalone: bool,
        narrow: bool,
        slow: bool,
    ) {
        let mut options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..Options::validate() };
        if standalone {
            options = Options { bind: "127.0.0.1".parse().unwrap(), cross_namespace: CrossNamespace::Grant, ..Options::default() };
        }
        if narrow {
            options = narrowed(options);
        }
        let check = if slow { check_slow } else { check };
        check(&options, start().into_iter().chain(steps).collect())?;
    }
}

/// A history of a step every four bytes, which choose it; panics where the two differ. `fuzz/` has it as a target.
pub(crate) fn run(data: &[u8]) {
    let step = step();
    let steps = data.chunks(4).take(60).filter_map(|chunk| {
        let mut seed = [0; 32];
        seed[..chunk.len()].copy_from_slice(chunk);
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }, random);
        Some(step.new_tree(&mut runner).ok()?.current())
    });
    let options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..Options::validate() };
    let steps: Vec<_> = start().into_iter().chain(steps).collect();
    check(&options, steps.clone()).unwrap();
    check_slow(&options, steps).unwrap();
}

#[test]
fn the_histories_of_the_corpus_hold() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/history")).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&std::fs::read(path).unwrap());
    }
}

/// The share of the whole that a change costs: what is not concerned keeps its `Arc`.
#[test]
fn what_a_change_does_not_concern_is_shared() {
    let options = Options::validate();
    let observed = Observed::default();
    let mut resources = Resources::default();
    for step in start() {
        let Step::Apply(object) = step else { panic!("only objects") };
        resources.apply(Change::Apply(Box::new(decode(object))));
    }
    let first = translate(&resources, &observed, &options, None);
    resources.clear_changes();
    let before = Arc::clone(&first.snapshot);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "a", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}]});
    resources.apply(Change::Apply(Box::new(decode(slice))));
    let second = translate(&resources, &observed, &options, Some(first));
    resources.clear_changes();
    assert!(before.binds.iter().zip(&second.snapshot.binds).all(|((_, old), (_, new))| Arc::ptr_eq(old, new)));
    assert!(!Arc::ptr_eq(&before.clusters, &second.snapshot.clusters));
    let before = Arc::clone(&second.snapshot);
    resources.apply(Change::Delete(ObjectRef::new(Kind::HttpRoute, "a", "route-0")));
    let third = translate(&resources, &observed, &options, Some(second));
    assert!(third.snapshot.clusters.iter().all(Option::is_none));
    assert!(before.clusters.iter().any(Option::is_some));
}
