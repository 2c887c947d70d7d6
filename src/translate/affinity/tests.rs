//! What the status of a policy says of what became of it, at the level of translation.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{self, Document};
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::{Agreement, Observed, backend_digest};
use crate::translate::{Change, Options, Resources, Status, Translation, report::findings, translate};

fn change(document: Value) -> Change {
    match api::decode(document).unwrap() {
        Document::Object(object) => Change::apply(object),
        other => panic!("{other:?}"),
    }
}

/// Two Services behind one route, each with a policy; only `a` hashes slots.
fn resources() -> Resources {
    let mut resources = Resources::default();
    resources.apply(change(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw", "namespace": "ns"},
        "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
    ));
    resources.apply(change(
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "ns"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}]}}),
    ));
    for (name, identity) in [("a", "Slot"), ("b", "Address")] {
        resources.apply(change(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns"}, "spec": {"ports": [{"port": 80}]}}),
        ));
        resources.apply(change(json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy", "metadata": {"name": name, "namespace": "ns"},
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": name}], "keys": [{"header": {"name": "x"}}], "identity": identity}})));
    }
    resources
}

/// The conditions of both policies but Accepted.
fn conditions(translation: &Translation) -> [Vec<String>; 2] {
    ["a", "b"].map(|name| {
        let status = translation.statuses.get(&ObjectRef::new(Kind::AffinityPolicy, "ns", name)).unwrap();
        let Status::Policy(status) = &**status else { panic!("{status:?}") };
        let conditions = status.ancestors.iter().flat_map(|ancestor| &ancestor.conditions).filter(|c| c.condition_type != "Accepted");
        conditions.map(|c| format!("{}={}/{}", c.condition_type, c.status, c.reason)).collect()
    })
}

#[test]
fn each_policy_tells_of_its_own_tables_and_maps_and_only_while_it_is_so() {
    let mut resources = resources();
    let options = Options::default();
    let plain = Observed { second: Some(1_000), ..Observed::default() };
    let mut last = translate(&resources, &plain, &options, None);
    resources.clear_changes();
    let cluster = last.snapshot.clusters.iter().flatten().find(|cluster| &*cluster.name.name.name == "b").unwrap();
    let table = backend_digest(&cluster.name);
    let agreement = |compared, table: Option<u64>| {
        let differing = |table| (table, BTreeMap::from([([10, 0, 0, 7].into(), 900)]));
        Some(Agreement { compared, disagreements: table.map(differing).into_iter().collect() })
    };
    let refused: BTreeMap<_, _> = ["service-a", "service-b"].map(|name| (ObjectName::new("ns", name), "exceeded quota".into())).into();
    let (agree, disagree) = ("Agreed=True/ReplicasAgree", "Agreed=False/ReplicasDisagree");
    let slots = "SlotsWritten=False/SlotsRefused";
    let cases: [(Observed, [&[&str]; 2]); 7] = [
        (Observed { agreement: agreement(true, None), ..plain.clone() }, [&[agree], &[agree]]),
        (Observed { agreement: agreement(true, Some(table)), ..plain.clone() }, [&[agree], &[disagree]]),
        (Observed { agreement: agreement(true, Some(!table)), ..plain.clone() }, [&[agree], &[agree]]),
        (Observed { agreement: agreement(false, None), ..plain.clone() }, [&["Agreed=True/SoleReplica"], &["Agreed=True/SoleReplica"]]),
        (Observed { refused_slots: refused.clone(), ..plain.clone() }, [&[slots], &[]]),
        (Observed { refused_slots: refused, agreement: agreement(true, Some(table)), ..plain.clone() }, [&[agree, slots], &[disagree]]),
        (plain, [&[], &[]]),
    ];
    assert_eq!(conditions(&last), [Vec::<String>::new(), Vec::new()]);
    for (observed, expected) in cases {
        last = translate(&resources, &observed, &options, Some(last));
        assert_eq!(conditions(&last), expected.map(|each| each.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
        let changed = last.changed_statuses.clone();
        last = translate(&resources, &observed, &options, Some(last));
        assert!(last.changed_statuses.is_empty(), "said once: {changed:?}");
        let found = last.statuses.iter().flat_map(|(object, status)| findings(object, status, &options));
        let told: Vec<_> = found.filter(|finding| finding.object.kind == Kind::AffinityPolicy).collect();
        let wrong = expected.concat().iter().filter(|text| text.contains("=False")).count();
        assert_eq!(told.len(), wrong);
        assert!(told.iter().all(|finding| finding.is_of_the_leader() && !finding.rejected), "{told:?}");
        let whole = translate(&resources, &observed, &options, None);
        assert_eq!(conditions(&whole), conditions(&last), "the same from scratch");
    }
}
