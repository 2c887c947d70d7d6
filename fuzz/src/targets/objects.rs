//! An object of anybody's is refused or taken in: nothing panics, what others have stays as it was, and deleting it heals everything.

use std::{collections::BTreeMap, sync::Arc};

use clingfish::{
    api::{self, Document, Object},
    base::ObjectRef,
    snapshot::{Observed, dump},
    translate::{Change, Options, Resources, Status, Translation, translate},
};
use serde_json::{Value, json};

/// The namespace that every object under test is put into.
const NAMESPACE: &str = "fuzz";

/// What another team has, in a namespace of its own.
fn others() -> Vec<Object> {
    let metadata = |name: &str| json!({"namespace": "base", "name": name});
    let documents = [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "clingfish"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "base", "labels": {"team": "base"}}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata("gw"),
            "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("route"),
            "spec": {"parentRefs": [{"name": "gw"}], "hostnames": ["base.example"], "rules": [
                {"backendRefs": [{"name": "web", "port": 80}, {"name": "up", "kind": "Upstream", "group": "gloo.solo.io"}]}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("web"), "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "base", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}], "ports": [{"port": 8080}]}),
        json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": metadata("up"), "spec": {
            "kube": {"serviceName": "web", "serviceNamespace": "base", "servicePort": 80},
            "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": 8, "maximumRingSize": 64}}}}}),
        json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": metadata("option"), "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}],
            "options": {"lbHash": {"hashPolicies": [{"header": "x"}]}}}}),
    ];
    documents
        .into_iter()
        .map(|document| match api::decode(document) {
            Ok(Document::Object(object)) => *object,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The bytes are JSON.
pub fn run(data: &[u8]) {
    let Ok(mut document) = serde_json::from_slice::<Value>(data) else { return };
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), NAMESPACE.into());
    }
    let others = others();
    let (change, object) = match api::decode(document) {
        Ok(Document::Object(object)) => (Change::Apply(object.clone()), object.object_ref()),
        Err(error) => match error.object.clone() {
            Some(object) => (Change::Undecodable(error), object),
            None => return,
        },
        Ok(_) => return,
    };
    if others.iter().any(|other| other.object_ref() == object) {
        return;
    }
    check(others, change, &object);
}

fn check(others: Vec<Object>, change: Change, object: &ObjectRef) {
    let (options, observed) = (Options::validate(), Observed::default());
    let mut resources = Resources::default();
    let names: Vec<_> = others.iter().map(Object::object_ref).collect();
    for other in others {
        resources.apply(Change::Apply(Box::new(other)));
    }
    let first = translate(&resources, &observed, &options, None);
    resources.clear_changes();
    let (statuses, binds) = (statuses(&first, &names), binds(&first));
    let before = comparable(&first);

    resources.apply(change);
    let second = translate(&resources, &observed, &options, Some(first));
    resources.clear_changes();
    assert_eq!(self::statuses(&second, &names), statuses, "{object} changed the status of another's object");
    let now = self::binds(&second);
    assert!(binds.iter().all(|(address, bind)| now.get(address) == Some(bind)), "{object} changed another's routes: {binds:?} {now:?}");
    let scratch = translate(&resources, &observed, &options, None);
    assert_eq!(comparable(&second), comparable(&scratch), "{object}: not what a translation from scratch gives");

    resources.apply(Change::Delete(object.clone()));
    let third = translate(&resources, &observed, &options, Some(second));
    assert_eq!(comparable(&third), before, "{object} is deleted and leaves something behind");
}

fn statuses(translation: &Translation, of: &[ObjectRef]) -> Vec<Option<Arc<Status>>> {
    of.iter().map(|object| translation.statuses.get(object).cloned()).collect()
}

/// Every bind as text.
fn binds(translation: &Translation) -> BTreeMap<String, Value> {
    let dump = dump(&translation.snapshot);
    let binds = dump["binds"].as_array().cloned().unwrap_or_default();
    binds.into_iter().map(|bind| (format!("{} {}", bind["gateway"], bind["address"]), bind)).collect()
}

fn comparable(translation: &Translation) -> (Value, BTreeMap<String, Value>, Vec<String>) {
    let statuses = translation.statuses.iter();
    let statuses = statuses.map(|(object, status)| (object.to_string(), serde_json::to_value(&**status).unwrap_or_default()));
    (dump(&translation.snapshot), statuses.collect(), translation.notices.iter().map(ToString::to_string).collect())
}
