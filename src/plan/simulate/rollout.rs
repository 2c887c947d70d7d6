//! What a rolling update would do to the sessions of a cluster: how often each moves, by what stands for a pod, by the table, and by whether
//! sessions are held.

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::lb::slots::{Pod, PodState, SlotMap};
use crate::lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy, RingConfig, TableError, host_key};
use crate::snapshot::{Cluster, vacant_slot};

use super::{SimulateError, host_of, key_hash, successor};

/// Most pods of a rollout that is tried out: each change of them needs tables of its own.
const MOST_PODS: usize = 128;

/// Keys that are tried without being told a number.
pub const ROLLOUT_KEYS: usize = 20_000;

/// Seconds between two steps of the rollout: from a pod's start to its readiness. Only slots depend on it, and only where pods leave before
/// others have come.
const STEP_SECONDS: u64 = 10;

/// How long a pod waits for a slot, and a slot for a pod: the default of an AffinityPolicy.
const SPARE_SECONDS: u64 = 30;

/// A rolling update, as a Deployment's strategy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    /// How many pods there may be beyond the number that is asked for.
    pub max_surge: usize,
    /// How many of that number may be missing.
    #[serde(default)]
    pub max_unavailable: usize,
}

/// What a rolling update would move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// The backend.
    pub backend: String,
    /// Pods that are replaced.
    pub pods: usize,
    /// The strategy.
    pub rollout: Rollout,
    /// Keys tried.
    pub keys: usize,
    /// What becomes of the sessions, for each way to keep them.
    pub ways: Vec<RolloutWay>,
    /// What the reader should know about the figures.
    pub notes: Vec<String>,
}

/// What becomes of the sessions in one way to keep them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutWay {
    /// `identity` of an AffinityPolicy: `Address` or `Slot`.
    pub identity: String,
    /// `Maglev` or `RingHash`.
    pub table: String,
    /// `hold` of an AffinityPolicy: `None` or `WhileAlive`.
    pub hold: String,
    /// It is the way of the backend as it is configured.
    pub is_configured: bool,
    /// How often a session moves, on average.
    pub moves: f64,
    /// How often it moves though its pod still serves, on average.
    pub needless: f64,
}

/// The pods that serve from some second on, as indexes: the old ones, then the new ones.
struct Stage {
    second: u64,
    pods: Vec<usize>,
}

/// Tries a rolling update out on `keys` keys, the same ones every time.
///
/// # Errors
/// The cluster does not choose by hash, has no hosts or too many, or the strategy replaces nothing.
pub fn simulate_rollout(cluster: &Cluster, rollout: Rollout, keys: usize) -> Result<RolloutReport, SimulateError> {
    let backend = cluster.name.to_string();
    if keys == 0 {
        return Err(SimulateError::NoKeys);
    }
    if !cluster.balancer.uses_hash() {
        return Err(SimulateError::NotHashed { backend });
    }
    let pods = cluster.balanced().len();
    if pods == 0 {
        return Err(SimulateError::NoHosts { backend, why: cluster.no_hosts.clone() });
    }
    if pods > MOST_PODS {
        return Err(SimulateError::TooManyRolled { pods });
    }
    if rollout.max_surge == 0 && rollout.max_unavailable == 0 {
        return Err(SimulateError::NothingRolls);
    }
    let stages = stages(pods, rollout);
    let addresses = addresses(cluster, pods);
    let mut ways = Vec::new();
    for slots in [false, true] {
        for policy in [Policy::Maglev(maglev(cluster)), Policy::RingHash(ring(cluster))] {
            let is_table = std::mem::discriminant(&policy) == std::mem::discriminant(&cluster.balancer_config.policy);
            let config = BalancerConfig { policy, ..cluster.balancer_config.clone() };
            let tables = tables(&stages, &addresses, slots, &config)?;
            for holds in [false, true] {
                let (moves, needless) = count(&stages, &tables, holds, keys);
                let is_held = cluster.affinity.as_ref().is_some_and(|affinity| affinity.hold.is_some());
                ways.push(RolloutWay {
                    identity: if slots { "Slot" } else { "Address" }.to_owned(),
                    table: if matches!(config.policy, Policy::RingHash(_)) { "RingHash" } else { "Maglev" }.to_owned(),
                    hold: if holds { "WhileAlive" } else { "None" }.to_owned(),
                    is_configured: is_table && slots == cluster.has_slots() && holds == is_held,
                    moves,
                    needless,
                });
            }
        }
    }
    Ok(RolloutReport { backend, pods, rollout, keys, ways, notes: notes(rollout) })
}

fn notes(rollout: Rollout) -> Vec<String> {
    let mut notes = vec![
        "the addresses of new pods are invented, after the highest one; with others as many sessions move, but not the same ones"
            .to_owned(),
        format!(
            "with identity: Slot a pod that comes in a scale-up idles for spareTime ({SPARE_SECONDS} s by default) before it gets sessions: \
             that is what it costs"
        ),
    ];
    if rollout.max_unavailable > 0 {
        notes.push(
            "pods leave before others have come (maxUnavailable): their slots are vacant meanwhile, and their sessions move twice; \
             maxSurge alone moves each once"
                .to_owned(),
        );
    }
    notes
}

fn maglev(cluster: &Cluster) -> MaglevConfig {
    match &cluster.balancer_config.policy {
        Policy::Maglev(config) => *config,
        _ => MaglevConfig::default(),
    }
}

fn ring(cluster: &Cluster) -> RingConfig {
    match &cluster.balancer_config.policy {
        Policy::RingHash(config) => *config,
        _ => RingConfig::default(),
    }
}

/// The stages of a rollout: new pods come as far as the strategy lets them, then as many old ones leave.
fn stages(pods: usize, rollout: Rollout) -> Vec<Stage> {
    let batch = rollout.max_surge.saturating_add(rollout.max_unavailable).min(pods);
    let mut stages = vec![Stage { second: 0, pods: (0..pods).collect() }];
    let (mut old, mut new) = (pods, 0);
    let mut second = 0;
    let mut push = |second, old: usize, new: usize| {
        stages.push(Stage { second, pods: (pods - old..pods).chain(pods..pods + new).collect() });
    };
    if rollout.max_unavailable > 0 {
        second += 1;
        old -= rollout.max_unavailable.min(old);
        push(second, old, new);
    }
    while old > 0 || new < pods {
        second += STEP_SECONDS;
        new = (new + batch).min(pods);
        push(second, old, new);
        if old > 0 {
            second += 1;
            old -= batch.min(old);
            push(second, old, new);
        }
    }
    stages
}

/// Those of the cluster, and invented ones for the new pods.
fn addresses(cluster: &Cluster, pods: usize) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = cluster.balanced().iter().map(|host| host.address).collect();
    addresses.sort_unstable();
    while addresses.len() < 2 * pods {
        let next = addresses.last().and_then(|last| Some(SocketAddr::new(successor(last.ip())?, last.port())));
        let Some(next) = next else { break };
        addresses.push(next);
    }
    addresses
}

/// A table, with the pod of each of its hosts.
struct Table {
    balancer: Balancer,
    pods: Vec<usize>,
}

fn tables(stages: &[Stage], addresses: &[SocketAddr], slots: bool, config: &BalancerConfig) -> Result<Vec<Table>, TableError> {
    let mut map = SlotMap::default();
    let names: Vec<String> = (0..2 * addresses.len()).map(|pod| format!("{pod:05}")).collect();
    let by_name: BTreeMap<&str, usize> = names.iter().enumerate().map(|(pod, name)| (name.as_str(), pod)).collect();
    let mut tables = Vec::with_capacity(stages.len());
    for stage in stages {
        let (hosts, pods): (Vec<LbHost>, Vec<usize>) = if slots {
            let ready: Vec<Pod<'_>> =
                stage.pods.iter().filter_map(|pod| Some(Pod { id: names.get(*pod)?, state: PodState::Ready })).collect();
            map = map.step(&ready, stage.second, SPARE_SECONDS).0;
            by_slot(&map, &by_name)
        } else {
            let host = |pod: &usize| Some((LbHost::new(host_key(*addresses.get(*pod)?)), *pod));
            stage.pods.iter().filter_map(host).unzip()
        };
        tables.push(Table { balancer: Balancer::build(&hosts, config)?, pods });
    }
    Ok(tables)
}

/// The hosts of a map of slots, those without a pod last.
fn by_slot(map: &SlotMap, by_name: &BTreeMap<&str, usize>) -> (Vec<LbHost>, Vec<usize>) {
    let held = map.slots.iter().filter_map(|slot| {
        let pod = by_name.get(&*slot.holder.as_ref()?.pod)?;
        Some((LbHost { place: slot.number, ..LbHost::new(slot.number.to_string()) }, *pod))
    });
    let (mut hosts, pods): (Vec<LbHost>, Vec<usize>) = held.unzip();
    hosts.extend(map.slots.iter().filter(|slot| slot.holder.is_none()).map(|slot| vacant_slot(slot.number)));
    (hosts, pods)
}

/// How often a session moves, and how often needlessly.
fn count(stages: &[Stage], tables: &[Table], holds: bool, keys: usize) -> (f64, f64) {
    let (mut moves, mut needless) = (0_u64, 0_u64);
    for hash in (0..keys).map(key_hash) {
        let mut at: Option<usize> = None;
        for (stage, table) in stages.iter().zip(tables) {
            let serves = at.is_some_and(|pod| stage.pods.binary_search(&pod).is_ok());
            if holds && serves {
                continue;
            }
            let next = host_of(&table.balancer, hash).and_then(|host| table.pods.get(host as usize)).copied();
            if at.is_some() && next != at {
                moves += 1;
                needless += u64::from(serves);
            }
            at = next;
        }
    }
    (moves as f64 / keys as f64, needless as f64 / keys as f64)
}

impl fmt::Display for RolloutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rollout { max_surge, max_unavailable } = self.rollout;
        writeln!(
            f,
            "{}, a rolling update of {} pods (maxSurge {max_surge}, maxUnavailable {max_unavailable}), {} keys",
            self.backend, self.pods, self.keys
        )?;
        writeln!(f, "    {:8}  {:8}  {:10}  {:>17}  {:>8}", "identity", "table", "hold", "moves per session", "needless")?;
        for way in &self.ways {
            let mark = if way.is_configured { "*" } else { " " };
            let RolloutWay { identity, table, hold, moves, needless, .. } = way;
            writeln!(f, "  {mark} {identity:8}  {table:8}  {hold:10}  {moves:>17.2}  {needless:>8.2}")?;
        }
        if self.ways.iter().any(|way| way.is_configured) {
            writeln!(f, "  * as it is configured")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}
