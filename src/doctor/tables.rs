//! Whether the pods send a key to the same pod of a backend: what they say of their hash tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::base::name_digest;

use super::{
    gathered::{Asked, Gathered},
    objects::{few, full_name, list, text},
    report::Outcome,
};

/// What `GET /digest?tables` says: the digest of each table, by the digest of its backend's name.
#[derive(Debug, Deserialize)]
struct Tables {
    tables: BTreeMap<String, String>,
}

/// Names the tables that differ. They were asked for because something did.
pub(super) fn check_tables(gathered: &Gathered, outcome: &mut Outcome) {
    let read = |said: &String| serde_json::from_str::<Tables>(said).ok();
    let said: Vec<Tables> = gathered.pods.values().filter_map(|answer| answer.tables.as_ref().and_then(read)).collect();
    let all: BTreeSet<&String> = said.iter().flat_map(|tables| tables.tables.keys()).collect();
    let differ: Vec<&String> = all.into_iter().filter(|name| !agree(&said, name)).collect();
    if differ.is_empty() {
        return;
    }
    let names = names(gathered);
    let unnamed = differ.iter().filter(|digest| !names.contains_key(**digest)).count();
    let mut told: Vec<String> = differ.iter().filter_map(|digest| names.get(*digest).cloned()).collect();
    if unnamed > 0 {
        told.push(format!("{unnamed} that belong to AffinityPolicies of routes, or to what is gone"));
    }
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let what = format!("their hash tables differ, so that a session has another pod at each: {}", few(&told));
    let to_do = "wait for a change of pods to reach all of them; else compare these backends in their /config";
    outcome.finding("pods", what, to_do);
}

fn agree(said: &[Tables], name: &str) -> bool {
    let digests: BTreeSet<Option<&String>> = said.iter().map(|tables| tables.tables.get(name)).collect();
    digests.len() == 1
}

/// The backends that there are, by the digests of their names.
fn names(gathered: &Gathered) -> BTreeMap<String, String> {
    let objects = |asked| gathered.list(asked).map(<[_]>::iter).unwrap_or_default();
    let ports = objects(Asked::Services).flat_map(|service| {
        list(service, "/spec/ports").iter().map(move |port| {
            let transport = if text(port, "/protocol") == "UDP" { "/UDP" } else { "" };
            let number = port.pointer("/port").and_then(serde_json::Value::as_u64).unwrap_or_default();
            format!("Service {}:{number}{transport}", full_name(service))
        })
    });
    let upstreams = objects(Asked::Upstreams).map(|upstream| format!("Upstream {}", full_name(upstream)));
    ports.chain(upstreams).map(|name| (format!("{:016x}", name_digest(&name)), name)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::doctor::{Listed, PodAnswer};

    #[test]
    fn tables_that_differ_are_named() {
        let service =
            json!({"metadata": {"namespace": "shop", "name": "cart"}, "spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}});
        let upstream = json!({"metadata": {"namespace": "shop", "name": "pay"}});
        let mut gathered = Gathered::default();
        gathered.lists.insert(Asked::Services, Listed { items: vec![service], ..Listed::default() });
        gathered.lists.insert(Asked::Upstreams, Listed { items: vec![upstream], ..Listed::default() });
        let mut say = |pod: &str, tables: &[(&str, &str)]| {
            let tables: BTreeMap<_, _> = tables.iter().map(|(name, digest)| (format!("{:016x}", name_digest(name)), *digest)).collect();
            let answer = PodAnswer { tables: Some(json!({"digest": "0", "tables": tables}).to_string()), ..PodAnswer::default() };
            gathered.pods.insert(pod.into(), answer);
        };
        say("a", &[("Service shop/cart:80", "1"), ("Service shop/cart:53/UDP", "2"), ("Upstream shop/pay", "3"), ("hidden", "4")]);
        say("b", &[("Service shop/cart:80", "1"), ("Service shop/cart:53/UDP", "9"), ("Upstream shop/pay", "3"), ("hidden", "5")]);
        let mut outcome = Outcome::default();
        check_tables(&gathered, &mut outcome);
        let told = format!("{:?}", outcome.findings);
        assert!(told.contains("Service shop/cart:53/UDP, 1 that belong"), "{told}");
        assert!(!told.contains("cart:80") && !told.contains("pay"), "{told}");
        gathered.pods.remove("b");
        let mut outcome = Outcome::default();
        check_tables(&gathered, &mut outcome);
        assert!(outcome.findings.is_empty(), "one pod has nobody to differ from");
    }
}
