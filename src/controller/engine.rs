//! The single writer: takes what is ready, translates it, publishes it, and only then tells of statuses.
//!
//! It has a thread of its own, so that building a large table stalls nothing else. A panic costs one translation: the last snapshot keeps
//! serving, and the next translation starts from scratch.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::base::{Message, ObjectName, ObjectRef, Published, TokenBucket};
use crate::snapshot::{BackendName, BindState, Cluster, GatewayPort, Observed, ObservedService, Snapshot, TableKind};
use crate::telemetry::Metrics;
use crate::translate::{Change, Options, Resources, Status, Translation, cluster_of, report::findings, translate};

use super::manifests::NoticeBlocks;

/// Snapshots that may be made at once, and then per second: a flood of changes is taken in by the handful, 10 ms later at most, instead of
/// waking every thread for each of them.
const TURNS_AT_ONCE: u32 = 50;
const TURNS_PER_SECOND: u32 = 100;

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
    /// What is seen from the beginning.
    pub observed: Observed,
    /// Told of every translation after its snapshot was published, with the snapshot's generation.
    pub observer: Option<Observer>,
}

/// What reaches the engine.
#[derive(Debug)]
pub enum Input {
    /// A source of resources has news; its notices replace those it gave before.
    Changes {
        /// Changes in order.
        changes: Vec<Change>,
        /// Notices of the source that are current.
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
    /// In a cluster: version of the Gateway API's CRDs, where it is known.
    GatewayApiVersion(Option<Box<str>>),
    /// Somebody wants to see the state.
    Report(oneshot::Sender<Report>),
    /// Somebody wants to see a backend's cluster, whether or not a route uses it.
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
    /// Replaced by tests of panics and hangs.
    translate: Translate,
    inputs: mpsc::Receiver<Input>,
    resources: Resources,
    pending: VecDeque<Change>,
    translation: Option<Translation>,
    source_notices: NoticeBlocks,
    /// What was told of objects that have a problem.
    told: BTreeMap<ObjectRef, Message>,
    names: watch::Sender<BTreeSet<Box<str>>>,
}

/// How others reach the engine.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    inputs: mpsc::Sender<Input>,
    names: watch::Receiver<BTreeSet<Box<str>>>,
}

// === impl Engine ===

impl Engine {
    /// An engine that has done nothing yet, and the way to reach it: what is sent before it starts waits.
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
            translation: None,
            source_notices: Vec::new(),
            told: BTreeMap::new(),
            names,
        };
        (engine, handle)
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
        while let Ok(first) = self.inputs.recv() {
            // Asleep, not listening: else every change of the flood would wake this thread.
            while let Err(wait) = pace.check(Instant::now()) {
                thread::sleep(wait);
            }
            pace.take();
            let ready = std::iter::once(first).chain(self.inputs.try_iter()).collect();
            self.turn(ready);
        }
    }

    /// One turn: everything that is ready becomes one snapshot.
    fn turn(&mut self, inputs: Vec<Input>) {
        let (mut reports, mut clusters) = (Vec::new(), Vec::new());
        let mut dirty = false;
        for input in inputs {
            match input {
                Input::Report(reply) => reports.push(reply),
                Input::Cluster(backend, reply) => clusters.push((backend, reply)),
                Input::Changes { changes, notices } => {
                    self.config.metrics.control().config_changed(changes.len());
                    dirty |= !changes.is_empty() || self.translation.is_none();
                    self.pending.extend(changes);
                    self.tell_source_notices(notices);
                }
                Input::Bound(bound) => dirty |= replace(&mut self.config.observed.bound, bound),
                Input::Names(names) => dirty |= replace(&mut self.config.observed.dns, names),
                Input::Ports(ports) => dirty |= replace(&mut self.config.observed.ports, ports),
                Input::GatewayApiVersion(version) => dirty |= replace(&mut self.config.observed.gateway_api_version, version),
                Input::Services(services) => dirty |= replace_services(&mut self.config.observed.services, services),
            }
        }
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
        for (backend, reply) in clusters {
            let _ = reply.send(cluster_of(&self.resources, &self.config.observed, &self.config.options, &backend));
        }
    }

    /// Works and catches a panic; whether all went well.
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
        self.names.send_if_modified(|names| replace(names, translation.dns_names.clone()));
        self.config.metrics.control().set_hostname_conflicts(translation.hostname_conflicts);
        self.tell_statuses(&translation);
        translation.notices.fresh().iter().for_each(|notice| tracing::warn!("{notice}"));
        if let Some(observer) = &mut self.config.observer {
            observer(&translation, generation);
        }
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
                        tracing::info!(object = %object, "is well again");
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
        for notice in notices.iter().filter(|block| !before.contains(&block.as_ptr())).flat_map(|block| block.iter()) {
            if !known.contains(notice.text.as_str()) {
                tracing::warn!("{}", notice.text);
            }
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

/// What a status says no to, in one line; what is merely pending is on its way.
fn problems(object: &ObjectRef, status: &Status, options: &Options) -> Option<Message> {
    let findings = findings(object, status, options).into_iter().filter(|finding| !finding.state.ends_with("/Pending"));
    let lines: BTreeSet<String> = findings
        .map(|finding| {
            let part = finding.part.map(|part| format!("{part}: ")).unwrap_or_default();
            format!("{part}{}: {}", finding.state, finding.message)
        })
        .collect();
    (!lines.is_empty()).then(|| lines.into_iter().collect::<Vec<_>>().join("; ").into())
}

/// Takes Services in; whether any of them changed.
fn replace_services(known: &mut BTreeMap<ObjectName, ObservedService>, news: Vec<(ObjectName, Option<ObservedService>)>) -> bool {
    let mut changed = false;
    for (name, service) in news {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use serde_json::json;

    use super::*;
    use crate::api::{self, Document};
    use crate::base::Kind;
    use crate::controller::manifests::Notice;
    use crate::translate::Notices;

    fn namespace(name: &str) -> Change {
        let document = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match api::decode(document).unwrap() {
            Document::Object(object) => Change::Apply(object),
            other => panic!("{other:?}"),
        }
    }

    fn engine(translate: Translate) -> (Engine, EngineHandle, Arc<Metrics>) {
        let metrics = Metrics::new(1);
        let config = EngineConfig {
            options: Options::default(),
            published: Arc::new(Published::new(Arc::default())),
            metrics: Arc::clone(&metrics),
            observed: Observed::default(),
            observer: None,
        };
        let (mut engine, handle) = Engine::new(config);
        engine.translate = translate;
        (engine, handle, metrics)
    }

    fn changes(names: &[&str]) -> Input {
        Input::Changes { changes: names.iter().map(|name| namespace(name)).collect(), notices: Vec::new() }
    }

    /// Says how many namespaces there are; panics while one is called `bad`.
    fn fragile(resources: &Resources, _: &Observed, _: &Options, previous: Option<Translation>) -> Translation {
        let has = |name: &str| resources.contains(&ObjectRef::new(Kind::Namespace, "", name));
        assert!(!has("bad"), "as the test wants it");
        let count = ["a", "b", "c"].iter().filter(|name| has(name)).count();
        let from_scratch = previous.is_none();
        let mut translation = Translation::default();
        translation.notices = Notices::of(format!("{count} namespaces, from scratch: {from_scratch}"));
        translation
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_flood_of_changes_is_taken_in_by_the_handful() {
        static TURNS: AtomicU32 = AtomicU32::new(0);
        fn counted(resources: &Resources, observed: &Observed, options: &Options, previous: Option<Translation>) -> Translation {
            TURNS.fetch_add(1, Ordering::Relaxed);
            translate(resources, observed, options, previous)
        }
        let (engine, handle, _) = engine(counted);
        let begin = Instant::now();
        engine.start(vec![namespace("first")], Vec::new()).unwrap();
        for number in 0..100 {
            handle.send(changes(&[&format!("n{number}")]));
            handle.report(PATIENCE).await.unwrap();
        }
        // As many as the clock allows, however fast this machine is; without a pace there would be 101 at once.
        let allowed = f64::from(1 + TURNS_AT_ONCE) + f64::from(TURNS_PER_SECOND) * begin.elapsed().as_secs_f64();
        let turns = TURNS.load(Ordering::Relaxed);
        assert!(f64::from(turns) <= allowed, "{turns} turns, {allowed} allowed");
    }

    #[tokio::test]
    async fn a_panic_costs_one_translation_and_no_change() {
        let (engine, handle, metrics) = engine(fragile);
        engine.start(vec![namespace("a")], Vec::new()).unwrap();
        assert_eq!(handle.report(PATIENCE).await.unwrap().notices, ["1 namespaces, from scratch: true"]);
        handle.send(changes(&["b", "bad", "c"]));
        let report = handle.report(PATIENCE).await.unwrap();
        assert!(report.notices.is_empty(), "nothing is known after a panic, but somebody answers");
        assert_eq!(metrics.control().engine_panics(), 2, "the changed state, and from scratch");
        let delete = Change::Delete(ObjectRef::new(Kind::Namespace, "", "bad"));
        handle.send(Input::Changes { changes: vec![delete], notices: Vec::new() });
        assert_eq!(handle.report(PATIENCE).await.unwrap().notices, ["3 namespaces, from scratch: true"]);
        assert_eq!(metrics.control().engine_busy(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_hanging_engine_is_seen_and_does_not_block_who_asks() {
        static RELEASED: AtomicU32 = AtomicU32::new(0);
        let hang: Translate = |resources, _, _, _| {
            while resources.contains(&ObjectRef::new(Kind::Namespace, "", "bad")) && RELEASED.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            Translation::default()
        };
        let (engine, handle, metrics) = engine(hang);
        engine.start(Vec::new(), Vec::new()).unwrap();
        handle.send(changes(&["bad"]));
        assert!(handle.report(Duration::from_millis(20)).await.is_none());
        assert!(metrics.control().engine_busy() > Duration::ZERO);
        RELEASED.store(1, Ordering::Relaxed);
        assert!(handle.report(PATIENCE).await.is_some());
    }

    #[tokio::test]
    async fn the_observer_is_told_after_publication() {
        let (mut engine, handle, _metrics) = engine(translate);
        let (sender, told) = mpsc::channel();
        let published = Arc::clone(&engine.config.published);
        let observer: Observer = Box::new(move |_, generation| {
            let _ = sender.send((generation, published.load().generation));
        });
        engine.config.observer = Some(observer);
        engine.start(vec![namespace("a")], vec![[Notice { refused: false, text: "said by the source".into() }].into()]).unwrap();
        let (generation, current) = told.recv_timeout(PATIENCE).unwrap();
        assert_eq!(generation, current);
        assert_eq!(handle.report(PATIENCE).await.unwrap().notices, ["said by the source"]);
    }
}
