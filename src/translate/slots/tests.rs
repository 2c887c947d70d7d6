//! Maps of slots over histories of pods, at the level of translation: where sessions are while pods are replaced.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::api::{self, Document, Object};
use crate::base::{Kind, ObjectRef};
use crate::snapshot::{Cluster, Observed};
use crate::translate::{Change, Options, Resources, Translation, translate};

/// Sessions that are watched.
const SESSIONS: u64 = 300;

fn change(document: Value) -> Change {
    match api::decode(document).unwrap() {
        Document::Object(object) => Change::apply(object),
        other => panic!("{other:?}"),
    }
}

/// A Service with a route, a policy, and pods that come and go.
struct World {
    resources: Resources,
    observed: Observed,
    translation: Option<Translation>,
    /// By uid: the last number of the address, whether it terminates, and whether it is ready.
    pods: BTreeMap<String, (u16, bool, bool)>,
    created: u16,
}

impl World {
    fn new(policy: Value) -> Self {
        let mut resources = Resources::default();
        let mut spec = json!({"targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "keys": [{"header": {"name": "x"}}],
            "algorithm": {"maglev": {"tableSize": 4099}}});
        spec.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        for document in [
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw", "namespace": "ns"},
                "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": "ns"},
                "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]}}),
            json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy", "metadata": {"name": "web", "namespace": "ns"}, "spec": spec}),
        ] {
            resources.apply(change(document));
        }
        let observed = Observed { second: Some(1_000), ..Observed::default() };
        Self { resources, observed, translation: None, pods: BTreeMap::new(), created: 0 }
    }

    /// A pod becomes ready. Its uid says nothing of its age.
    fn create(&mut self) -> String {
        self.created += 1;
        let uid = format!("{:04x}", self.created.wrapping_mul(40_503));
        self.pods.insert(uid.clone(), (self.created, false, true));
        uid
    }

    fn slice(&self) -> Change {
        let endpoint = |(uid, (number, leaves, ready)): (&String, &(u16, bool, bool))| {
            json!({"addresses": [format!("10.0.{}.{}", number % 7, number)], "targetRef": {"kind": "Pod", "namespace": "ns", "name": uid, "uid": uid},
                "conditions": {"ready": ready, "serving": ready, "terminating": leaves}})
        };
        change(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"port": 8080}],
            "metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": self.pods.iter().map(endpoint).collect::<Vec<_>>()}))
    }

    /// The gateway sees the pods as they are.
    fn look(&mut self) {
        self.resources.apply(self.slice());
        self.translate();
    }

    fn translate(&mut self) {
        let translation = translate(&self.resources, &self.observed, &Options::default(), self.translation.take());
        self.resources.clear_changes();
        self.observed.advanced_slots = Arc::clone(&translation.advanced_slots);
        self.translation = Some(translation);
    }

    /// What the leader would write now.
    fn writes(&self) -> Vec<Change> {
        let translation = self.translation.as_ref().unwrap();
        translation.slots.values().map(|write| Change::apply(Box::new(Object::AffinitySlots(write.object())))).collect()
    }

    /// Something that was written comes back.
    fn echo(&mut self, writes: Vec<Change>) {
        writes.into_iter().for_each(|write| self.resources.apply(write));
        self.translate();
    }

    /// The leader writes, and what it wrote comes back.
    fn write(&mut self) {
        let writes = self.writes();
        self.echo(writes);
    }

    fn cluster(&self) -> Arc<Cluster> {
        self.translation.as_ref().unwrap().snapshot.clusters.iter().flatten().next().cloned().unwrap()
    }

    /// The pod of each session.
    fn sessions(&self) -> Vec<String> {
        let cluster = self.cluster();
        let pod = |host: u32| cluster.hosts[host as usize].pod.as_ref().unwrap().uid.to_string();
        (0..SESSIONS)
            .map(|session| pod(cluster.balancer.choose_by_hash(session.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0).unwrap().host))
            .collect()
    }

    fn serves(&self, uid: &str) -> bool {
        self.pods.get(uid).is_some_and(|(_, leaves, ready)| !leaves && *ready)
    }
}

/// Counts moves, and asserts that none is needless.
#[derive(Default)]
struct Moves {
    at: Vec<String>,
    moves: Vec<u32>,
}

impl Moves {
    fn see(&mut self, world: &World) -> Result<(), TestCaseError> {
        let now = world.sessions();
        if self.at.is_empty() {
            (self.moves, self.at) = (vec![0; now.len()], now);
            return Ok(());
        }
        for ((before, after), moves) in self.at.iter().zip(&now).zip(&mut self.moves) {
            prop_assert!(world.serves(after), "{after} does not serve");
            if before != after {
                prop_assert!(!world.serves(before), "a session moves from {before}, which stays, to {after}");
                *moves += 1;
            }
        }
        self.at = now;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whoever is replaced while a new pod is ready already: each session moves once, however the writes of the leader are late.
    #[test]
    fn a_rollout_with_a_surge_moves_each_session_once(
        count in 2..8_usize,
        surge in 1..4_usize,
        rollouts in 1..3_u32,
        late in proptest::collection::vec(0..4_u8, 64),
        ties in proptest::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let (mut late, mut ties) = (late.into_iter().cycle(), ties.into_iter().cycle());
        let mut world = World::new(json!({"identity": "Slot"}));
        let mut old: Vec<String> = (0..count).map(|_| world.create()).collect();
        world.look();
        world.write();
        let mut moves = Moves::default();
        moves.see(&world)?;
        let mut on_its_way = None;
        for rollout in 1..=rollouts {
            let mut new = Vec::new();
            while !old.is_empty() {
                while new.len() < count && old.len() + new.len() < count + surge {
                    new.push(world.create());
                    world.look();
                    moves.see(&world)?;
                }
                let leaver = old.remove(ties.next().unwrap().index(old.len()));
                world.pods.get_mut(&leaver).unwrap().1 = true;
                world.pods.get_mut(&leaver).unwrap().2 = false;
                world.observed.second = world.observed.second.map(|second| second + 1);
                world.look();
                moves.see(&world)?;
                // Now and then what was written comes back, maybe after others have come and gone.
                match late.next().unwrap() {
                    0 => {}
                    1 => on_its_way = Some(world.writes()),
                    2 => if let Some(writes) = on_its_way.take() { world.echo(writes) },
                    _ => { on_its_way = None; world.write() },
                }
                moves.see(&world)?;
                world.pods.remove(&leaver);
                world.look();
                moves.see(&world)?;
            }
            on_its_way = None;
            world.write();
            moves.see(&world)?;
            prop_assert!(moves.moves.iter().all(|moves| *moves == rollout), "{:?}", moves.moves);
            old = new;
        }
        let cluster = world.cluster();
        prop_assert!(cluster.vacant.is_empty() && cluster.hosts.iter().all(|host| host.slot.is_some()));
    }

    /// In which order a replica learns of pods and of the map does not matter once it knows both.
    #[test]
    fn the_order_of_events_does_not_matter(order in Just((0..3_usize).collect::<Vec<_>>()).prop_shuffle(), leaves in 0..4_usize) {
        let mut writer = World::new(json!({"identity": "Slot"}));
        let pods: Vec<String> = (0..4).map(|_| writer.create()).collect();
        writer.look();
        writer.write();
        writer.create();
        writer.look();
        writer.write();
        writer.pods.get_mut(&pods[leaves]).unwrap().1 = true;
        writer.look();
        let map = writer.writes();
        writer.write();
        let mut reader = World::new(json!({"identity": "Slot"}));
        reader.pods.clone_from(&writer.pods);
        reader.translate();
        for event in order {
            match event {
                0 => reader.look(),
                1 => reader.echo(map.clone()),
                _ => reader.translate(),
            }
        }
        prop_assert_eq!(reader.sessions(), writer.sessions());
    }

    /// While time passes a pod that warms up gets more sessions, never loses one, and nobody else gets any.
    #[test]
    fn a_step_of_a_warm_up_moves_sessions_to_the_new_pod_only(
        identity in prop_oneof![Just(json!({})), Just(json!({"identity": "Slot", "spareTime": "0s"}))],
        seconds in proptest::collection::vec(1..30_u64, 1..14),
        others in 1..6_usize,
    ) {
        let mut policy = identity;
        policy["warmUp"] = json!({"duration": "100s", "minPercent": 10});
        let mut world = World::new(policy);
        (0..others).for_each(|_| drop(world.create()));
        world.look();
        world.write();
        let new = world.create();
        world.look();
        world.write();
        let mut at = world.sessions();
        let begins_with = at.iter().filter(|pod| **pod == new).count();
        let moved = |from: &[String], to: &[String]| from.iter().zip(to).filter(|(from, to)| from != to).all(|(_, to)| *to == new);
        for wait in seconds {
            world.observed.second = world.observed.second.map(|second| second + wait);
            world.translate();
            let now = world.sessions();
            prop_assert!(moved(&at, &now));
            at = now;
        }
        world.observed.second = world.observed.second.map(|second| second + 100);
        world.translate();
        let last = world.sessions();
        prop_assert!(moved(&at, &last));
        prop_assert!(last.iter().filter(|pod| **pod == new).count() > 2 * begins_with);
        let cluster = world.cluster();
        prop_assert!(cluster.hosts.iter().all(|host| host.admits == crate::lb::Admits::All));
        prop_assert_eq!(world.translation.as_ref().unwrap().due, None);
    }
}

#[test]
fn a_scale_up_waits_and_moves_the_ideal_share() {
    let mut world = World::new(json!({"identity": "Slot", "spareTime": "30s"}));
    (0..10).for_each(|_| drop(world.create()));
    world.look();
    world.write();
    let before = world.sessions();
    let new = [world.create(), world.create()];
    world.look();
    world.write();
    assert_eq!(world.sessions(), before, "who waits has no sessions");
    assert_eq!(world.translation.as_ref().unwrap().due, Some(1_030));
    // Without a key they are sent requests all the same.
    let cluster = world.cluster();
    let keyless = (0..2_000_u64).map(|n| cluster.balancer.choose_keyless(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap().host);
    let waiting = keyless.filter(|host| cluster.hosts[*host as usize].slot.is_none()).count();
    assert!((200..500).contains(&waiting), "{waiting} of 2000 for two of twelve");
    world.observed.second = Some(1_030);
    world.translate();
    world.write();
    let after = world.sessions();
    let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!((30..80).contains(&moved.len()), "{} of {SESSIONS}, ideally a sixth", moved.len());
    let needless = moved.iter().filter(|(_, after)| !new.contains(after)).count();
    // Maglev's own.
    assert!(needless <= 6, "{needless}");
}

#[test]
fn pods_that_come_after_their_policy_do_not_wait_for_each_other() {
    let mut world = World::new(json!({"identity": "Slot", "spareTime": "30s"}));
    world.translate();
    world.write();
    for _ in 0..3 {
        world.create();
        world.observed.second = world.observed.second.map(|second| second + 2);
        world.look();
        world.write();
    }
    assert!(world.cluster().hosts.iter().all(|host| host.slot.is_some()));
    world.create();
    world.observed.second = world.observed.second.map(|second| second + 60);
    world.look();
    world.write();
    assert_eq!(world.cluster().hosts.iter().filter(|host| host.slot.is_none()).count(), 1);
}

#[test]
fn only_unready_holders_leave_all_requests_to_the_pod_that_waits() {
    let mut world = World::new(json!({"identity": "Slot"}));
    let (one, two) = (world.create(), world.create());
    world.look();
    world.write();
    let waits = world.create();
    world.look();
    world.write();
    for uid in [&one, &two] {
        world.pods.get_mut(uid).unwrap().2 = false;
    }
    world.look();
    assert!(world.sessions().iter().all(|pod| *pod == waits));
    assert_eq!(world.cluster().vacant.iter().map(|slot| slot.number).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_map_of_another_target_does_not_count() {
    let mut world = World::new(json!({"identity": "Slot"}));
    world.create();
    let document = |target: &str| {
        change(
            json!({"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinitySlots", "metadata": {"name": "service-web", "namespace": "ns"},
            "spec": {"targetRef": {"group": "", "kind": "Service", "name": target}, "slots": [{"number": 5, "vacantSince": 1}]}}),
        )
    };
    world.resources.apply(document("other"));
    world.look();
    assert_eq!(world.cluster().hosts[0].slot, None);
    world.echo(vec![document("web")]);
    assert_eq!(world.cluster().hosts[0].slot, Some(5));
    let target = ObjectRef::new(Kind::Service, "ns", "x".repeat(300).as_str());
    assert_eq!(super::object::name_of(&target).name.len(), 253);
}
