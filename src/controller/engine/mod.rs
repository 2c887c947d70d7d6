//! The single writer: takes the changes that are ready, translates them, publishes the snapshot, and then reports statuses.
//!
//! It has a thread of its own, so that nothing else waits while it builds a large table. A panic costs one translation: the last snapshot
//! keeps serving, and the next translation starts from scratch.

mod held;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, TryRecvError},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::base::{Message, ObjectName, ObjectRef, Published, TokenBucket};
use crate::snapshot::{BackendName, BindProtocol, BindState, Cluster, GatewayPort, Observed, ObservedService, Snapshot, TableKind};
use crate::telemetry::{CertificateExpiry, Metrics};
use crate::translate::{Change, LastGood, Options, Resources, Status, Translation, cluster_of, report::findings, translate};

use super::{clock::Clock, manifests::NoticeBlocks};
use held::Held;

/// Snapshots that may be made at once, and then per second. In a flood, changes of up to 10 ms become one snapshot, so that not each one
/// wakes every thread.
const TURNS_AT_ONCE: u32 = 50;
const TURNS_PER_SECOND: u32 = 100;

/// Notices of one change that are logged: a file may be wrong a million times.
const NOTICES_TOLD: usize = 1000;

/// Called after each publication, on the engine's thread.
pub type Observer = Box<dyn FnMut(&Translation, u64) + Send>;

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
    /// Told of every translation after its snapshot was published, with the snapshot's generation.
    pub observer: Option<Observer>,
}

/// A message to the engine.
#[derive(Debug)]
pub enum Input {
    /// Changes from a source of resources. Its notices replace those that it gave before.
    Changes {
        /// Changes in order.
        changes: Vec<Change>,
        /// All current notices of the source.
        notices: NoticeBlocks,
    },
    /// What became of sockets; those that are not named are no longer bound.
    Bound(BTreeMap<SocketAddr, BindState>),
    /// Addresses of DNS names, all of them.
    Names(BTreeMap<Box<str>, Arc<[IpAddr]>>),
    /// In a cluster: the internal ports, all of them.
    Ports(BTreeMap<GatewayPort, u16>),
    /// In a cluster: Services that may stand in front of Gateways; `None`: gone.
    Services(Vec<(ObjectName, Option<ObservedService>)>),
    /// In a cluster, in the leader: why Services could not be written, all of them.
    RefusedServices(BTreeMap<ObjectName, Message>),
    /// In a cluster: version of the Gateway API's CRDs, where it is known.
    GatewayApiVersion(Option<Box<str>>),
    /// Last good versions that an earlier process kept.
    LastGood(LastGood),
    /// Every object was seen once: a last good version that nobody needed so far is of an object that is gone.
    ForgetLastGood,
    /// A request for the state.
    Report(oneshot::Sender<Report>),
    /// A request for a backend's cluster. A route need not use it.
    Cluster(BackendName, oneshot::Sender<Result<Arc<Cluster>, Message>>),
}

/// The state of the configuration at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// Generation of the snapshot.
    pub generation: u64,
    /// What is served.
    pub snapshot: Arc<Snapshot>,
    /// Statuses of all objects that have one of ours.
    pub statuses: BTreeMap<ObjectRef, Arc<Status>>,
    /// Notices of the source, then of translation.
    pub notices: Vec<Message>,
}

/// The engine before it runs.
pub struct Engine {
    config: EngineConfig,
    /// `translate`; tests of panics and hangs replace it.
    translate: Translate,
    inputs: mpsc::Receiver<Input>,
    resources: Resources,
    pending: VecDeque<Change>,
    /// Changes that are not translated before they are prepared.
    held: Held,
    translation: Option<Translation>,
    source_notices: NoticeBlocks,
    /// Problems of objects that were logged.
    told: BTreeMap<ObjectRef, Message>,
    names: watch::Sender<BTreeSet<Box<str>>>,
}

/// Sends messages to the engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    inputs: mpsc::Sender<Input>,
    names: watch::Receiver<BTreeSet<Box<str>>>,
}

// === impl Engine ===

impl Engine {
    /// An engine that is not started, and its handle. Messages that are sent before the start wait.
    pub fn new(config: EngineConfig) -> (Self, EngineHandle) {
        let (sender, inputs) = mpsc::channel();
        let names = watch::Sender::new(BTreeSet::new());
        let handle = EngineHandle { inputs: sender, names: names.subscribe() };
        let engine = Self {
            config,
            translate,
            inputs,
            resources: Resources::default(),
            pending: VecDeque::new(),
            held: Held::default(),
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
    /// The thread cannot be started.
    pub fn start(mut self, changes: Vec<Change>, notices: NoticeBlocks) -> std::io::Result<()> {
        self.turn(vec![Input::Changes { changes, notices }]);
        thread::Builder::new().name("engine".into()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        let mut pace = TokenBucket::new(TURNS_AT_ONCE, TURNS_PER_SECOND, Instant::now());
        loop {
            let first = if self.held.is_empty() {
                match self.inputs.recv_timeout(self.config.clock.interval) {
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
            self.conclude(true, batch.reports);
        }
    }

    /// One turn: everything that is ready becomes one snapshot.
    fn turn(&mut self, inputs: Vec<Input>) {
        let (mut reports, mut clusters) = (Vec::new(), Vec::new());
        let mut dirty = replace(&mut self.config.observed.hour, self.config.clock.hour());
        for input in inputs {
            match input {
                Input::Report(reply) => reports.extend(self.held.ask(reply)),
                Input::Cluster(backend, reply) => clusters.push((backend, reply)),
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
                Input::LastGood(versions) => self.resources.restore(versions),
                Input::RefusedServices(refused) => dirty |= replace(&mut self.config.observed.refused_services, refused),
                Input::ForgetLastGood => self.resources.forget_unused(),
                Input::Services(services) => dirty |= replace_services(&mut self.config.observed.services, services),
            }
        }
        self.conclude(dirty, reports);
        for (backend, reply) in clusters {
            let _ = reply.send(cluster_of(&self.resources, &self.config.observed, &self.config.options, &backend));
        }
    }

    /// Translates if anything changed, and answers.
    fn conclude(&mut self, dirty: bool, reports: Vec<oneshot::Sender<Report>>) {
        if dirty && !self.survive() {
            // From scratch, without what was half done.
            self.survive();
        }
        let notices = self.source_notices.iter().map(|block| block.len()).sum::<usize>()
            + self.translation.as_ref().map_or(0, |translation| translation.notices.len());
        self.config.metrics.control().set_findings(self.told.len(), notices);
        for reply in reports {
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
        let generation = if Arc::ptr_eq(&before.value, &translation.snapshot) {
            before.generation
        } else {
            self.config.published.publish(Arc::clone(&translation.snapshot))
        };
        let duration = begin.elapsed();
        self.config.metrics.control().engine_finished(generation, duration);
        count_tables(&self.config.metrics, &before.value, &translation.snapshot, duration);
        if !Arc::ptr_eq(&before.value, &translation.snapshot) {
            self.config.metrics.control().set_certificate_expiries(certificate_expiries(&translation.snapshot));
        }
        self.names.send_if_modified(|names| replace(names, translation.dns_names.clone()));
        self.config.metrics.control().set_hostname_conflicts(translation.hostname_conflicts);
        self.tell_statuses(&translation);
        translation.notices.fresh().iter().for_each(|notice| tracing::warn!("{notice}"));
        if let Some(observer) = &mut self.config.observer {
            observer(&translation, generation);
        }
        let held = translation.infrastructure.ports.iter().filter_map(|wanted| Some((wanted.key.clone(), wanted.assigned?)));
        self.config.observed.held_ports = held.collect();
        // Of the first translation they are as many as there are objects.
        translation.changed_statuses = Vec::new();
        self.translation = Some(translation);
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

// === impl EngineHandle ===

impl EngineHandle {
    /// Hands something to the engine; lost where the engine has ended.
    pub fn send(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    /// The state; `None` where the engine does not answer in time: it hangs in its current work.
    pub async fn report(&self, patience: Duration) -> Option<Report> {
        let (reply, report) = oneshot::channel();
        self.send(Input::Report(reply));
        tokio::time::timeout(patience, report).await.ok()?.ok()
    }

    /// A backend's cluster, whether or not a route uses it; `None` where the engine does not answer in time.
    pub async fn cluster(&self, backend: BackendName, patience: Duration) -> Option<Result<Arc<Cluster>, Message>> {
        let (reply, cluster) = oneshot::channel();
        self.send(Input::Cluster(backend, reply));
        tokio::time::timeout(patience, cluster).await.ok()?.ok()
    }

    /// The DNS names that the current configuration refers to.
    pub fn names(&self) -> watch::Receiver<BTreeSet<Box<str>>> {
        self.names.clone()
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
    let findings = findings(object, status, options).into_iter().filter(|finding| !finding.is_on_its_way());
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

/// When the first certificate of each HTTPS listener expires.
fn certificate_expiries(snapshot: &Snapshot) -> Vec<CertificateExpiry> {
    // A port may be bound on several addresses.
    let mut expiries = BTreeMap::new();
    for bind in snapshot.binds.values() {
        let BindProtocol::Https(termination) = &bind.protocol else { continue };
        for (_, listener) in termination.listeners() {
            if let Some(not_after) = listener.certificates.iter().map(|certificate| certificate.not_after).min() {
                expiries.insert((&*bind.gateway, &listener.name), not_after);
            }
        }
    }
    let expiry = |((gateway, listener), not_after): ((&ObjectName, &Arc<str>), i64)| CertificateExpiry {
        gateway: gateway.to_string(),
        listener: Arc::clone(listener),
        not_after,
    };
    expiries.into_iter().map(expiry).collect()
}

/// Counts the hash tables that differ between two snapshots, and the keys that they move.
fn count_tables(metrics: &Metrics, before: &Snapshot, after: &Snapshot, duration: Duration) {
    let (mut rings, mut maglevs) = (0, 0);
    for (index, cluster) in after.clusters.iter().enumerate() {
        let Some(cluster) = cluster else { continue };
        let old = before.clusters.get(index).and_then(Option::as_ref);
        if old.is_some_and(|old| Arc::ptr_eq(old, cluster)) {
            continue;
        }
        match cluster.balancer.table().map(|table| table.kind) {
            Some(TableKind::Ring) => rings += 1,
            Some(TableKind::Maglev) => maglevs += 1,
            None => continue,
        }
        if let Some(old) = old.filter(|old| old.name == cluster.name && old.balancer.table().is_some()) {
            let remapped = old.balancer.remapped(&cluster.balancer, |host| host_text(old, host), |host| host_text(cluster, host));
            metrics.control().remapped(remapped.moved, remapped.needless);
        }
    }
    if rings + maglevs > 0 {
        metrics.control().tables_built(rings, maglevs, duration);
    }
}

fn host_text(cluster: &Cluster, host: u32) -> Option<&str> {
    cluster.hosts.get(host as usize).map(|host| &*host.text)
}
