//! The single writer: takes the changes that are ready, translates them, publishes the snapshot, and then reports statuses.
//!
//! It has a thread of its own, so that nothing else waits for it. Large hash tables are built on another one, so that no change waits for the
//! table of somebody else. A panic costs one translation: the last snapshot keeps serving, and the next translation starts from scratch.

mod builder;
mod handle;
mod held;
mod input;
mod measured;
#[cfg(test)]
mod moves_tests;
mod slots;
#[cfg(test)]
mod slots_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
mod turnover;
mod withheld;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        mpsc::{self, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::base::{Message, ObjectName, ObjectRef, Published, TableDigests, TokenBucket};
use crate::snapshot::{Balancer, Observed, ObservedService, Remapped, Snapshot, TableKind};
use crate::telemetry::Metrics;
use crate::translate::{
    BuiltTable, Change, LastGood, Options, Resources, SlotWrite, Status, TableRequest, Translation, cluster_at_once, report::findings,
    translate,
};

use super::{
    clock::Clock,
    manifests::NoticeBlocks,
    moves::{self, MoveObserver, Publication},
};
use builder::{Build, Builder};
pub use handle::EngineHandle;
use held::Held;
pub use input::{Input, Report};
use measured::{certificate_expiries, count_tables};
use turnover::Turnover;
use withheld::Withheld;

/// Snapshots that may be made at once, and then per second. In a flood, changes of up to 10 ms become one snapshot, so that not each one
/// wakes every thread.
const TURNS_AT_ONCE: u32 = 50;
const TURNS_PER_SECOND: u32 = 100;

/// Notices of one change that are logged: a file may be wrong a million times.
const NOTICES_TOLD: usize = 1000;

/// Called after each publication, on the engine's thread.
pub type Observer = Box<dyn FnMut(&Translation, u64) + Send>;

/// Told of every map of slots that this process has made for itself, so that it may outlive the process.
pub type SlotKeeper = Box<dyn FnMut(&SlotWrite) + Send>;

/// The signature of `translate`.
type Translate = fn(&Resources, &Observed, &Options, Option<Translation>) -> Translation;

/// What an engine needs.
pub struct EngineConfig {
    /// Options of translation.
    pub options: Options,
    /// Where snapshots are published.
    pub published: Arc<Published<Snapshot>>,
    /// Where work is counted.
    pub metrics: Arc<Metrics>,
    /// What is observed at the start.
    pub observed: Observed,
    /// The time, for certificates that expire.
    pub clock: Clock,
    /// Keeps maps of slots where this process is its own leader, as in `standalone`; `None`: somebody else writes them.
    pub slots: Option<SlotKeeper>,
    /// Told of every translation after its snapshot was published, with the snapshot's generation.
    pub observer: Option<Observer>,
    /// Where the digests of tables are published.
    pub digests: Arc<Published<TableDigests>>,
    /// Told of sessions that moved, on a thread of its own.
    pub moved: Option<MoveObserver>,
}

/// The engine before it runs.
pub struct Engine {
    config: EngineConfig,
    /// `translate`; tests of panics and hangs replace it.
    translate: Translate,
    /// Builds one table; tests replace it.
    build: Build,
    inputs: mpsc::Receiver<Input>,
    /// Only handles keep the engine alive.
    own_inputs: Weak<mpsc::Sender<Input>>,
    resources: Resources,
    pending: VecDeque<Change>,
    /// Changes that are not translated before they are prepared.
    held: Held,
    builder: Builder,
    withheld: Withheld,
    turnover: Turnover,
    /// Who looks into changes of tables, once the engine has started.
    moves: Option<moves::Sender>,
    /// Tables that were handed in since the last translation, with what they do to the keys.
    handed_in: Vec<(Arc<Balancer>, Option<Remapped>)>,
    /// Those who wait for the tables that were asked for up to this number.
    waiting: Vec<(u64, oneshot::Sender<Report>)>,
    translation: Option<Translation>,
    source_notices: NoticeBlocks,
    /// Problems of objects that were logged.
    told: BTreeMap<ObjectRef, Message>,
    names: watch::Sender<BTreeSet<Box<str>>>,
}

// === impl Engine ===

impl Engine {
    /// An engine that is not started, and its handle. Messages that are sent before the start wait.
    pub fn new(config: EngineConfig) -> (Self, EngineHandle) {
        let (sender, inputs) = mpsc::channel();
        let sender = Arc::new(sender);
        let own_inputs = Arc::downgrade(&sender);
        let names = watch::Sender::new(BTreeSet::new());
        let handle = EngineHandle { inputs: sender, names: names.subscribe() };
        let engine = Self {
            config,
            translate,
            build: TableRequest::build,
            inputs,
            own_inputs,
            resources: Resources::default(),
            pending: VecDeque::new(),
            held: Held::default(),
            builder: Builder::default(),
            withheld: Withheld::default(),
            turnover: Turnover::default(),
            moves: None,
            handed_in: Vec::new(),
            waiting: Vec::new(),
            translation: None,
            source_notices: Vec::new(),
            told: BTreeMap::new(),
            names,
        };
        (engine, handle)
    }

    /// Before it starts: last good versions that an earlier process kept.
    pub fn restore(&mut self, versions: LastGood) {
        self.resources.restore(versions);
    }

    /// Takes the first state in and publishes it, then works on a thread of its own until every handle is gone.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(mut self, changes: Vec<Change>, notices: NoticeBlocks) -> std::io::Result<()> {
        let inputs = Weak::clone(&self.own_inputs);
        let send = move |input| inputs.upgrade().is_some_and(|inputs| inputs.send(input).is_ok());
        self.builder.start(self.build, move |built, took| send(Input::Table(Box::new(built), took)))?;
        self.moves = Some(moves::start(Arc::clone(&self.config.metrics), Arc::clone(&self.config.digests), self.config.moved.take())?);
        self.turn(vec![Input::Changes { changes, notices }]);
        thread::Builder::new().name("engine".into()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        let mut pace = TokenBucket::new(TURNS_AT_ONCE, TURNS_PER_SECOND, Instant::now());
        loop {
            let first = if self.held.is_empty() {
                match self.inputs.recv_timeout(self.patience()) {
                    Ok(first) => Some(first),
                    // Time goes by, too.
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                self.prepare();
                match self.inputs.try_recv() {
                    Ok(first) => Some(first),
                    Err(TryRecvError::Empty) => continue,
                    Err(TryRecvError::Disconnected) => return,
                }
            };
            while let Err(wait) = pace.check(Instant::now()) {
                if self.held.is_empty() {
                    // Asleep, not listening: else every change of the flood would wake this thread.
                    thread::sleep(wait);
                } else {
                    self.prepare();
                }
            }
            pace.take();
            let ready = first.into_iter().chain(self.inputs.try_iter()).collect();
            self.turn(ready);
        }
    }

    /// Prepares the changes that are held. Once they are prepared, they become a snapshot.
    fn prepare(&mut self) {
        if let Some(batch) = self.held.step(self.translation.as_ref(), &self.config.options.limits) {
            self.pending.extend(batch.changes);
            self.conclude(true, batch.reports, Vec::new());
        }
    }

    /// One turn: everything that is ready becomes one snapshot.
    fn turn(&mut self, inputs: Vec<Input>) {
        let (mut reports, mut states, mut clusters) = (Vec::new(), Vec::new(), Vec::new());
        let mut dirty = replace(&mut self.config.observed.hour, self.config.clock.hour());
        let due = self.translation.as_ref().and_then(|translation| translation.due);
        dirty |= due.is_some_and(|due| self.config.clock.second().is_some_and(|now| due <= now));
        for input in inputs {
            match input {
                Input::Report(reply) => reports.extend(self.held.ask(reply)),
                Input::State(reply) => states.push(reply),
                Input::Cluster(backend, built, reply) => clusters.push((backend, built, reply)),
                Input::Table(built, took) => dirty |= self.hand_in(*built, took),
                Input::Changes { changes, notices } => {
                    self.config.metrics.control().config_changed(changes.len());
                    let ready = self.held.offer(changes, self.translation.as_ref(), &self.config.options.limits);
                    dirty |= !ready.is_empty() || self.translation.is_none();
                    self.pending.extend(ready);
                    self.tell_source_notices(notices);
                }
                Input::Bound(bound) => dirty |= replace(&mut self.config.observed.bound, bound),
                Input::Names(names) => dirty |= replace(&mut self.config.observed.dns, names),
                Input::Ports(ports) => dirty |= replace(&mut self.config.observed.ports, ports),
                Input::GatewayApiVersion(version) => dirty |= replace(&mut self.config.observed.gateway_api_version, version),
                Input::AffinityKeys(keys) => dirty |= replace(&mut self.config.observed.affinity_keys, Some(keys)),
                Input::LastGood(versions) => self.resources.restore(versions),
                Input::RefusedServices(refused) => dirty |= replace(&mut self.config.observed.refused_services, refused),
                Input::RefusedSlots(refused) => dirty |= replace(&mut self.config.observed.refused_slots, refused),
                Input::Agreement(agreement) => dirty |= replace(&mut self.config.observed.agreement, agreement),
                Input::NodeAddresses(addresses) => dirty |= replace(&mut self.config.observed.node_addresses, addresses),
                Input::ForgetLastGood => self.resources.forget_unused(),
                Input::Services(services) => dirty |= replace_services(&mut self.config.observed.services, services),
            }
        }
        self.conclude(dirty, reports, states);
        for (backend, built, reply) in clusters {
            let built = built.map(|built| *built);
            let _ = reply.send(cluster_at_once(&self.resources, &self.config.observed, &self.config.options, &backend, built));
        }
    }

    /// Takes a table in. Returns whether it makes a difference.
    fn hand_in(&mut self, built: BuiltTable, took: Duration) -> bool {
        let Some(translation) = &mut self.translation else { return false };
        if let Some(Ok(table)) = &built.table {
            match table.table().map(|table| table.kind) {
                Some(TableKind::Ring) => self.config.metrics.control().tables_built(1, 0, took),
                Some(TableKind::Maglev) => self.config.metrics.control().tables_built(0, 1, took),
                None => {}
            }
            self.handed_in.push((Arc::clone(table), built.remapped));
        }
        translation.hand_in(built);
        true
    }

    /// Translates if anything changed, and answers: `reports` once the tables are there that are asked for by now, `states` at once.
    fn conclude(&mut self, dirty: bool, reports: Vec<oneshot::Sender<Report>>, states: Vec<oneshot::Sender<Report>>) {
        if dirty {
            // It never goes back: what a host has come to it keeps.
            self.config.observed.second = self.config.observed.second.max(self.config.clock.second());
            if !self.survive() {
                // From scratch, without what was half done.
                self.survive();
            }
            self.make_slots();
        }
        let notices = self.source_notices.iter().map(|block| block.len()).sum::<usize>()
            + self.translation.as_ref().map_or(0, |translation| translation.notices.len());
        self.config.metrics.control().set_findings(self.told.len(), notices);
        let wanted = || self.translation.iter().flat_map(Translation::wanted_tables);
        self.builder.want(wanted());
        self.config.metrics.control().set_tables_being_built(wanted().count());
        let oldest = wanted().map(|request| request.since).min();
        let last = self.translation.as_ref().map_or(0, Translation::last_table_request);
        self.waiting.extend(reports.into_iter().map(|reply| (last, reply)));
        let (ready, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition::<Vec<_>, _>(|(last, _)| oldest.is_none_or(|oldest| oldest > *last));
        self.waiting = waiting;
        for reply in states.into_iter().chain(ready.into_iter().map(|(_, reply)| reply)) {
            let _ = reply.send(self.report());
        }
    }

    /// Works, and catches a panic. Returns whether there was none.
    fn survive(&mut self) -> bool {
        let begin = Instant::now();
        self.config.metrics.control().engine_started();
        match catch_unwind(AssertUnwindSafe(|| self.work(begin))) {
            Ok(()) => true,
            Err(panic) => {
                self.config.metrics.control().engine_panicked();
                tracing::error!(
                    "translation panicked, the last snapshot keeps serving; please report this: {}",
                    Message::from(panic_message(&*panic))
                );
                self.translation = None;
                false
            }
        }
    }

    fn work(&mut self, begin: Instant) {
        // One by one: a change that panics is gone, the others are not.
        while let Some(change) = self.pending.pop_front() {
            self.resources.apply(change);
        }
        self.pending.shrink_to_fit();
        let before = self.config.published.load();
        let previous = self.translation.take();
        let mut translation = (self.translate)(&self.resources, &self.config.observed, &self.config.options, previous);
        self.resources.clear_changes();
        let snapshot = self.withheld.publish(&before.value, &mut translation);
        let is_new = !Arc::ptr_eq(&before.value, &snapshot);
        let generation = if is_new { self.config.published.publish(Arc::clone(&snapshot)) } else { before.generation };
        let duration = begin.elapsed();
        self.config.metrics.control().engine_finished(generation, duration);
        self.tell_moves(&before.value, &snapshot, generation, duration);
        if is_new {
            self.config.metrics.control().set_certificate_expiries(certificate_expiries(&snapshot));
            let draining = snapshot.clusters.iter().flatten().map(|cluster| cluster.draining().len()).sum();
            self.config.metrics.control().set_draining_hosts(draining);
        }
        self.names.send_if_modified(|names| replace(names, translation.dns_names.clone()));
        self.config.metrics.control().set_hostname_conflicts(translation.hostname_conflicts);
        self.tell_statuses(&translation);
        translation.notices.fresh().iter().for_each(|notice| tracing::warn!("{notice}"));
        if let Some(observer) = self.config.observer.as_mut().filter(|_| !self.withheld.is_some()) {
            observer(&translation, generation);
        }
        let held = translation.infrastructure.ports.iter().filter_map(|wanted| Some((wanted.key.clone(), wanted.assigned?)));
        self.config.observed.held_ports = held.collect();
        self.config.observed.advanced_slots = Arc::clone(&translation.advanced_slots);
        // Of the first translation they are as many as there are objects.
        translation.changed_statuses = Vec::new();
        self.translation = Some(translation);
    }

    /// Hands the tables that changed to who looks into them.
    fn tell_moves(&mut self, before: &Snapshot, after: &Snapshot, generation: u64, duration: Duration) {
        let handed_in = std::mem::take(&mut self.handed_in);
        let changes = self.turnover.changes(before, after, &handed_in, &self.resources);
        count_tables(&self.config.metrics, &changes, &handed_in, duration);
        if let Some(moves) = self.moves.as_ref().filter(|_| !changes.is_empty()) {
            moves.send(Publication { changes, generation, clusters: Arc::clone(&after.clusters) });
        }
    }

    /// Logs problems that came, changed and went.
    fn tell_statuses(&mut self, translation: &Translation) {
        for object in &translation.changed_statuses {
            let status = translation.statuses.get(object);
            match status.and_then(|status| problems(object, status, &self.config.options)) {
                Some(problem) => {
                    if self.told.get(object) != Some(&problem) {
                        tracing::warn!(object = %object, "{problem}");
                        self.told.insert(object.clone(), problem);
                    }
                }
                None => {
                    if self.told.remove(object).is_some() {
                        tracing::info!(object = %object, "has no problem any more");
                    }
                }
            }
        }
    }

    /// Logs every notice of the source once while it is current. Blocks that are the same as before are not looked into.
    fn tell_source_notices(&mut self, notices: NoticeBlocks) {
        let places = |blocks: &NoticeBlocks| blocks.iter().map(|block| block.as_ptr()).collect::<HashSet<_>>();
        let (before, now) = (places(&self.source_notices), places(&notices));
        let gone = self.source_notices.iter().filter(|block| !now.contains(&block.as_ptr()));
        let known: HashSet<&str> = gone.flat_map(|block| block.iter()).map(|notice| notice.text.as_str()).collect();
        let new = notices.iter().filter(|block| !before.contains(&block.as_ptr())).flat_map(|block| block.iter());
        let mut told = 0;
        for notice in new.filter(|notice| !known.contains(notice.text.as_str())) {
            told += 1;
            if told <= NOTICES_TOLD {
                tracing::warn!("{}", notice.text);
            }
        }
        if told > NOTICES_TOLD {
            tracing::warn!("{} more notices came with these; GET /config has all of them", told - NOTICES_TOLD);
        }
        self.source_notices = notices;
    }

    fn notices(&self) -> impl Iterator<Item = &Message> {
        let of_source = self.source_notices.iter().flat_map(|block| block.iter()).map(|notice| &notice.text);
        of_source.chain(self.translation.iter().flat_map(|translation| translation.notices.iter()))
    }

    fn report(&self) -> Report {
        let published = self.config.published.load();
        Report {
            generation: published.generation,
            snapshot: Arc::clone(&published.value),
            statuses: self.translation.as_ref().map(|translation| translation.statuses.clone()).unwrap_or_default(),
            notices: self.notices().cloned().collect(),
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.config.options).finish_non_exhaustive()
    }
}

/// Whether the value changed.
fn replace<T: PartialEq>(value: &mut T, new: T) -> bool {
    let differs = *value != new;
    *value = new;
    differs
}

/// The problems that a status reports, in one line. Conditions that are pending are no problems.
fn problems(object: &ObjectRef, status: &Status, options: &Options) -> Option<Message> {
    let findings = findings(object, status, options).into_iter().filter(|finding| !finding.is_on_its_way() && !finding.is_of_the_leader());
    let lines: BTreeSet<String> = findings
        .map(|finding| {
            let part = finding.part.map(|part| format!("{part}: ")).unwrap_or_default();
            format!("{part}{}: {}", finding.state, finding.message)
        })
        .collect();
    (!lines.is_empty()).then(|| lines.into_iter().collect::<Vec<_>>().join("; ").into())
}

/// Takes Services in. Returns whether any of them changed.
fn replace_services(known: &mut BTreeMap<ObjectName, ObservedService>, seen: Vec<(ObjectName, Option<ObservedService>)>) -> bool {
    let mut changed = false;
    for (name, service) in seen {
        changed |= match service {
            Some(service) if known.get(&name) == Some(&service) => false,
            Some(service) => {
                known.insert(name, service);
                true
            }
            None => known.remove(&name).is_some(),
        };
    }
    changed
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
