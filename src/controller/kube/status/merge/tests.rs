use super::*;
use crate::translate::{
    AncestorStatus, GatewayAddress, GatewayClassStatus, GlooState, GlooStatus, ParentRef, PolicyStatus, RouteStatus, SupportedFeature,
};

const NOW: &str = "2026-01-01T00:00:00Z";
const CONTEXT: MergeContext<'_> = MergeContext { controller_name: "clingfish.dev/gateway-controller", namespace: "n", now: NOW };

fn condition(condition_type: &'static str, status: &'static str, generation: i64) -> Condition {
    Condition { condition_type, status, reason: "Why", message: "words".into(), observed_generation: Some(generation) }
}

fn standing(condition_type: &str, status: &str, generation: i64, time: &str) -> Value {
    json!({
        "type": condition_type, "status": status, "reason": "Why", "message": "words", "observedGeneration": generation,
        "lastTransitionTime": time,
    })
}

fn parent(name: &str, section: Option<&str>, conditions: Vec<Condition>) -> ParentStatus {
    ParentStatus {
        parent_ref: ParentRef {
            group: "gateway.networking.k8s.io".into(),
            kind: "Gateway".into(),
            namespace: None,
            name: name.into(),
            section_name: section.map(Into::into),
            port: None,
        },
        controller_name: CONTEXT.controller_name.into(),
        conditions,
    }
}

fn entry(controller: &str, reference: Value, conditions: Vec<Value>) -> Value {
    json!({"controllerName": controller, "parentRef": reference, "conditions": conditions})
}

/// Applies a JSON merge patch (RFC 7396), so that the tests say what stands in the end.
fn merged(seen: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut result = seen.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            result.remove(key);
        } else {
            let before = result.get(key).cloned().unwrap_or_default();
            result.insert(key.clone(), merged(&before, value));
        }
    }
    Value::Object(result)
}

/// The status after the write; writing it again must be nothing.
fn after(kind: Kind, desired: Option<&Status>, seen: &Value) -> Option<Value> {
    let result = merged(seen, &status_patch(kind, desired, seen, CONTEXT)?);
    assert_eq!(status_patch(kind, desired, &result, MergeContext { now: "later", ..CONTEXT }), None, "writes again: {result}");
    Some(result)
}

#[test]
fn time_moves_only_when_the_status_flips() {
    let cases = [
        (None, NOW, true),
        (Some(standing("Accepted", "False", 1, "old")), NOW, true),
        (Some(standing("Accepted", "True", 1, "old")), "old", true),
        (Some(standing("Accepted", "True", 2, "old")), "old", false),
    ];
    for (before, time, writes) in cases {
        let seen = before.map_or_else(|| json!({}), |before| json!({"conditions": [before]}));
        let desired = Status::GatewayClass(GatewayClassStatus { conditions: vec![condition("Accepted", "True", 2)], ..Default::default() });
        let result = after(Kind::GatewayClass, Some(&desired), &seen);
        assert_eq!(result.is_some(), writes, "{seen}");
        let result = result.unwrap_or(seen);
        assert_eq!(result["conditions"][0], standing("Accepted", "True", 2, time));
    }
}

#[test]
fn a_condition_of_a_later_generation_is_left_alone() {
    let later = standing("Accepted", "False", 7, "old");
    let desired = Status::GatewayClass(GatewayClassStatus {
        conditions: vec![condition("Accepted", "True", 6), condition("SupportedVersion", "True", 6)],
        supported_features: vec![SupportedFeature { name: "Gateway" }],
    });
    let result = after(Kind::GatewayClass, Some(&desired), &json!({"conditions": [later]})).unwrap();
    assert_eq!(result["conditions"], json!([later, standing("SupportedVersion", "True", 6, NOW)]));
    assert_eq!(result["supportedFeatures"], json!([{"name": "Gateway"}]));
}

#[test]
fn conditions_of_others_stay_in_place_and_stale_ones_of_ours_go() {
    let foreign = json!({"type": "example.com/Checked", "odd": [1, {"x": null}]});
    let seen = json!({"conditions": [standing("PartiallyInvalid", "True", 1, "old"), foreign, standing("Accepted", "True", 1, "old")]});
    let desired = Status::GatewayClass(GatewayClassStatus { conditions: vec![condition("Accepted", "True", 2)], ..Default::default() });
    let result = after(Kind::GatewayClass, Some(&desired), &seen).unwrap();
    assert_eq!(result["conditions"], json!([foreign, standing("Accepted", "True", 2, "old")]));
}

fn policy_status(name: &str, conditions: Vec<Condition>) -> Status {
    let ancestor_ref = parent(name, None, Vec::new()).parent_ref;
    Status::Policy(PolicyStatus {
        ancestors: vec![AncestorStatus { ancestor_ref, controller_name: CONTEXT.controller_name.into(), conditions }],
    })
}

#[test]
fn what_another_leader_has_found_out_stands_until_this_one_knows_and_what_is_over_goes() {
    let reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"});
    let all = ["Accepted", "Agreed", "Overridden", "SlotsWritten"].map(|kind| standing(kind, "False", 1, "old"));
    let seen = json!({"ancestors": [{"ancestorRef": reference, "controllerName": CONTEXT.controller_name, "conditions": all}]});
    let types = |status: &Value| {
        let conditions = status["ancestors"][0]["conditions"].as_array().unwrap().clone();
        conditions.iter().map(|c| format!("{}={} {}", c["type"], c["status"], c["lastTransitionTime"]).replace('"', "")).collect::<Vec<_>>()
    };
    for (desired, expected) in [
        (vec![condition("Accepted", "True", 1)], vec![format!("Accepted=True {NOW}"), "Agreed=False old".to_owned()]),
        (vec![condition("Accepted", "False", 1)], vec!["Accepted=False old".to_owned()]),
        (
            vec![condition("Accepted", "True", 1), condition("Agreed", "False", 1)],
            vec![format!("Accepted=True {NOW}"), "Agreed=False old".to_owned()],
        ),
        (
            vec![condition("Accepted", "True", 1), condition("Agreed", "True", 1)],
            vec![format!("Accepted=True {NOW}"), format!("Agreed=True {NOW}")],
        ),
    ] {
        let status = policy_status("g", desired.clone());
        assert_eq!(types(&after(Kind::AffinityPolicy, Some(&status), &seen).unwrap()), expected, "{desired:?}");
    }
}

#[test]
fn the_ancestors_of_a_policy_are_merged_like_parents_and_are_at_most_sixteen() {
    let ours = CONTEXT.controller_name;
    let ancestor = |controller: &str, name: &str, conditions: Vec<Value>| {
        let reference = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "n", "name": name});
        json!({"ancestorRef": reference, "controllerName": controller, "conditions": conditions})
    };
    let desired = |names: &[&str]| {
        let ancestors = names.iter().map(|name| AncestorStatus {
            ancestor_ref: ParentRef { namespace: Some("n".into()), ..parent(name, None, vec![]).parent_ref },
            controller_name: ours.into(),
            conditions: vec![condition("Accepted", "True", 2)],
        });
        Status::Policy(PolicyStatus { ancestors: ancestors.collect() })
    };
    let foreign = ancestor("example.com/other", "a", vec![]);
    let seen =
        json!({"ancestors": [ancestor(ours, "gone", vec![]), foreign, ancestor(ours, "a", vec![standing("Accepted", "True", 1, "old")])]});
    let result = after(Kind::BackendTlsPolicy, Some(&desired(&["a", "b"])), &seen).unwrap();
    let now = |name: &str, time: &str| ancestor(ours, name, vec![standing("Accepted", "True", 2, time)]);
    assert_eq!(result["ancestors"], json!([foreign, now("a", "old"), now("b", NOW)]));
    assert_eq!(after(Kind::BackendTlsPolicy, None, &seen).unwrap()["ancestors"], json!([foreign]));
    assert_eq!(after(Kind::BackendTlsPolicy, None, &json!({"ancestors": [foreign]})), None);

    let full: Vec<Value> = (0..15).map(|index| ancestor("example.com/other", &format!("o{index}"), vec![])).collect();
    let result = after(Kind::BackendTlsPolicy, Some(&desired(&["a", "b"])), &json!({"ancestors": full})).unwrap();
    assert_eq!(result["ancestors"].as_array().unwrap()[15..], [now("a", NOW)]);
}

#[test]
fn foreign_parents_stay_and_vanished_ones_of_ours_go() {
    let ours = CONTEXT.controller_name;
    let foreign =
        entry("example.com/other", json!({"name": "http", "extra": {"a": 1}}), vec![json!({"type": "Accepted", "status": "Odd"})]);
    let seen = json!({"parents": [
        entry(ours, json!({"name": "gone", "group": "gateway.networking.k8s.io", "kind": "Gateway"}), vec![]),
        foreign,
        entry(ours, json!({"name": "http", "namespace": "n"}), vec![standing("Accepted", "True", 1, "old")]),
    ]});
    let desired = Status::Route(RouteStatus {
        parents: vec![
            parent("http", None, vec![condition("Accepted", "True", 2)]),
            parent("http", Some("web"), vec![condition("Accepted", "False", 2)]),
        ],
    });
    let result = after(Kind::HttpRoute, Some(&desired), &seen).unwrap();
    let reference = json!({"name": "http", "group": "gateway.networking.k8s.io", "kind": "Gateway"});
    let section = json!({"name": "http", "group": "gateway.networking.k8s.io", "kind": "Gateway", "sectionName": "web"});
    assert_eq!(
        result["parents"],
        json!([
            foreign,
            entry(ours, reference, vec![standing("Accepted", "True", 2, "old")]),
            entry(ours, section, vec![standing("Accepted", "False", 2, NOW)]),
        ])
    );

    let result = after(Kind::HttpRoute, None, &seen).unwrap();
    assert_eq!(result["parents"], json!([foreign]));
    assert_eq!(after(Kind::HttpRoute, None, &json!({"parents": [foreign]})), None);
    assert_eq!(after(Kind::HttpRoute, None, &Value::Null), None);
}

#[test]
fn a_parent_is_the_same_with_its_defaults_written_out() {
    for (one, other, same) in [
        (json!({"name": "a"}), json!({"name": "a", "namespace": "n", "group": "gateway.networking.k8s.io", "kind": "Gateway"}), true),
        (json!({"name": "a"}), json!({"name": "a", "namespace": "m"}), false),
        (json!({"name": "a", "port": 80}), json!({"name": "a"}), false),
        (json!({"name": "a", "sectionName": "x"}), json!({"name": "a", "sectionName": "x"}), true),
        (json!({"name": "a", "kind": "Service", "group": ""}), json!({"name": "a"}), false),
    ] {
        assert_eq!(same_parent(&one, &other, "n"), same, "{one} {other}");
    }
}

#[test]
fn a_gateway_has_exactly_the_listeners_of_its_spec_and_its_address() {
    let listener = |name: &str, attached| ListenerStatus {
        name: name.into(),
        attached_routes: attached,
        conditions: vec![condition("Accepted", "True", 2)],
        ..Default::default()
    };
    let seen = json!({
        "ofAnotherVersion": 3,
        "attachedListenerSets": 2,
        "addresses": [{"type": "IPAddress", "value": "10.0.0.9"}],
        "listeners": [
            {"name": "old", "attachedRoutes": 1, "supportedKinds": [], "conditions": []},
            {"name": "http", "attachedRoutes": 1, "supportedKinds": [], "conditions": [standing("Accepted", "True", 1, "old")]},
        ],
    });
    let mut status = GatewayStatus { listeners: vec![listener("http", 2), listener("new", 0)], ..Default::default() };
    let result = after(Kind::Gateway, Some(&Status::Gateway(status.clone())), &seen).unwrap();
    assert_eq!((&result["ofAnotherVersion"], &result["attachedListenerSets"]), (&json!(3), &json!(null)));
    assert_eq!(result["addresses"], json!([]));
    let names: Vec<_> = list(&result, "listeners").iter().map(|listener| listener["name"].clone()).collect();
    assert_eq!(names, ["http", "new"]);
    assert_eq!(result["listeners"][0]["attachedRoutes"], 2);
    assert_eq!(result["listeners"][0]["conditions"], json!([standing("Accepted", "True", 2, "old")]));

    status.addresses = vec![GatewayAddress { address_type: "IPAddress", value: "10.0.0.9".into() }];
    status.attached_listener_sets = Some(1);
    let patch = status_patch(Kind::Gateway, Some(&Status::Gateway(status)), &result, CONTEXT).unwrap();
    assert_eq!(
        patch,
        json!({"attachedListenerSets": 1, "addresses": [{"type": "IPAddress", "value": "10.0.0.9"}]}),
        "only what differs is written"
    );
}

#[test]
fn gloo_statuses_touch_their_own_key_only() {
    let status = |state, reason: &str| {
        let own = GlooStatus { state, reason: reason.into(), reported_by: "clingfish".into() };
        Status::Gloo(GlooStatuses { statuses: [("clingfish".to_owned(), own)].into() })
    };
    let other = json!({"state": 1, "reportedBy": "gloo"});
    let rejected = status(GlooState::Rejected, "no");
    let result = after(Kind::Upstream, Some(&rejected), &json!({"statuses": {"gloo-system": other}})).unwrap();
    let own = json!({"state": "Rejected", "reason": "no", "reportedBy": "clingfish"});
    assert_eq!(result, json!({"statuses": {"gloo-system": other, "clingfish": own}}));
    let result = after(Kind::Upstream, Some(&status(GlooState::Accepted, "")), &result).unwrap();
    assert_eq!(result, json!({"statuses": {"gloo-system": other, "clingfish": {"state": "Accepted", "reportedBy": "clingfish"}}}));
    assert_eq!(after(Kind::Upstream, None, &result), None);
    assert!(after(Kind::RouteOption, Some(&rejected), &Value::Null).is_some());
}

#[test]
fn a_gateway_that_is_not_served_any_more_has_no_address_unless_somebody_else_has_taken_it_up() {
    let last = Status::Gateway(GatewayStatus {
        addresses: vec![GatewayAddress { address_type: "IPAddress", value: "10.0.0.1".into() }],
        conditions: vec![condition("Programmed", "True", 1)],
        ..Default::default()
    });
    let patch = |seen: &Value| status_patch(Kind::Gateway, Some(&last), seen, CONTEXT);
    let ours = merged(&json!({}), &patch(&json!({})).unwrap());
    let released = merged(&ours, &release_patch(Kind::Gateway, &last, &ours, CONTEXT).unwrap());
    assert_eq!(released.get("addresses"), None);
    let told: Vec<_> = released["conditions"].as_array().unwrap().iter().map(|c| (c["type"].as_str(), c["status"].as_str())).collect();
    assert_eq!(told, [(Some("Accepted"), Some("Unknown")), (Some("Programmed"), Some("Unknown"))]);
    assert_eq!(release_patch(Kind::Gateway, &last, &released, CONTEXT), None, "once");
    let theirs = merged(&ours, &json!({"conditions": [standing("Programmed", "True", 2, NOW)]}));
    assert_eq!(release_patch(Kind::Gateway, &last, &theirs, CONTEXT), None, "somebody else's");
}
