//! Histories of pods, told and random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const SPARE: u64 = 30;

fn ready<'a>(ids: &[&'a str]) -> Vec<Pod<'a>> {
    ids.iter().map(|id| Pod { id, state: PodState::Ready }).collect()
}

/// `0:a 1:b* 2:-c@40 +d@50`: slot 0 is held by a, slot 2 was left by c at 40, d is a spare since 50.
fn told(map: &SlotMap) -> String {
    let slots = map.slots.iter().map(|slot| match (&slot.holder, &slot.left_by, slot.vacant_since) {
        (Some(holder), None, None) => format!("{}:{}", slot.number, holder.pod),
        (None, Some(left_by), Some(since)) => format!("{}:-{left_by}@{since}", slot.number),
        other => format!("{}:{other:?}", slot.number),
    });
    let spares = map.spares.iter().map(|spare| format!("+{}@{}", spare.pod, spare.since));
    slots.chain(spares).collect::<Vec<_>>().join(" ")
}

/// Steps one after the other: time, ready pods, pods that are not ready, and what is expected of the map and the next step.
fn play(steps: &[(u64, &str, &str, &str, Option<u64>)]) -> SlotMap {
    let mut map = SlotMap::default();
    for (now, ids, not_ready, expected, expected_due) in steps {
        let state = |state| move |id| Pod { id, state };
        let pods: Vec<_> =
            ids.split_whitespace().map(state(PodState::Ready)).chain(not_ready.split_whitespace().map(state(PodState::NotReady))).collect();
        let (next, due) = map.step(&pods, *now, SPARE);
        assert_eq!((told(&next).as_str(), due), (*expected, *expected_due), "at {now}");
        map = next;
    }
    map
}

#[test]
fn the_first_pods_get_slots_at_once_in_the_order_of_their_ids() {
    play(&[(5, "c a b", "d", "0:a 1:b 2:c", None)]);
    play(&[(5, "", "d", "", None), (6, "d", "", "0:d", None)]);
}

#[test]
fn a_spare_inherits_the_slot_of_the_pod_that_leaves() {
    let map = play(&[
        (0, "a b", "", "0:a 1:b", None),
        (10, "a b c", "", "0:a 1:b +c@10", Some(40)),
        (12, "b c", "", "0:c 1:b", None),
        // Ten more seconds: d waits when c leaves, and terminating counts as gone.
        (20, "b c d", "", "0:c 1:b +d@20", Some(50)),
    ]);
    let leaving =
        [Pod { id: "c", state: PodState::Leaving }, Pod { id: "b", state: PodState::Ready }, Pod { id: "d", state: PodState::Ready }];
    let (map, due) = map.step(&leaving, 21, SPARE);
    assert_eq!((told(&map).as_str(), due), ("0:d 1:b", None));
    assert_eq!(map.slot_of("d").map(|slot| (slot.number, slot.holder.as_ref().map(|holder| holder.since))), Some((0, Some(21))));
    assert_eq!(map.slot_of("c"), None);
}

#[test]
fn a_pod_without_a_vacancy_opens_a_slot_in_the_end() {
    play(&[
        (0, "a b", "", "0:a 1:b", None),
        (10, "a b d", "", "0:a 1:b +d@10", Some(40)),
        (20, "a b d c", "", "0:a 1:b +d@10 +c@20", Some(40)),
        (39, "a b d c", "", "0:a 1:b +d@10 +c@20", Some(40)),
        (40, "a b d c", "", "0:a 1:b 2:d +c@20", Some(50)),
        (50, "a b d c", "", "0:a 1:b 2:d 3:c", None),
    ]);
}

#[test]
fn a_vacant_slot_waits_for_a_while_and_others_keep_their_numbers() {
    play(&[
        (0, "a b c", "", "0:a 1:b 2:c", None),
        (10, "b c", "", "0:-a@10 1:b 2:c", Some(40)),
        (20, "c", "", "0:-a@10 1:-b@20 2:c", Some(40)),
        // The one that is vacant for longest.
        (25, "c x", "", "0:x 1:-b@20 2:c", Some(50)),
        (50, "c x", "", "0:x 2:c", None),
        // The lowest free number.
        (60, "c x y", "", "0:x 2:c +y@60", Some(90)),
        (90, "c x y", "", "0:x 1:y 2:c", None),
    ]);
}

#[test]
fn the_oldest_spare_is_the_first_heir_and_the_longest_vacant_slot_the_first_legacy() {
    play(&[
        (0, "a b c d", "", "0:a 1:b 2:c 3:d", None),
        (1, "a b c d z", "", "0:a 1:b 2:c 3:d +z@1", Some(31)),
        (2, "a b c d z y x", "", "0:a 1:b 2:c 3:d +z@1 +x@2 +y@2", Some(31)),
        (3, "a d z y x", "", "0:a 1:z 2:x 3:d +y@2", Some(32)),
        (4, "a x y", "", "0:a 1:y 2:x 3:-d@4", Some(34)),
    ]);
}

#[test]
fn a_pod_that_is_not_ready_keeps_its_slot_and_gets_none() {
    play(&[
        (0, "a b", "", "0:a 1:b", None),
        (10, "a", "b c", "0:a 1:b", None),
        (20, "", "b c", "0:-a@20 1:b", Some(50)),
        // A spare that is no longer ready is none.
        (30, "a b", "c", "0:a 1:b", None),
        (31, "a b c", "", "0:a 1:b +c@31", Some(61)),
        (40, "a b", "c", "0:a 1:b", None),
        (50, "a b c", "", "0:a 1:b +c@50", Some(80)),
    ]);
}

#[test]
fn a_pod_that_returns_gets_its_slot_before_others() {
    play(&[
        (0, "a b", "", "0:a 1:b", None),
        (10, "", "", "0:-a@10 1:-b@10", Some(40)),
        (11, "0 b", "", "0:0 1:b", None),
        (12, "0", "", "0:0 1:-b@12", Some(42)),
        (13, "0 1", "", "0:0 1:1", None),
        // Too late.
        (14, "0 1 b", "", "0:0 1:1 +b@14", Some(44)),
    ]);
}

#[test]
fn a_slot_that_is_still_there_when_a_late_step_comes_is_inherited() {
    play(&[(0, "a b", "", "0:a 1:b", None), (10, "b", "", "0:-a@10 1:b", Some(40)), (900, "b c", "", "0:c 1:b", None)]);
    // Nobody watched a whole rollout.
    play(&[(0, "a b", "", "0:a 1:b", None), (900, "c d", "", "0:c 1:d", None)]);
}

#[test]
fn without_patience_nothing_waits() {
    let (map, _) = SlotMap::default().step(&ready(&["a", "b"]), 0, 0);
    let (map, due) = map.step(&ready(&["a", "c"]), 1, 0);
    assert_eq!((told(&map).as_str(), due), ("0:a 1:c", None));
    let (map, due) = map.step(&ready(&["a"]), 2, 0);
    assert_eq!((told(&map).as_str(), due), ("0:a", None));
    let (map, due) = map.step(&ready(&["a", "d"]), 2, 0);
    assert_eq!((told(&map).as_str(), due), ("0:a 1:d", None));
}

#[test]
fn beyond_the_limit_pods_stay_spares() {
    let ids: Vec<String> = (0..SLOT_LIMIT + 2).map(|n| format!("{n:05}")).collect();
    let pods: Vec<_> = ids.iter().map(|id| Pod { id, state: PodState::Ready }).collect();
    let (map, due) = SlotMap::default().step(&pods, 0, SPARE);
    assert_eq!((map.slots.len(), map.spares.len(), due), (SLOT_LIMIT, 2, None));
    let (later, due) = map.step(&pods, 1000, SPARE);
    assert_eq!((&later, due), (&map, None));
    let (later, _) = map.step(&pods[1..], 1000, SPARE);
    assert_eq!(later.slots[0].holder.as_ref().map(|holder| &*holder.pod), Some("04096"));
}

#[test]
fn numbers_are_made_dense_only_when_asked() {
    let map = play(&[
        (0, "a b c", "", "0:a 1:b 2:c", None),
        (1, "c", "", "0:-a@1 1:-b@1 2:c", Some(31)),
        (30, "c d", "", "0:d 1:-b@1 2:c", Some(31)),
    ]);
    let (map, _) = map.step(&ready(&["c", "d"]), 31, SPARE);
    assert_eq!(told(&map), "0:d 2:c");
    assert_eq!(told(&map.renumbered()), "0:d 1:c");
    assert_eq!(map.renumbered().renumbered(), map.renumbered());
}

#[test]
fn a_pod_that_is_listed_twice_counts_once() {
    let (map, _) = SlotMap::default().step(&ready(&["a", "a", "b"]), 0, SPARE);
    assert_eq!(told(&map), "0:a 1:b");
    let pods =
        [Pod { id: "a", state: PodState::Leaving }, Pod { id: "a", state: PodState::Ready }, Pod { id: "b", state: PodState::Ready }];
    assert_eq!(told(&map.step(&pods, 1, SPARE).0), "0:-a@1 1:b");
}

fn any_map() -> impl Strategy<Value = SlotMap> {
    let pod = prop::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(Box::<str>::from);
    let holder = prop::option::of((pod.clone(), 0..200_u64).prop_map(|(pod, since)| Holder { pod, since }));
    let slot = (0..6_u32, holder, prop::option::of(0..200_u64), prop::option::of(pod.clone()))
        .prop_map(|(number, holder, vacant_since, left_by)| Slot { number, holder, vacant_since, left_by });
    let spare = (pod, 0..200_u64).prop_map(|(pod, since)| Spare { pod, since });
    (prop::collection::vec(slot, 0..6), prop::collection::vec(spare, 0..4)).prop_map(|(slots, spares)| SlotMap { slots, spares })
}

fn any_state() -> impl Strategy<Value = PodState> {
    prop::sample::select(vec![PodState::Ready, PodState::Ready, PodState::Ready, PodState::NotReady, PodState::Leaving])
}

/// Seconds that pass, and the pods that are there then.
fn any_history() -> impl Strategy<Value = Vec<(u64, BTreeMap<u8, PodState>)>> {
    prop::collection::vec((0..40_u64, prop::collection::btree_map(0..8_u8, any_state(), 0..8)), 1..12)
}

fn pods_of<'a>(ids: &'a [String], states: &BTreeMap<u8, PodState>) -> Vec<Pod<'a>> {
    states.iter().map(|(id, state)| Pod { id: &ids[*id as usize], state: *state }).collect()
}

/// What has to hold of every map that a step leaves behind.
fn check(map: &SlotMap, pods: &[Pod<'_>], due: Option<u64>, now: u64) -> Result<(), TestCaseError> {
    let holders: Vec<&str> = map.slots.iter().filter_map(|slot| slot.holder.as_ref().map(|holder| &*holder.pod)).collect();
    let spares: Vec<&str> = map.spares.iter().map(|spare| &*spare.pod).collect();
    let once: BTreeSet<&str> = holders.iter().chain(&spares).copied().collect();
    prop_assert_eq!(once.len(), holders.len() + spares.len(), "no pod twice: {}", told(map));
    prop_assert!(map.slots.is_sorted_by(|a, b| a.number < b.number), "{}", told(map));
    for slot in &map.slots {
        prop_assert_eq!(slot.holder.is_none(), slot.vacant_since.is_some());
    }
    let state = |id: &str| pods.iter().filter(|pod| pod.id == id).map(|pod| pod.state).max();
    prop_assert!(holders.iter().all(|id| matches!(state(id), Some(PodState::Ready | PodState::NotReady))));
    prop_assert!(spares.iter().all(|id| state(id) == Some(PodState::Ready)));
    prop_assert!(pods.iter().all(|pod| state(pod.id) != Some(PodState::Ready) || once.contains(pod.id)), "every ready pod is known");
    let vacant = map.slots.iter().any(|slot| slot.holder.is_none());
    prop_assert!(!vacant || spares.is_empty(), "nobody waits beside a vacant slot");
    prop_assert_eq!(due.is_some(), vacant || !spares.is_empty());
    prop_assert!(due.is_none_or(|due| due > now));
    Ok(())
}

proptest! {
    #[test]
    fn any_history_is_stepped_through_in_order(start in any_map(), history in any_history(), patience in 0..40_u64) {
        let ids: Vec<String> = "abcdefgh".chars().map(String::from).collect();
        let (mut map, mut now) = (start, 100);
        for (place, (passed, states)) in history.iter().enumerate() {
            now += passed;
            let mut pods = pods_of(&ids, states);
            let (next, due) = map.step(&pods, now, patience);
            check(&next, &pods, due, now)?;
            prop_assert_eq!(&next.step(&pods, now, patience), &(next.clone(), due), "idempotent");
            pods.reverse();
            prop_assert_eq!(&map.step(&pods, now, patience).0, &next, "whatever the order");
            if place > 0 {
                // Numbers stay with their holders, and only ready pods get one.
                for slot in &map.slots {
                    let Some(holder) = &slot.holder else { continue };
                    let stays = states.iter().any(|(id, state)| ids[*id as usize] == *holder.pod && *state != PodState::Leaving);
                    prop_assert_eq!(next.slots.contains(slot), stays);
                }
                for slot in next.slots.iter().filter(|slot| !map.slots.contains(slot)) {
                    let Some(holder) = &slot.holder else { continue };
                    prop_assert!(pods.iter().any(|pod| *pod.id == *holder.pod && pod.state == PodState::Ready));
                }
            }
            // Nothing happens before it is due.
            if let Some(due) = due {
                prop_assert_eq!(&next.step(&pods, due - 1, patience).0, &next);
                prop_assert_ne!(&next.step(&pods, due, patience).0, &next);
            } else {
                prop_assert_eq!(&next.step(&pods, now + 10_000, patience).0, &next);
            }
            map = next;
        }
    }

    #[test]
    fn scaling_opens_or_drops_the_difference(from in 1..40_usize, to in 1..40_usize) {
        let ids: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
        let pods: Vec<_> = ids.iter().map(|id| Pod { id, state: PodState::Ready }).collect();
        let (before, _) = SlotMap::default().step(&pods[..from], 0, SPARE);
        let (waiting, due) = before.step(&pods[..to], 10, SPARE);
        prop_assert_eq!(waiting.slots.len(), from, "nothing is opened or dropped yet");
        prop_assert_eq!(due, (from != to).then_some(40));
        let (after, due) = waiting.step(&pods[..to], 40, SPARE);
        prop_assert_eq!((after.slots.len(), due), (to, None));
        prop_assert_eq!(&after.slots[..from.min(to)], &before.slots[..from.min(to)], "the others keep theirs");
    }

    /// As a Deployment does it: never more than `pods + surge` pods that do not terminate, never fewer than `pods - unavailable` ready ones.
    #[test]
    fn a_rollout_moves_each_slot_once(
        pods in 1..12_usize,
        surge in 0..5_usize,
        unavailable in 0..5_usize,
        delays in prop::collection::vec(1..20_u64, 12),
        graces in prop::collection::vec(0..50_u64, 12),
    ) {
        prop_assume!(surge + unavailable > 0);
        let unavailable = unavailable.min(pods);
        let old: Vec<String> = (0..pods).map(|n| format!("old-{n:02}")).collect();
        let new: Vec<String> = (0..pods).map(|n| format!("new-{n:02}")).collect();
        let held: Vec<_> = old.iter().map(|id| Pod { id, state: PodState::Ready }).collect();
        let (mut map, _) = SlotMap::default().step(&held, 0, SPARE);
        let mut holders: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        // When each old pod began to terminate, and each new one was made.
        let (mut ended, mut made): (Vec<u64>, Vec<u64>) = (vec![], vec![]);
        for now in 1..2_000 {
            let ready_new = (0..made.len()).filter(|n| made[*n] + delays[*n] <= now).count();
            // Old ones end first, and new ones are made in the room there is.
            while ended.len() < pods && pods - ended.len() + ready_new > pods - unavailable {
                ended.push(now);
            }
            while made.len() < pods && pods - ended.len() + made.len() < pods + surge {
                made.push(now);
            }
            let states = old.iter().enumerate().filter_map(|(n, id)| match ended.get(n) {
                None => Some(Pod { id, state: PodState::Ready }),
                Some(since) => (since + graces[n] > now).then_some(Pod { id, state: PodState::Leaving }),
            });
            let new_states = (0..made.len()).map(|n| {
                let state = if made[n] + delays[n] <= now { PodState::Ready } else { PodState::NotReady };
                Pod { id: &new[n], state }
            });
            let seen: Vec<_> = states.chain(new_states).collect();
            let (next, due) = map.step(&seen, now, SPARE);
            check(&next, &seen, due, now)?;
            prop_assert_eq!(next.slots.len(), pods, "no slot is opened or dropped: {}", told(&next));
            for slot in &next.slots {
                let Some(holder) = &slot.holder else { continue };
                let history = holders.entry(slot.number).or_default();
                if history.last().map(String::as_str) != Some(&*holder.pod) {
                    history.push(holder.pod.to_string());
                }
            }
            map = next;
            if ready_new == pods {
                break;
            }
        }
        for (number, history) in &holders {
            let moves = history.len() - usize::from(history[0].starts_with("old"));
            prop_assert_eq!(moves, 1, "slot {}: {:?}", number, history);
        }
        prop_assert_eq!(holders.len(), pods);
        prop_assert!(map.spares.is_empty());
    }
}
