//! What the API server refuses beyond types, as far as translation relies on it: a directory of manifests has no API server in front.

use std::collections::BTreeSet;

use gateway_api::experimental::{gateways::Gateway, httproutes::HttpRouteRulesMatchesPathType};

use crate::base::text::quoted;

use super::{object::Object, route::Route};

/// Bounds of the Gateway API CRDs (`maxItems`).
const MAX_LISTENERS: usize = 64;
const MAX_RULES: usize = 16;
const MAX_MATCHES: usize = 64;
const MAX_PATH: usize = 1024;

/// Dotted path of a field, and what is wrong with it.
type Refusal = (String, String);

/// Checks a decoded object.
pub(super) fn check(object: &Object) -> Result<(), Refusal> {
    match object {
        Object::Gateway(gateway) => check_gateway(gateway),
        Object::Route(route) => check_route(route),
        Object::AffinityPolicy(_)
        | Object::AffinitySlots(_)
        | Object::BackendTlsPolicy(_)
        | Object::BackendTrafficPolicy(_)
        | Object::ConfigMap(_)
        | Object::EndpointSlice(_)
        | Object::GatewayClass(_)
        | Object::GatewayParameters(_)
        | Object::GatewayOption(_)
        | Object::ListenerSet(_)
        | Object::Namespace(_)
        | Object::ReferenceGrant(_)
        | Object::RouteOption(_)
        | Object::Secret(_)
        | Object::Service(_)
        | Object::Upstream(_) => Ok(()),
    }
}

fn check_gateway(gateway: &Gateway) -> Result<(), Refusal> {
    let listeners = &gateway.spec.listeners;
    let mut names = BTreeSet::new();
    for (index, listener) in listeners.iter().enumerate() {
        if index >= MAX_LISTENERS {
            return Err(("spec.listeners".to_owned(), format!("has {} listeners: expected at most {MAX_LISTENERS}", listeners.len())));
        }
        if listener.name.is_empty() {
            return Err((format!("spec.listeners[{index}].name"), "is empty: expected a name".to_owned()));
        }
        if !names.insert(&listener.name) {
            return Err((
                format!("spec.listeners[{index}].name"),
                format!("{} is used twice: expected a name of its own", quoted(&listener.name)),
            ));
        }
        if u16::try_from(listener.port).map_or(true, |port| port == 0) {
            return Err((format!("spec.listeners[{index}].port"), format!("is {}: expected 1 to 65535", listener.port)));
        }
    }
    Ok(())
}

fn check_route(route: &Route) -> Result<(), Refusal> {
    let rules = route.rules();
    if rules.len() > MAX_RULES {
        return Err(("spec.rules".to_owned(), format!("has {} rules: expected at most {MAX_RULES}", rules.len())));
    }
    for (rule_index, rule) in rules.iter().enumerate() {
        let matches = rule.matches.as_deref().unwrap_or_default();
        if matches.len() > MAX_MATCHES {
            let field = format!("spec.rules[{rule_index}].matches");
            return Err((field, format!("has {} matches: expected at most {MAX_MATCHES}", matches.len())));
        }
        for (match_index, path) in matches.iter().enumerate().filter_map(|(index, m)| Some((index, m.path.as_ref()?))) {
            let value = path.value.as_deref().unwrap_or("/");
            check_path(path.r#type.as_ref(), value)
                .map_err(|message| (format!("spec.rules[{rule_index}].matches[{match_index}].path.value"), message))?;
        }
    }
    Ok(())
}

/// A path that no normalised request path can equal would make a route that never matches.
fn check_path(kind: Option<&HttpRouteRulesMatchesPathType>, value: &str) -> Result<(), String> {
    if value.len() > MAX_PATH {
        return Err(format!("is {} characters long: expected at most {MAX_PATH}", value.len()));
    }
    if matches!(kind, Some(HttpRouteRulesMatchesPathType::RegularExpression)) {
        return Ok(());
    }
    if !value.starts_with('/') {
        return Err(format!("is {}: expected an absolute path, beginning with /", quoted(value)));
    }
    let forbidden = ["//", "/./", "/../", "%2f", "%2F", "#"];
    if let Some(found) = forbidden.into_iter().find(|part| value.contains(part)) {
        return Err(format!("is {}: expected a path without {found:?}", quoted(value)));
    }
    if value.ends_with("/..") || value.ends_with("/.") {
        return Err(format!("is {}: expected a path that does not end with a dot segment", quoted(value)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::decode;

    fn gateway(listeners: &Value) -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"},
            "spec": {"gatewayClassName": "c", "listeners": listeners}})
    }

    fn route(path: &Value) -> Value {
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r"},
            "spec": {"rules": [{"matches": [{"path": path}]}]}})
    }

    #[test]
    fn gateways_are_checked() {
        let listener = |name: &str, port: i32| json!({"name": name, "port": port, "protocol": "HTTP"});
        assert!(decode(gateway(&json!([listener("a", 1), listener("b", 65535)]))).is_ok());
        let many: Vec<_> = (0..65).map(|i| listener(&format!("l{i}"), 80)).collect();
        for (listeners, field) in [
            (json!([listener("a", 80), listener("a", 81)]), "spec.listeners[1].name"),
            (json!([listener("", 80)]), "spec.listeners[0].name"),
            (json!([listener("a", 0)]), "spec.listeners[0].port"),
            (json!([listener("a", -1)]), "spec.listeners[0].port"),
            (json!(many), "spec.listeners"),
        ] {
            assert_eq!(decode(gateway(&listeners)).unwrap_err().field, field);
        }
    }

    #[test]
    fn paths_are_checked() {
        for good in [json!({}), json!({"value": "/a/b"}), json!({"type": "RegularExpression", "value": "a//b"}), json!({"value": "/a/.b"})]
        {
            assert!(decode(route(&good)).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a//b", "/a/../b", "/a/..", "/a/.", "/%2fa", "/a#b"] {
            let error = decode(route(&json!({"type": "Exact", "value": bad}))).unwrap_err();
            assert_eq!(error.field, "spec.rules[0].matches[0].path.value", "{bad}");
        }
    }
}
