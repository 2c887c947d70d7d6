//! What can still be read of an object that cannot be decoded.
//!
//! Gateway API asks that a value which is not known makes a route or Gateway `Accepted=False`: for that its parents, or its class and
//! listeners, have to be known; of a ListenerSet the Gateway. An outline has those and what they refer to, and nothing that says how requests are treated.
//!
//! Of a RouteOption an outline has its targets and the options that are not modelled: security options are among those, and must not be
//! skipped because of their neighbours. Of a BackendTLSPolicy it has the targets that can be read. Of an option for Gateways it has the targets that can be read, and all options.

use gateway_api::{backendtlspolicies::BackendTlsPolicy, experimental::gateways::Gateway};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::base::Kind;

use super::{
    affinity::AffinityPolicy,
    backend_traffic_policy::BackendTrafficPolicy,
    gloo::{RouteOption, TargetRef, UnnamedGatewayOption},
    listener_set::ListenerSet,
    object::Object,
    route::RouteBody,
};

/// Options with a member of their own: what cannot be decoded is in one of these.
const MODELLED_OPTIONS: [&str; 8] =
    ["headerManipulation", "hostRewrite", "idleTimeout", "lbHash", "prefixRewrite", "regexRewrite", "retries", "timeout"];

/// The outline of an object of this kind, as complete as it can be read; none for kinds of which half is worth nothing.
pub(super) fn outline(kind: Kind, document: &Value) -> Option<Object> {
    match kind {
        Kind::GrpcRoute | Kind::HttpRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute => {
            first::<RouteBody>(document, &[route_references, route_parents]).map(|route| Object::Route(route.of_kind(kind)))
        }
        Kind::Gateway => {
            first::<Gateway>(document, &[gateway_whole_listeners, gateway_listeners_without_tls, gateway_listeners, gateway_class])
                .map(Object::Gateway)
        }
        Kind::ListenerSet => first::<ListenerSet>(document, &[set_parent]).map(Object::ListenerSet),
        Kind::AffinityPolicy => first::<AffinityPolicy>(document, &[affinity_targets]).map(Box::new).map(Object::AffinityPolicy),
        Kind::BackendTlsPolicy => first::<BackendTlsPolicy>(document, &[policy_targets]).map(Object::BackendTlsPolicy),
        Kind::BackendTrafficPolicy => first::<BackendTrafficPolicy>(document, &[affinity_targets]).map(Object::BackendTrafficPolicy),
        Kind::RouteOption => first::<RouteOption>(document, &[option_unmodelled]).map(Object::RouteOption),
        Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption => {
            first::<UnnamedGatewayOption>(document, &[readable_targets]).map(|option| Object::GatewayOption(option.of_kind(kind)))
        }
        Kind::AffinitySlots
        | Kind::ConfigMap
        | Kind::EndpointSlice
        | Kind::GatewayClass
        | Kind::GatewayParameters
        | Kind::Namespace
        | Kind::ReferenceGrant
        | Kind::Secret
        | Kind::Service
        | Kind::Upstream => None,
    }
}

/// The first reduction that can be decoded.
fn first<T: DeserializeOwned>(document: &Value, reductions: &[fn(&Value) -> Value]) -> Option<T> {
    let spec = document.get("spec")?;
    let metadata = document.get("metadata")?;
    let bare = pick(metadata, &["name", "namespace", "generation"]);
    let reduced = |metadata: &Value, reduce: &fn(&Value) -> Value| {
        let reduced =
            json!({"apiVersion": document.get("apiVersion"), "kind": document.get("kind"), "metadata": metadata, "spec": reduce(spec)});
        serde_json::from_value(reduced).ok()
    };
    reductions.iter().find_map(|reduce| reduced(metadata, reduce).or_else(|| reduced(&bare, reduce)))
}

fn route_references(spec: &Value) -> Value {
    let reference = |reference: &Value| pick(reference, &["group", "kind", "namespace", "name", "port"]);
    let rule = |rule: &Value| json!({"backendRefs": map_list(rule.get("backendRefs"), reference)});
    json!({"parentRefs": spec.get("parentRefs"), "rules": map_list(spec.get("rules"), rule)})
}

fn route_parents(spec: &Value) -> Value {
    pick(spec, &["parentRefs"])
}

/// Without its listeners: nobody is in the way of what is not served.
fn set_parent(spec: &Value) -> Value {
    let parent = spec.get("parentRef").map(|parent| pick(parent, &["group", "kind", "namespace", "name"]));
    json!({"parentRef": parent, "listeners": []})
}

/// The Services that a policy is for must not be spoken to in plain text because of what else it says.
fn policy_targets(spec: &Value) -> Value {
    let mut targets = pick(spec, &["targetRefs"]);
    retain_readable(targets.get_mut("targetRefs"));
    json!({"targetRefs": targets.get("targetRefs"), "validation": {"hostname": ""}})
}

fn affinity_targets(spec: &Value) -> Value {
    let mut targets = pick(spec, &["targetRefs"]);
    retain_readable(targets.get_mut("targetRefs"));
    targets
}

fn readable_targets(spec: &Value) -> Value {
    let Value::Object(mut spec) = spec.clone() else { return json!({}) };
    retain_readable(spec.get_mut("targetRefs"));
    Value::Object(spec)
}

/// Keeps the targets that can be read. One that is not in a list counts as a list of one.
fn retain_readable(targets: Option<&mut Value>) {
    let Some(targets) = targets else { return };
    if targets.is_object() {
        *targets = json!([targets.take()]);
    }
    if let Value::Array(targets) = targets {
        targets.retain(|target| serde_json::from_value::<TargetRef>(target.clone()).is_ok());
    }
}

fn option_unmodelled(spec: &Value) -> Value {
    let Value::Object(mut spec) = spec.clone() else { return json!({}) };
    retain_readable(spec.get_mut("targetRefs"));
    match spec.get_mut("options") {
        Some(Value::Object(options)) => options.retain(|name, _| !MODELLED_OPTIONS.contains(&name.as_str())),
        _ => drop(spec.remove("options")),
    }
    Value::Object(spec)
}

fn gateway_whole_listeners(spec: &Value) -> Value {
    with_listeners(spec, &["name", "port", "protocol", "hostname", "allowedRoutes", "tls"])
}

fn gateway_listeners_without_tls(spec: &Value) -> Value {
    with_listeners(spec, &["name", "port", "protocol", "hostname", "allowedRoutes"])
}

fn gateway_listeners(spec: &Value) -> Value {
    with_listeners(spec, &["name", "port", "protocol"])
}

fn gateway_class(spec: &Value) -> Value {
    json!({"gatewayClassName": spec.get("gatewayClassName"), "listeners": []})
}

fn with_listeners(spec: &Value, fields: &[&str]) -> Value {
    let listeners = map_list(spec.get("listeners"), |listener| pick(listener, fields));
    json!({"gatewayClassName": spec.get("gatewayClassName"), "listeners": listeners})
}

/// The items of a list, each reduced; what is no list is left as it is.
fn map_list(list: Option<&Value>, reduce: impl Fn(&Value) -> Value) -> Value {
    match list {
        Some(Value::Array(items)) => items.iter().map(reduce).collect(),
        other => other.cloned().unwrap_or_default(),
    }
}

/// These fields of an object, where it has them; what is no object is left as it is.
fn pick(value: &Value, fields: &[&str]) -> Value {
    let Value::Object(object) = value else { return value.clone() };
    let fields = fields.iter().filter_map(|field| Some(((*field).to_owned(), object.get(*field)?.clone())));
    Value::Object(fields.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Route;

    fn outline_of(kind: &str, spec: &Value) -> Option<Object> {
        let document = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": "a", "namespace": "n", "generation": 2},
            "spec": spec});
        outline(Kind::from_group_kind("gateway.networking.k8s.io", kind)?, &document)
    }

    fn route(spec: &Value) -> Route {
        match outline_of("HTTPRoute", spec) {
            Some(Object::Route(route)) => route,
            other => panic!("no outline of a route: {other:?}"),
        }
    }

    fn gateway(spec: &Value) -> Gateway {
        match outline_of("Gateway", spec) {
            Some(Object::Gateway(gateway)) => gateway,
            other => panic!("no outline of a Gateway: {other:?}"),
        }
    }

    #[test]
    fn a_route_keeps_its_parents_and_what_it_refers_to() {
        let backends = json!([{"name": "b", "port": 80, "weight": "x", "filters": [{"type": "New"}]}]);
        let spec = json!({"parentRefs": [{"name": "g"}], "rules": [{"matches": [{"method": "FETCH"}], "backendRefs": backends}]});
        let outline = route(&spec);
        assert_eq!((outline.metadata().generation, outline.body.spec.parent_refs.as_ref().unwrap().len()), (Some(2), 1));
        let rule = &outline.body.spec.rules.as_ref().unwrap()[0];
        assert_eq!((rule.matches.as_ref(), rule.backend_refs.as_ref().unwrap()[0].name.as_str()), (None, "b"));
    }

    #[test]
    fn a_route_whose_references_are_wrong_keeps_its_parents() {
        for rules in [json!(5), json!([{"backendRefs": 5}]), json!([{"backendRefs": [{"port": 80}]}])] {
            let outline = route(&json!({"parentRefs": [{"name": "g"}], "rules": rules}));
            assert_eq!((outline.body.spec.parent_refs.as_ref().unwrap().len(), outline.body.spec.rules.as_ref()), (1, None), "{rules}");
        }
        assert!(outline_of("HTTPRoute", &json!({"parentRefs": 5})).is_none());
    }

    #[test]
    fn a_gateway_keeps_its_class_and_as_much_of_its_listeners_as_can_be_read() {
        let listener = json!({"name": "l", "port": 80, "protocol": "HTTP", "hostname": "h", "allowedRoutes": {"namespaces": {"from": "All"}}, "tls": 5});
        let full = gateway(&json!({"gatewayClassName": "c", "listeners": [listener]}));
        assert!(full.spec.listeners[0].allowed_routes.is_some() && full.spec.listeners[0].tls.is_none());
        let mut odd = listener;
        odd["allowedRoutes"] = json!({"namespaces": {"from": "Somewhere"}});
        let bare = gateway(&json!({"gatewayClassName": "c", "listeners": [odd], "addresses": 5}));
        assert_eq!((bare.spec.listeners[0].name.as_str(), bare.spec.listeners[0].hostname.as_ref()), ("l", None));
        assert_eq!(gateway(&json!({"gatewayClassName": "c", "listeners": [{"name": "l"}]})).spec.listeners.len(), 0);
        assert!(outline_of("Gateway", &json!({"listeners": []})).is_none());
    }

    #[test]
    fn a_route_option_keeps_its_targets_and_what_is_not_modelled() {
        let document = |spec: Value| json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": {"name": "a", "namespace": "n"}, "spec": spec});
        let target = json!([{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r"}]);
        let mut options: Map<_, _> = MODELLED_OPTIONS.iter().map(|name| ((*name).to_owned(), json!([[5]]))).collect();
        options.insert("extauth".to_owned(), json!({"disable": false}));
        for (options, kept) in [(Value::Object(options), Some(1)), (json!("odd"), None)] {
            let Some(Object::RouteOption(outline)) =
                outline(Kind::RouteOption, &document(json!({"targetRefs": target, "options": options})))
            else {
                panic!("no outline")
            };
            assert_eq!(outline.spec.target_refs.as_ref().map(Vec::len), Some(1));
            assert_eq!(outline.spec.options.map(|options| options.other.len()), kept);
        }
        assert!(outline(Kind::RouteOption, &document(json!({"targetRefs": 5}))).is_none());
        let mut odd = document(json!({"targetRefs": [target[0], {"name": 5}], "options": {"extauth": {}}}));
        odd["metadata"]["labels"] = json!({"version": 1});
        let Some(Object::RouteOption(outline)) = outline(Kind::RouteOption, &odd) else { panic!("no outline") };
        assert_eq!((outline.metadata.labels, outline.spec.target_refs.as_ref().map(Vec::len)), (None, Some(1)));
    }

    #[test]
    fn an_option_for_gateways_keeps_its_targets_and_every_option() {
        let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"});
        for kind in Kind::GATEWAY_OPTIONS {
            let spec = json!({"targetRefs": [5, target, {"name": 5}], "options": {"extauth": {}}, "odd": 1});
            let document = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec});
            let Some(Object::GatewayOption(outline)) = outline(kind, &document) else { panic!("no outline") };
            let targets: Vec<_> = outline.spec.target_refs.iter().flatten().map(|target| target.name.as_str()).collect();
            assert_eq!((outline.kind, targets, outline.spec.other.len()), (kind, vec!["g"], 2));

            let document = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"targetRefs": target, "options": {"extauth": {}}}});
            let Some(Object::GatewayOption(outline)) = super::outline(kind, &document) else { panic!("no outline") };
            assert_eq!(outline.spec.target_refs.iter().flatten().count(), 1, "one target that is not in a list");
        }
    }

    #[test]
    fn other_kinds_have_none() {
        assert!(outline_of("GatewayClass", &json!({"controllerName": 5})).is_none());
    }
}
