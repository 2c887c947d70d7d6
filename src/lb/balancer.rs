//! A cluster's balancer: priority levels, each with its table.

use std::fmt;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use crate::lb::admission::{self, Admission};
use crate::lb::admits::Admits;
use crate::lb::bounded::{Load, LoadBound};
use crate::lb::choice::Choice;
use crate::lb::config::BalancerConfig;
use crate::lb::draw::{below, next_random};
use crate::lb::error::TableError;
use crate::lb::host::{HostHealth, LbHost};
use crate::lb::pool::Pool;
use crate::lb::priority::{Availability, LevelHealth, LevelLoad, PriorityLoads};
use crate::lb::selector::Selector;

/// Envoy's limit for the priority of an endpoint.
const PRIORITY_LIMIT: u32 = 128;

/// How often, per host wanted, a sequence asks the table before it goes on in list order. A table gives even a host with
/// a hundredth of the weight in less, mostly.
const ATTEMPTS_PER_HOST: usize = 16;

/// The kind of a table that is asked by hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// Ring hash.
    Ring,
    /// Maglev.
    Maglev,
}

impl TableKind {
    /// The kind's name in output: `ring` or `maglev`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Maglev => "maglev",
        }
    }
}

/// A table in figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its kind.
    pub kind: TableKind,
    /// Points of the ring, or slots.
    pub size: u64,
    /// Hosts that take part, those that warm up among them.
    pub hosts: u32,
    /// Entries of the table without a host behind them, as if they were hosts: vacant slots.
    pub vacant: u32,
}

/// Chooses among the hosts of a cluster. Immutable: another set of hosts needs another balancer.
pub struct Balancer {
    uses_hash: bool,
    loads: PriorityLoads,
    levels: Box<[Level]>,
    bound: Option<LoadBound>,
    host_count: u32,
    config: BalancerConfig,
}

/// The hosts of one priority.
#[derive(Debug)]
pub(super) struct Level {
    /// The healthy ones, or all in panic.
    pub(super) available: Pool,
    /// The degraded ones, for policies that use them.
    degraded: Option<Pool>,
}

impl Balancer {
    /// Builds the tables for these hosts. No hosts are no error: there is nothing to choose then.
    ///
    /// A host that [admits](LbHost::admits) a part of its hashes or none has its place in the table nevertheless, and a second table without
    /// such hosts says where the others go. Policies without a hash leave out hosts that admit none, and take all others for whole.
    pub fn build(hosts: &[LbHost], config: &BalancerConfig) -> Result<Self, TableError> {
        let has_localities = config.locality_weights.is_some();
        Self::build_with(hosts, config, |admission| Some(Pool::build(hosts, admission, &config.policy, has_localities)))?
            .ok_or(TableError::HostCount { count: hosts.len() })
    }

    /// The balancer that serves other hosts with this table until their own one is built: hosts that stay keep their keys, hosts that are
    /// gone leave theirs to whoever follows in the table, new hosts have none. `now` gives the present index of a host.
    ///
    /// `None`: there is no table, or no host of it stays. A table of several priorities is not carried over.
    ///
    /// # Errors
    /// The hosts have no table, as for [`build`](Self::build).
    pub fn carried_over(
        &self,
        hosts: &[LbHost],
        config: &BalancerConfig,
        now: impl Fn(u32) -> Option<u32>,
    ) -> Result<Option<Self>, TableError> {
        let [level] = &*self.levels else { return Ok(None) };
        if hosts.iter().any(|host| host.priority > 0) {
            return Ok(None);
        }
        Self::build_with(hosts, config, |admission| level.available.carried_over(admission, self.host_count, &now))
    }

    /// With these tables; `None` if there is none for a level.
    fn build_with(
        hosts: &[LbHost],
        config: &BalancerConfig,
        pool: impl Fn(&Admission) -> Option<Pool>,
    ) -> Result<Option<Self>, TableError> {
        config.validate()?;
        let host_count =
            u32::try_from(hosts.len()).ok().filter(|count| *count < u32::MAX).ok_or(TableError::HostCount { count: hosts.len() })?;
        let by_priority = by_priority(hosts)?;
        let health: Vec<LevelHealth> = by_priority.iter().map(|level| level_health(hosts, level)).collect();
        let loads = PriorityLoads::new(&health, config.healthy_panic_threshold);
        let uses_hash = config.uses_hash();
        let mut bound = config.hash_balance_factor.filter(|_| uses_hash).map(|factor| LoadBound::new(factor, hosts.len()));
        let mut levels = Vec::with_capacity(by_priority.len());
        for (level, load) in by_priority.iter().zip(loads.levels()) {
            let Some((level, admission)) = build_level(hosts, level, *load, config, &pool)? else { return Ok(None) };
            if let Some(bound) = &mut bound {
                bound.add(&admission.loaded());
            }
            levels.push(level);
        }
        Ok(Some(Self { uses_hash, loads, levels: levels.into(), bound, host_count, config: config.clone() }))
    }

    /// A balancer without hosts.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            uses_hash: false,
            loads: PriorityLoads::new(&[], 0.0),
            levels: Box::default(),
            bound: None,
            host_count: 0,
            config: BalancerConfig::default(),
        }
    }

    /// Whether a host is chosen by the request's hash, so that computing one is worth it.
    #[must_use]
    pub fn uses_hash(&self) -> bool {
        self.uses_hash
    }

    /// The host of a request's hash, or of a random number where the request has none. Attempts count from 0; a later one
    /// may give the same host again. `None`: there is no host.
    #[must_use]
    pub fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<Choice> {
        if self.uses_hash { self.pool(hash)?.choose_by_hash(hash, attempt) } else { self.choose(hash, hash, |_| 0) }
    }

    /// Whose the entry is on which a hash falls, whether or not that one takes the hash: a host, or a place without one. `None`: there is no
    /// table, or nobody in it.
    #[must_use]
    pub fn owner(&self, hash: u64) -> Option<u32> {
        if self.uses_hash { Some(self.pool(hash)?.table().choose_by_hash(hash, 0)?.host) } else { None }
    }

    /// The host of a request that has no key, by a uniform random number: that of the table, or with its share of all hosts one that has no
    /// entry there. `None`: there is no host.
    #[must_use]
    pub fn choose_keyless(&self, random: u64) -> Option<Choice> {
        let outside = self.pool(random).filter(|pool| !pool.outside.is_empty() && self.uses_hash);
        outside.and_then(|pool| pool.choose_outside(random)).or_else(|| self.choose_by_hash(random, 0))
    }

    /// The host by a policy without a hash. `random` is a uniform number, `turn` the caller's own counter of requests to
    /// this cluster, `active` the number of requests in flight to a host, by its index. `None`: there is no host.
    #[must_use]
    pub fn choose(&self, random: u64, turn: u64, active: impl Fn(usize) -> u32) -> Option<Choice> {
        self.pool(random)?.choose(random, turn, active)
    }

    /// As [`choose_by_hash`](Self::choose_by_hash), but passes over a host whose load is beyond `hash_balance_factor`, if
    /// that is set. `cluster_active` and `active` are the requests in flight, to all hosts and to one, without this one.
    ///
    /// As in Envoy a host is passed over when it has *more* than its slots in flight, so that it may come to have one more. A host that
    /// admits a part of its hashes has as much less load to bear, and one that admits none is never second.
    #[must_use]
    pub fn choose_bounded(&self, hash: u64, attempt: u32, cluster_active: u32, active: impl Fn(usize) -> u32) -> Option<Choice> {
        let first = self.choose_by_hash(hash, attempt)?;
        let (Some(bound), Some(pool)) = (&self.bound, self.pool(hash)) else {
            return Some(first);
        };
        let load = Load { cluster: cluster_active, active, is_present: |host| pool.admits(host) != Admits::None };
        Some(Choice { host: bound.choose(hash, first.host, &pool.members, &load), ..first })
    }

    /// Whether [`choose_bounded`](Self::choose_bounded) needs to know of requests in flight.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.bound.is_some()
    }

    /// The host for a retry, as Envoy takes it with a retry host predicate: the first attempt of 0 to `max_attempts`
    /// (`host_selection_retry_max_attempts`) whose host is not rejected, else the host of the last attempt.
    #[must_use]
    pub fn choose_again(&self, hash: u64, max_attempts: u32, rejected: impl Fn(u32) -> bool) -> Option<Choice> {
        let accepted = (0..max_attempts).map_while(|attempt| self.choose_by_hash(hash, attempt)).find(|choice| !rejected(choice.host));
        accepted.or_else(|| self.choose_by_hash(hash, max_attempts))
    }

    /// At most `max` hosts in the order in which retries would try them: the host of the hash, then those of the following
    /// attempts, each once; then, beginning at a place that depends on the hash, those that no attempt came upon. All are
    /// of the priority level the hash belongs to.
    #[must_use]
    pub fn sequence(&self, hash: u64, max: usize) -> SmallVec<[u32; 8]> {
        match self.choose_by_hash(hash, 0) {
            Some(first) => self.sequence_from(first.host, hash, max),
            None => SmallVec::new(),
        }
    }

    /// As [`sequence`](Self::sequence), after a first host that was chosen otherwise by the same hash or random number.
    #[must_use]
    pub fn sequence_from(&self, first: u32, hash: u64, max: usize) -> SmallVec<[u32; 8]> {
        let mut sequence = Sequence::new(max, self.host_count);
        sequence.add(first);
        let Some(pool) = self.pool(hash) else {
            return sequence.hosts;
        };
        let count = pool.members.len();
        let attempts = pool.table_size().min(ATTEMPTS_PER_HOST * max.min(count));
        pool.attempts(hash, attempts, |host| {
            sequence.add(host);
            if sequence.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if sequence.is_full() {
            return sequence.hosts;
        }
        let mut state = hash;
        let start = below(count as u64, next_random(&mut state)) as usize;
        let (before, after) = pool.members.split_at(start.min(count));
        let is_present = |host: &&u32| pool.admits(**host) != Admits::None;
        after.iter().chain(before).filter(is_present).chain(&pool.outside).for_each(|host| sequence.add(*host));
        sequence.hosts
    }

    /// The table of the first priority, if hosts are chosen by hash.
    #[must_use]
    pub fn table(&self) -> Option<TableInfo> {
        let pool = &self.levels.first()?.available;
        let kind = match &pool.selector {
            Selector::Ring(_) => TableKind::Ring,
            Selector::Maglev(_) => TableKind::Maglev,
            Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => return None,
        };
        let hosts = pool.present().count() as u32;
        Some(TableInfo { kind, size: pool.table_size() as u64, hosts, vacant: pool.members.len() as u32 - hosts })
    }

    /// The load and panic of each priority level.
    #[must_use]
    pub fn levels(&self) -> &[LevelLoad] {
        self.loads.levels()
    }

    /// What it was built from, beside the hosts.
    #[must_use]
    pub fn config(&self) -> &BalancerConfig {
        &self.config
    }

    /// The number of hosts the balancer was built from.
    #[must_use]
    pub fn host_count(&self) -> u32 {
        self.host_count
    }

    /// The hosts a hash or random number may go to.
    pub(super) fn pool(&self, hash: u64) -> Option<&Pool> {
        let (level, availability) = self.loads.choose(hash);
        let level = self.levels.get(level)?;
        Some(match (availability, &level.degraded) {
            (Availability::Degraded, Some(degraded)) => degraded,
            // Tables by hash have no degraded hosts: with nobody else there is no choice.
            (Availability::Degraded, None) | (Availability::Healthy, _) => &level.available,
        })
    }

    /// All hosts that may be chosen at all, each with the part it takes of the hashes that fall on it.
    pub(super) fn selectable(&self) -> impl Iterator<Item = (u32, Admits)> {
        self.levels
            .iter()
            .flat_map(|level| std::iter::once(&level.available).chain(&level.degraded))
            .flat_map(|pool| pool.present().map(|host| (host, pool.admits(host))))
    }
}

impl Default for Balancer {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Balancer {
    /// In figures: a table may have millions of entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer")
            .field("hosts", &self.host_count)
            .field("table", &self.table())
            .field("levels", &self.loads.levels())
            .field("bound", &self.bound.is_some())
            .finish()
    }
}

/// The indexes of the hosts of each priority, from 0 to the last; at least one level.
fn by_priority(hosts: &[LbHost]) -> Result<Vec<Vec<u32>>, TableError> {
    let mut levels = vec![vec![]];
    for (index, host) in hosts.iter().enumerate() {
        if host.priority > PRIORITY_LIMIT {
            return Err(TableError::Priority { key: host.key.clone(), priority: host.priority, limit: PRIORITY_LIMIT });
        }
        let level = host.priority as usize;
        if levels.len() <= level {
            levels.resize(level + 1, vec![]);
        }
        if let Some(level) = levels.get_mut(level) {
            level.push(index as u32);
        }
    }
    if hosts.iter().any(|host| host.place > 0) {
        let place = |index: &u32| hosts.get(*index as usize).map_or(0, |host| host.place);
        levels.iter_mut().for_each(|level| level.sort_by_key(place));
    }
    Ok(levels)
}

fn health_of(hosts: &[LbHost], index: u32) -> HostHealth {
    hosts.get(index as usize).map_or(HostHealth::Unhealthy, |host| host.health)
}

/// Who admits nothing is not there: it can neither be healthy nor fail.
fn level_health(hosts: &[LbHost], level: &[u32]) -> LevelHealth {
    let present = || level.iter().filter(|host| admission::admits(hosts, **host) != Admits::None);
    let count = |health| present().filter(|host| health_of(hosts, **host) == health).count() as u32;
    LevelHealth { total: present().count() as u32, healthy: count(HostHealth::Healthy), degraded: count(HostHealth::Degraded) }
}

/// A level, and who is available in it; `None` if there is no table for it.
fn build_level(
    hosts: &[LbHost],
    level: &[u32],
    load: LevelLoad,
    config: &BalancerConfig,
    pool: &impl Fn(&Admission) -> Option<Pool>,
) -> Result<Option<(Level, Admission)>, TableError> {
    let is_vacant = |host: u32| admission::admits(hosts, host) == Admits::None;
    // A vacant place stays in the table, in good health and in bad.
    let of_health =
        |health| level.iter().copied().filter(move |host| health_of(hosts, *host) == health || is_vacant(*host)).collect::<Vec<_>>();
    let available = if load.panic { level.to_vec() } else { of_health(HostHealth::Healthy) };
    let admission = Admission::new(hosts, level, &available, config)?;
    let degraded = if config.uses_hash() || load.panic { vec![] } else { of_health(HostHealth::Degraded) };
    let degraded = if degraded.is_empty() { None } else { pool(&Admission::new(hosts, level, &degraded, config)?) };
    Ok(pool(&admission).map(|available| (Level { available, degraded }, admission)))
}

/// Hosts in order, each once, up to a maximum.
struct Sequence {
    hosts: SmallVec<[u32; 8]>,
    max: usize,
    /// One bit per host.
    seen: SmallVec<[u64; 16]>,
}

impl Sequence {
    fn new(max: usize, host_count: u32) -> Self {
        Self { hosts: SmallVec::new(), max, seen: SmallVec::from_elem(0, (host_count as usize).div_ceil(64)) }
    }

    fn is_full(&self) -> bool {
        self.hosts.len() >= self.max
    }

    fn add(&mut self, host: u32) {
        let bit = 1 << (host % 64);
        let Some(word) = self.seen.get_mut(host as usize / 64) else { return };
        if *word & bit == 0 && self.hosts.len() < self.max {
            *word |= bit;
            self.hosts.push(host);
        }
    }
}
