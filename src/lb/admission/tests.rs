//! Balancers of hosts that take a part of their hashes, or none.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::lb::draw::next_random;
use crate::lb::{Admits, Balancer, BalancerConfig, HostHealth, LbHost, MaglevConfig, Policy, Remapped, RingConfig, TableKind};

fn host(n: usize, admits: Admits) -> LbHost {
    LbHost { admits, ..LbHost::new(format!("10.0.{}.{}:80", n / 250, n % 250)) }
}

fn hosts(admits: &[Admits]) -> Vec<LbHost> {
    admits.iter().enumerate().map(|(n, admits)| host(n, *admits)).collect()
}

/// The same hosts, of which these admit what is given, and the others what they did.
fn with(hosts: &[LbHost], changes: &[(usize, Admits)]) -> Vec<LbHost> {
    let mut hosts = hosts.to_vec();
    changes.iter().for_each(|(n, admits)| hosts[*n].admits = *admits);
    hosts
}

fn config(policy: Policy) -> BalancerConfig {
    BalancerConfig { policy, ..BalancerConfig::default() }
}

fn maglev(table_size: u64) -> BalancerConfig {
    config(Policy::Maglev(MaglevConfig { table_size }))
}

fn ring(minimum_ring_size: u64) -> BalancerConfig {
    config(Policy::RingHash(RingConfig { minimum_ring_size, ..RingConfig::default() }))
}

fn build(hosts: &[LbHost], config: &BalancerConfig) -> Balancer {
    Balancer::build(hosts, config).unwrap()
}

fn hashes(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || next_random(&mut state))
}

fn key<'a>(hosts: &'a [LbHost], balancer: &Balancer, hash: u64) -> Option<&'a str> {
    balancer.choose_by_hash(hash, 0).map(|choice| &*hosts[choice.host as usize].key)
}

/// As if all hosts took all.
fn plain(hosts: &[LbHost]) -> Vec<LbHost> {
    hosts.iter().map(|host| LbHost { admits: Admits::All, ..host.clone() }).collect()
}

fn only(hosts: &[LbHost], wanted: impl Fn(Admits) -> bool) -> Vec<LbHost> {
    plain(&hosts.iter().filter(|host| wanted(host.admits)).cloned().collect::<Vec<_>>())
}

fn any_config() -> impl Strategy<Value = BalancerConfig> {
    prop_oneof![
        prop::sample::select(vec![1_u64, 64, 1024]).prop_map(ring),
        prop::sample::select(vec![307_u64, 1021, 2003]).prop_map(maglev)
    ]
}

fn any_admits() -> impl Strategy<Value = Admits> {
    prop_oneof![4 => Just(Admits::All), 2 => any::<u16>().prop_map(Admits::Part), 1 => Just(Admits::None)]
}

/// Hosts of one level in two localities.
fn any_hosts() -> impl Strategy<Value = Vec<LbHost>> {
    prop::collection::vec((1..5_u32, 0..2_u32, any_admits()), 1..14).prop_map(|hosts| {
        let host = |(n, (weight, locality, admits))| LbHost { weight, locality, ..host(n, admits) };
        hosts.into_iter().enumerate().map(host).collect()
    })
}

/// Hosts of several levels, in any health.
fn any_levels() -> impl Strategy<Value = Vec<LbHost>> {
    let health = prop::sample::select(vec![HostHealth::Healthy, HostHealth::Healthy, HostHealth::Degraded, HostHealth::Unhealthy]);
    prop::collection::vec((0..3_u32, health, any_admits()), 1..14).prop_map(|hosts| {
        let host = |(n, (priority, health, admits))| LbHost { priority, health, ..host(n, admits) };
        hosts.into_iter().enumerate().map(host).collect()
    })
}

#[test]
fn with_nobody_behind_any_entry_there_is_no_host() {
    for config in [ring(64), maglev(307)] {
        let balancer = build(&hosts(&[Admits::None, Admits::None]), &config);
        assert_eq!(balancer.choose_by_hash(7, 0), None);
        assert_eq!(balancer.choose_bounded(7, 0, 0, |_| 0), None);
        assert!(balancer.sequence(7, 4).is_empty());
        assert_eq!(balancer.shares(), [0.0, 0.0]);
        let table = balancer.table().unwrap();
        assert_eq!((table.hosts, table.vacant), (0, 2));
    }
}

#[test]
fn where_all_warm_up_they_take_all() {
    for config in [ring(64), maglev(307)] {
        let warming = hosts(&[Admits::Part(9), Admits::Part(700), Admits::Part(0)]);
        let (balancer, whole) = (build(&warming, &config), build(&plain(&warming), &config));
        assert!(hashes(1).take(500).all(|hash| balancer.choose_by_hash(hash, 0) == whole.choose_by_hash(hash, 0)));
        let vacant = with(&warming, &[(1, Admits::None)]);
        let rest = build(&only(&vacant, |admits| admits != Admits::None), &config);
        let names = only(&vacant, |admits| admits != Admits::None);
        let balancer = build(&vacant, &config);
        for hash in hashes(1).take(500) {
            let before = key(&warming, &whole, hash).unwrap();
            let expected = if before == &*warming[1].key { key(&names, &rest, hash) } else { Some(before) };
            assert_eq!(key(&vacant, &balancer, hash), expected);
        }
    }
}

#[test]
fn a_locality_without_weight_takes_nobodys_hashes() {
    let mut hosts = hosts(&[Admits::Part(9), Admits::None, Admits::All]);
    hosts[2].locality = 1;
    for config in [ring(64), maglev(307)] {
        let balancer = build(&hosts, &BalancerConfig { locality_weights: Some(vec![1, 0]), ..config });
        assert!(hashes(1).take(100).all(|hash| balancer.choose_by_hash(hash, 0).unwrap().host == 0));
    }
}

#[test]
fn a_level_of_vacant_places_leaves_its_load_to_the_next() {
    let mut hosts = hosts(&[Admits::None, Admits::None, Admits::All]);
    hosts[2].priority = 1;
    for config in [ring(64), maglev(307), config(Policy::RoundRobin)] {
        let balancer = build(&hosts, &config);
        assert!(hashes(1).take(200).all(|hash| balancer.choose_by_hash(hash, 0).unwrap().host == 2));
    }
}

#[test]
fn policies_without_a_hash_leave_out_vacant_places_only() {
    let hosts = hosts(&[Admits::All, Admits::None, Admits::Part(100), Admits::All]);
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest { choice_count: 2 }] {
        let balancer = build(&hosts, &config(policy));
        let chosen = hashes(2).zip(0..).take(400).map(|(random, turn)| balancer.choose(random, turn, |_| 0).unwrap().host);
        assert_eq!(chosen.collect::<BTreeSet<_>>(), BTreeSet::from([0, 2, 3]));
    }
}

#[test]
fn tables_and_their_cost_are_told() {
    let hosts = hosts(&[Admits::All, Admits::None, Admits::Part(100), Admits::All]);
    let table = build(&hosts, &maglev(307)).table().unwrap();
    assert_eq!((table.kind, table.size, table.hosts, table.vacant), (TableKind::Maglev, 307, 3, 1));
    assert_eq!((maglev(307).entries(&hosts), maglev(307).entries(&plain(&hosts))), (614, 307));
}

#[test]
fn a_step_of_a_warm_up_moves_its_part_and_nothing_needlessly() {
    let before = hosts(&[Admits::All, Admits::Part(6_554), Admits::All, Admits::None]);
    let after = with(&before, &[(1, Admits::Part(32_768))]);
    let end = with(&before, &[(1, Admits::All)]);
    let name = |host: u32| host;
    for config in [ring(1024), maglev(2003)] {
        let share = build(&plain(&before), &config).shares()[1];
        let remapped = build(&before, &config).remapped(&build(&after, &config), name, name);
        let expected = share * f64::from(32_768 - 6_554) / 65_536.0;
        assert!((remapped.moved - expected).abs() < 1e-9, "{remapped:?} {expected}");
        assert_eq!(remapped.needless, 0.0);
        let back = build(&after, &config).remapped(&build(&before, &config), name, name);
        assert_eq!(back, remapped);
        assert_eq!(build(&after, &config).remapped(&build(&after, &config), name, name), Remapped::default());
        let last = build(&after, &config).remapped(&build(&end, &config), name, name);
        assert!(last.moved > share / 2.0 && last.needless < 0.1, "{last:?}");
    }
}

#[test]
fn a_vacancy_is_a_move_that_was_asked_for() {
    let before = hosts(&[Admits::All; 5]);
    let after = with(&before, &[(2, Admits::None)]);
    let name = |host: u32| host;
    for config in [ring(1024), maglev(2003)] {
        let (before, after) = (build(&before, &config), build(&after, &config));
        let remapped = before.remapped(&after, name, name);
        assert!((remapped.moved - before.shares()[2]).abs() < 1e-9 && remapped.needless == 0.0, "{remapped:?}");
        assert_eq!(after.remapped(&before, name, name), remapped);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The whole rule: the table of all, and for what its host does not take the table of those that take all.
    #[test]
    fn a_hash_goes_to_the_host_that_takes_it(hosts in any_hosts(), config in any_config(), localities: bool, seed: u64) {
        let config = BalancerConfig { locality_weights: localities.then(|| vec![2, 3]), ..config };
        let takes_all = hosts.iter().any(|host| host.admits == Admits::All);
        let others = only(&hosts, |admits| if takes_all { admits == Admits::All } else { admits != Admits::None });
        let (balancer, whole, fallback) = (build(&hosts, &config), build(&plain(&hosts), &config), build(&others, &config));
        for hash in hashes(seed).take(100) {
            for attempt in 0..3 {
                let first = whole.choose_by_hash(hash, attempt).unwrap();
                let admits = hosts[first.host as usize].admits;
                let taken = if takes_all { admits.takes(hash) } else { admits != Admits::None };
                let expected = if taken {
                    Some(&hosts[first.host as usize].key)
                } else {
                    fallback.choose_by_hash(hash, attempt).map(|choice| &others[choice.host as usize].key)
                };
                let choice = balancer.choose_by_hash(hash, attempt);
                prop_assert_eq!(choice.map(|choice| &hosts[choice.host as usize].key), expected);
                prop_assert!(choice.is_none_or(|choice| choice.entry == first.entry), "the entry is the table's");
            }
        }
    }

    /// With priorities and bad health, as far as these give the same loads with and without the vacant places.
    #[test]
    fn a_vacancy_moves_only_its_own_keys(hosts in any_levels(), config in any_config(), seed: u64) {
        let vacant: Vec<_> = hosts.iter().map(|host| match host.admits {
            Admits::None => host.clone(),
            Admits::All | Admits::Part(_) | Admits::Keyless => LbHost { admits: Admits::All, ..host.clone() },
        }).collect();
        let rest = only(&vacant, |admits| admits == Admits::All);
        // Where nobody is, nobody is ill.
        let in_use = vacant.iter().zip(plain(&vacant)).map(|(host, plain)| match host.admits {
            Admits::None => LbHost { health: HostHealth::Healthy, ..plain },
            Admits::All | Admits::Part(_) | Admits::Keyless => plain,
        }).collect::<Vec<_>>();
        let (balancer, whole, without) = (build(&vacant, &config), build(&in_use, &config), build(&rest, &config));
        for hash in hashes(seed).take(100) {
            let (found, alone) = (key(&vacant, &balancer, hash), key(&rest, &without, hash));
            let first = whole.choose_by_hash(hash, 0).map(|choice| &vacant[choice.host as usize]);
            if whole.levels() == without.levels() {
                match first {
                    Some(host) if host.admits == Admits::All => prop_assert_eq!(found, Some(&*host.key)),
                    Some(_) | None => prop_assert_eq!(found, alone),
                }
            }
            prop_assert_eq!(found.is_some(), alone.is_some());
            prop_assert!(vacant.iter().all(|host| host.admits != Admits::None || Some(&*host.key) != found));
        }
    }

    /// A step may be one of several hosts at once. Its last one, to all, is of one host while no other warms up.
    #[test]
    fn a_warm_up_moves_keys_to_the_host_and_never_away_again(
        others in prop::collection::vec(prop_oneof![3 => Just(Admits::All), 1 => Just(Admits::None)], 1..9),
        mut parts in prop::collection::vec((any::<u16>(), any::<u16>()), 1..6),
        config in any_config(),
        seed: u64,
    ) {
        prop_assume!(others.contains(&Admits::All));
        parts.sort_unstable();
        let steps: Vec<Vec<LbHost>> = parts.iter().scan(0, |second, (first, grown)| {
            *second = (*grown).max(*second);
            let warming = [Admits::Part(*first), Admits::Part(*second)];
            Some(hosts(&warming.into_iter().chain(others.iter().copied()).collect::<Vec<_>>()))
        }).collect();
        let balancers: Vec<_> = steps.iter().map(|hosts| build(hosts, &config)).collect();
        for hash in hashes(seed).take(100) {
            let chosen: Vec<_> = balancers.iter().map(|balancer| balancer.choose_by_hash(hash, 0).unwrap().host).collect();
            prop_assert!(chosen.windows(2).all(|pair| pair[0] == pair[1] || (pair[1] < 2 && pair[0] >= 2)), "{:?}", chosen);
        }
        let whole = others.iter().filter(|admits| **admits == Admits::All);
        let ramp: Vec<Balancer> = parts.iter().map(|(part, _)| Admits::Part(*part)).chain([Admits::All])
            .map(|admits| build(&hosts(&std::iter::once(admits).chain(whole.clone().copied()).collect::<Vec<_>>()), &config))
            .collect();
        for hash in hashes(seed).take(100) {
            let chosen: Vec<_> = ramp.iter().map(|balancer| balancer.choose_by_hash(hash, 0).unwrap().host).collect();
            prop_assert!(chosen.windows(2).all(|pair| pair[0] == pair[1] || pair[1] == 0), "{:?}", chosen);
        }
    }

    #[test]
    fn a_sequence_has_every_host_that_is_there_once(hosts in any_levels(), config in any_config(), seed: u64, max in 0..20_usize) {
        let balancer = build(&hosts, &config);
        for hash in hashes(seed).take(20) {
            let present: BTreeSet<u32> = balancer.pool(hash).map_or(BTreeSet::new(), |pool| pool.present().collect());
            let sequence = balancer.sequence(hash, max);
            prop_assert_eq!(sequence.len(), present.len().min(max));
            prop_assert_eq!(sequence.iter().copied().collect::<BTreeSet<_>>().len(), sequence.len());
            prop_assert!(sequence.iter().all(|host| present.contains(host) && hosts[*host as usize].admits != Admits::None));
            let first = balancer.choose_by_hash(hash, 0).map(|choice| choice.host);
            if max > 0 {
                prop_assert_eq!(sequence.first().copied(), first);
            }
            let retry = balancer.choose_again(hash, 9, |host| Some(host) == first).map(|choice| choice.host);
            if retry != first && max > 1 {
                prop_assert_eq!(sequence.get(1).copied(), retry);
            }
        }
    }

    #[test]
    fn shares_and_moves_are_those_of_the_hashes(hosts in any_levels(), changes in prop::collection::vec(any_admits(), 14), config in any_config()) {
        let changed: Vec<_> = hosts.iter().zip(&changes).map(|(host, admits)| LbHost { admits: *admits, ..host.clone() }).collect();
        let (before, after) = (build(&hosts, &config), build(&changed, &config));
        let samples = 20_000;
        let mut counts = vec![0.0; hosts.len()];
        let mut moved = 0.0;
        for hash in hashes(11).take(samples) {
            let (old, new) = (before.choose_by_hash(hash, 0), after.choose_by_hash(hash, 0));
            old.iter().for_each(|choice| counts[choice.host as usize] += 1.0 / samples as f64);
            moved += f64::from(u8::from(old.map(|old| old.host) != new.map(|new| new.host))) / samples as f64;
        }
        for (share, count) in before.shares().iter().zip(&counts) {
            prop_assert!((share - count).abs() < 0.02, "{:?} {:?}", before.shares(), counts);
        }
        let remapped = before.remapped(&after, |host| host, |host| host);
        prop_assert!((remapped.moved - moved).abs() < 0.02, "{:?} {}", remapped, moved);
        prop_assert_eq!(before.remapped(&before, |host| host, |host| host), Remapped::default());
    }

    #[test]
    fn a_bounded_choice_is_somebody_who_is_there(hosts in any_hosts(), config in any_config(), seed: u64, active in prop::collection::vec(0..9_u32, 14)) {
        let config = BalancerConfig { hash_balance_factor: Some(125), ..config };
        let balancer = build(&hosts, &config);
        let all = active.iter().take(hosts.len()).sum();
        for hash in hashes(seed).take(50) {
            let choice = balancer.choose_bounded(hash, 0, all, |host| active[host]);
            prop_assert!(choice.is_none_or(|choice| hosts[choice.host as usize].admits != Admits::None));
            prop_assert_eq!(balancer.choose_bounded(hash, 0, 0, |_| 0), balancer.choose_by_hash(hash, 0));
        }
    }

    /// Two replicas that list the hosts in different orders.
    #[test]
    fn the_order_of_hosts_does_not_matter_under_maglev(found in any_hosts(), rotate in 0..14_usize, seed: u64) {
        let mut other = found.clone();
        other.rotate_left(rotate % found.len());
        let (a, b) = (build(&found, &maglev(1021)), build(&other, &maglev(1021)));
        for hash in hashes(seed).take(100) {
            prop_assert_eq!(key(&found, &a, hash), key(&other, &b, hash));
        }
    }

    #[test]
    fn a_table_that_is_carried_over_moves_only_what_is_not_taken(
        before in any_hosts(),
        changes in prop::collection::vec(any_admits(), 14),
        config in any_config(),
        seed: u64,
    ) {
        let after: Vec<_> = before.iter().zip(&changes).map(|(host, admits)| LbHost { admits: *admits, ..host.clone() }).collect();
        let built = build(&before, &config);
        let whole = build(&plain(&before), &config);
        let takes_all = after.iter().any(|host| host.admits == Admits::All);
        let Some(carried) = built.carried_over(&after, &config, Some).unwrap() else {
            return Ok(());
        };
        for hash in hashes(seed).take(100) {
            let first = whole.choose_by_hash(hash, 0).unwrap().host;
            let chosen = carried.choose_by_hash(hash, 0).unwrap().host;
            let (first_admits, chosen_admits) = (after[first as usize].admits, after[chosen as usize].admits);
            let is_taken = if takes_all { first_admits.takes(hash) } else { first_admits != Admits::None };
            let is_whole = if takes_all { chosen_admits == Admits::All } else { chosen_admits != Admits::None };
            prop_assert!(if is_taken { chosen == first } else { is_whole }, "{} instead of {}", chosen, first);
        }
        let total: f64 = carried.shares().iter().sum();
        prop_assert!((total - 1.0).abs() < 1e-9, "{}", total);
    }
}
