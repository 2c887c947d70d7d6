//! Slots, hash splits, vacant places and warm-ups against the model in Python.
//!
//! `tests/affinity_model/model.py` was written from their description; `vectors.json` is what it prints.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends when its own vectors are not as expected")]

use clingfish::lb::slots::{Pod, PodState, Slot, SlotMap};
use clingfish::lb::{Admits, Balancer, BalancerConfig, HashSplit, LbHost, MaglevConfig, Policy, warm_up};
use serde_json::{Value, json};

fn cases(of: &str) -> Vec<Value> {
    let vectors: Value = serde_json::from_str(include_str!("affinity_model/vectors.json")).unwrap();
    let cases = vectors[of].as_array().unwrap().clone();
    assert!(cases.len() > 5, "{of}");
    cases
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn hash(value: &Value) -> u64 {
    u64::from_str_radix(text(value), 16).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn admits(value: &Value) -> Admits {
    match value.as_str() {
        Some("all") => Admits::All,
        Some("none") => Admits::None,
        Some(other) => unreachable!("{other}"),
        None => Admits::Part(number(value).try_into().unwrap()),
    }
}

#[test]
fn hashes_go_where_the_model_sends_them() {
    for case in cases("clusters") {
        let host = |host: &Value| LbHost { admits: admits(&host["admits"]), ..LbHost::new(text(&host["key"])) };
        let hosts: Vec<LbHost> = list(&case["hosts"]).iter().map(host).collect();
        let policy = Policy::Maglev(MaglevConfig { table_size: number(&case["size"]) });
        let balancer = Balancer::build(&hosts, &BalancerConfig { policy, ..BalancerConfig::default() }).unwrap();
        for choice in list(&case["choices"]) {
            let chosen = balancer.choose_by_hash(hash(&choice["hash"]), 0).map(|choice| &*hosts[choice.host as usize].key);
            assert_eq!(chosen, choice["host"].as_str(), "{} of {}", choice["hash"], case["hosts"]);
        }
    }
}

#[test]
fn warm_ups_have_the_models_steps() {
    for case in cases("warm_ups") {
        let small = |name: &str| u32::try_from(number(&case[name])).unwrap();
        let (elapsed, duration) = (number(&case["elapsed"]), number(&case["duration"]));
        assert_eq!(warm_up::part(elapsed, duration, small("percent"), small("steps")), admits(&case["admits"]), "{case}");
        assert_eq!(warm_up::next_step(elapsed, duration, small("percent"), small("steps")), case["due"].as_u64(), "{case}");
    }
}

#[test]
fn keys_are_split_as_by_the_model() {
    for case in cases("splits") {
        let backend = |backend: &Value| (text(&backend["name"]).to_owned(), u32::try_from(number(&backend["weight"])).unwrap());
        let backends: Vec<_> = list(&case["backends"]).iter().map(backend).collect();
        let split = HashSplit::new(&backends);
        for pick in list(&case["picks"]) {
            let picked = split.pick(hash(&pick["hash"])).map(|index| &*backends[index].0);
            assert_eq!(picked, pick["name"].as_str(), "{} of {}", pick["hash"], case["backends"]);
        }
    }
}

#[test]
fn slots_are_handed_on_as_in_the_model() {
    for case in cases("histories") {
        let mut map = SlotMap::default();
        for step in list(&case["steps"]) {
            let pod = |pod: &'_ Value| match text(&pod[1]) {
                "Ready" => PodState::Ready,
                "NotReady" => PodState::NotReady,
                "Leaving" => PodState::Leaving,
                other => unreachable!("{other}"),
            };
            let pods: Vec<Pod<'_>> = list(&step["pods"]).iter().map(|found| Pod { id: text(&found[0]), state: pod(found) }).collect();
            let (next, due) = map.step(&pods, number(&step["now"]), number(&case["patience"]));
            assert_eq!(told(&next), step["map"], "at {} after {map:?}", step["now"]);
            assert_eq!(due, step["due"].as_u64(), "at {} after {map:?}", step["now"]);
            map = next;
        }
    }
}

fn told(map: &SlotMap) -> Value {
    let slot = |slot: &Slot| match &slot.holder {
        Some(holder) => json!({"number": slot.number, "pod": holder.pod}),
        None => json!({"number": slot.number, "since": slot.vacant_since, "left_by": slot.left_by}),
    };
    let slots: Vec<Value> = map.slots.iter().map(slot).collect();
    let spares: Vec<Value> = map.spares.iter().map(|spare| json!({"pod": spare.pod, "since": spare.since})).collect();
    json!({"slots": slots, "spares": spares})
}
