//! A gateway from its first snapshot to its last request.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::admin::{self, Admin, Scope, Sources, StatusReport};
use crate::base::{Published, Readiness, ReadinessGuard, ReadinessState, TableDigests};
use crate::controller::{
    Clock, Directory, Engine, EngineConfig, EngineHandle, Input, Observer, SlotKeeper, StateDirectory, StateError, Update, resolve_names,
};
use crate::proxy::Bound;
use crate::settings::Settings;
use crate::snapshot::{Observed, Snapshot};
use crate::telemetry::{Logging, Metrics};
use crate::translate::Options;

use super::{affinity_keys, data_plane::DataPlane, descriptors::descriptor_budget, error::AppError, source::observed};

/// Time that `/config` waits for the engine.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);

/// Where a gateway's resources come from.
#[derive(Debug)]
pub enum Resources {
    /// A directory that is followed.
    Directory(PathBuf),
    /// Manifests that never change.
    Fixed(Update),
}

/// A gateway that serves. Dropping it ends it without a drain.
#[derive(Debug)]
pub struct App {
    admin: Admin,
    metrics: Arc<Metrics>,
    published: Arc<Published<Snapshot>>,
    readiness: Readiness,
    engine: EngineHandle,
    data_plane: DataPlane,
    _directory: Option<Directory>,
}

// === impl App ===

impl App {
    /// Starts everything; must be called on a tokio runtime, which the caller keeps turning. Returns once the first snapshot is published and
    /// the workers are on their way to bind it: `ready` waits for them. `logging`: the log that the admin server may change.
    ///
    /// # Errors
    /// The directory cannot be read, the admin address cannot be bound, or a thread cannot be started.
    pub fn start(settings: &Settings, options: Options, resources: Resources, logging: Option<Logging>) -> Result<Self, AppError> {
        let metrics = Metrics::new(settings.workers);
        let budget = descriptor_budget(settings.workers, &metrics)?;
        let published = Arc::new(Published::new(Arc::new(Snapshot::default())));
        let readiness = Readiness::new();
        let guard = readiness.guard("the workers to bind the first snapshot");
        let state = open_state(settings, &resources)?;
        let digests = Arc::new(Published::new(Arc::default()));
        let config = EngineConfig {
            options,
            published: Arc::clone(&published),
            metrics: Arc::clone(&metrics),
            observed: Observed { affinity_keys: affinity_keys::keys(settings)?, ..observed() },
            clock: Clock::default(),
            slots: Some(slot_keeper(state.as_ref())),
            observer: state.as_ref().map(observer),
            digests: Arc::clone(&digests),
            moved: None,
        };
        let (mut engine, handle) = Engine::new(config);
        // The admin server first: an address that is taken is the likeliest error.
        let admin = admin::start(
            settings.admin,
            Scope::Everything,
            sources(&metrics, &readiness, &published, &digests, &handle, logging),
            budget.admin,
        )?;
        let (directory, first, unread) = open(resources, state.as_deref(), &metrics, &handle)?;
        if let Some(state) = &state {
            engine.restore(state.kept().clone());
            engine.restore_slots(state.slots());
        }
        let files = first.unread.then(|| readiness.guard("files of manifests that could not be read yet"));
        engine.start(first.changes, first.notices)?;
        let data_plane = DataPlane::start(settings, budget, &published, &metrics)?;
        let first_generation = published.load().generation;
        tokio::spawn(report_sockets(data_plane.bound(), handle.clone(), first_generation, guard));
        if let Some(guard) = files {
            tokio::spawn(wait_for_files(unread, data_plane.bound(), handle.clone(), state, guard));
        } else if let Some(state) = state {
            everything_was_seen(&state, &handle);
        }
        tokio::spawn(resolve_names(handle.clone()));
        Ok(Self { admin, metrics, published, readiness, engine: handle, data_plane, _directory: directory })
    }

    /// Address of the admin server.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// What the workers listen on.
    pub fn bound(&self) -> watch::Receiver<Bound> {
        self.data_plane.bound()
    }

    /// What is served.
    pub fn published(&self) -> &Arc<Published<Snapshot>> {
        &self.published
    }

    /// All counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Waits until the first snapshot is bound.
    pub async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.readiness.watch().wait_for(|state| *state == ReadinessState::Ready).await;
    }

    /// Ends without losing what is in flight; whether everything was finished in time.
    pub async fn drain(self) -> bool {
        self.readiness.drain();
        self.data_plane.drain().await
    }
}

/// What is followed, its first state, and whether something of it could not be read so far.
type Opened = (Option<Directory>, Update, watch::Receiver<bool>);

/// The state directory, where there is one.
fn open_state(settings: &Settings, resources: &Resources) -> Result<Option<Arc<StateDirectory>>, StateError> {
    match (&settings.state_directory, resources) {
        (Some(path), Resources::Directory(manifests)) => Ok(Some(Arc::new(StateDirectory::open(path, manifests)?))),
        _ => Ok(None),
    }
}

/// There is no other process: the maps of slots are made here, and kept where anything is.
fn slot_keeper(state: Option<&Arc<StateDirectory>>) -> SlotKeeper {
    let state = state.cloned();
    Box::new(move |write| state.iter().for_each(|state| state.keep_slots(write)))
}

fn observer(state: &Arc<StateDirectory>) -> Observer {
    let state = Arc::clone(state);
    Box::new(move |translation, _| state.desire(translation))
}

fn open(resources: Resources, state: Option<&StateDirectory>, metrics: &Arc<Metrics>, engine: &EngineHandle) -> Result<Opened, AppError> {
    let (still_unread, unread) = watch::channel(true);
    match resources {
        Resources::Fixed(update) => Ok((None, update, unread)),
        Resources::Directory(path) => {
            let engine = engine.clone();
            let sink = move |update: Update| {
                engine.send(Input::Changes { changes: update.changes, notices: update.notices });
                still_unread.send_replace(update.unread);
            };
            let (directory, first) = Directory::follow(&path, state.map(StateDirectory::kept), metrics, sink)?;
            Ok((Some(directory), first, unread))
        }
    }
}

/// What an earlier process kept and nobody needed by now is of objects that are gone.
fn everything_was_seen(state: &StateDirectory, engine: &EngineHandle) {
    state.arm();
    engine.send(Input::ForgetLastGood);
}

/// Holds readiness back until every file was read once, and the snapshot made of them is bound: who is sent traffic before answers 404 for
/// what he does not know yet.
async fn wait_for_files(
    mut unread: watch::Receiver<bool>,
    mut bound: watch::Receiver<Bound>,
    engine: EngineHandle,
    state: Option<Arc<StateDirectory>>,
    guard: ReadinessGuard,
) {
    if unread.wait_for(|unread| !unread).await.is_err() {
        return std::future::pending().await;
    }
    // The engine answers in order: after what was read.
    let generation = loop {
        if let Some(report) = engine.report(REPORT_PATIENCE).await {
            break report.generation;
        }
    };
    if let Some(state) = state {
        everything_was_seen(&state, &engine);
    }
    if bound.wait_for(|bound| bound.generation() >= generation).await.is_ok() {
        drop(guard);
    }
}

pub(super) fn sources(
    metrics: &Arc<Metrics>,
    readiness: &Readiness,
    published: &Arc<Published<Snapshot>>,
    digests: &Arc<Published<TableDigests>>,
    engine: &EngineHandle,
    logging: Option<Logging>,
) -> Sources {
    let (engine, of_backend) = (engine.clone(), engine.clone());
    Sources {
        metrics: Arc::clone(metrics),
        readiness: readiness.clone(),
        published: Arc::clone(published),
        digests: Arc::clone(digests),
        statuses: Arc::new(move || {
            let engine = engine.clone();
            Box::pin(async move {
                // What takes longer is shown as it is: being prepared.
                let report = match engine.report(REPORT_PATIENCE / 2).await {
                    Some(report) => report,
                    None => engine.state(REPORT_PATIENCE / 2).await?,
                };
                let crate::controller::Report { generation, snapshot, statuses, notices } = report;
                Some(StatusReport { generation, snapshot, statuses, notices })
            })
        }),
        clusters: Arc::new(move |backend| {
            let engine = of_backend.clone();
            Box::pin(async move { engine.cluster(backend, REPORT_PATIENCE).await })
        }),
        logging,
    }
}

/// Tells the engine what became of sockets, and readiness when the first snapshot is bound.
async fn report_sockets(mut bound: watch::Receiver<Bound>, engine: EngineHandle, first_generation: u64, guard: ReadinessGuard) {
    let mut guard = Some(guard);
    let mut told = std::collections::BTreeMap::new();
    loop {
        let (states, generation) = {
            let bound = bound.borrow_and_update();
            (bound.states(), bound.generation())
        };
        if states != told {
            told.clone_from(&states);
            engine.send(Input::Bound(states));
        }
        if generation >= first_generation {
            guard.take();
        }
        if bound.changed().await.is_err() {
            return;
        }
    }
}
