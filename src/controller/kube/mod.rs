//! The cluster: reads it by watches, and writes statuses, ports and Services. The only user of the crate `kube`.
//!
//! The state of the watches and of the writers lives outside their tasks, so that a task that panics can be started again and loses
//! nothing.

mod affinity_keys;
mod agreement;
mod class_finalizer;
mod client;
mod config_map;
mod contests;
mod crds;
mod discovery;
mod gate;
mod infrastructure;
mod installs;
mod intake;
mod last_good;
mod lease;
mod nodes;
mod object;
mod outage;
mod pace;
mod pulse;
mod referred;
mod release;
mod services;
mod slots;
mod status;
mod survey;
mod watch;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Api, Client};
use tokio::{sync::watch as channel, task::JoinSet, time::Instant};

use crate::base::{Backoff, Kind, ObjectName, ObjectRef, Published, TableDigests, TokenBucket};
use crate::telemetry::Metrics;
use crate::translate::{Translation, infrastructure::InfrastructureOptions};

pub use agreement::Replicas;
pub use client::ConnectError;
pub use crds::{CrdApplyError, CrdTurn, apply_crds};
pub use gate::{ClusterEvent, Sink};
pub use release::{ReleaseError, ReleaseSettings, Released, release_install};
pub use survey::{SurveyError, survey};

use super::moves::Moved;
use affinity_keys::follow_keys;
use agreement::compare_replicas;
use client::{call, chain, connect};
use discovery::{Discovery, follow_version};
use gate::{First, Gate};
use infrastructure::{InfrastructureSettings, InfrastructureState, write_infrastructure};
use installs::{OwnInstall, follow_installs};
use intake::Intake;
use last_good::{LastGoodState, write_last_good};
use lease::{LeaseSettings, compete};
use outage::Outage;
use pace::Pace;
use pulse::{Pulse, feel};
use referred::{Referred, poll_referred};
use release::release_at_end;
use slots::{SlotsState, write_slots};
use status::{EVENTS_BURST, EVENTS_PER_SECOND, SharedMoves, SharedStatusQueue, StatusContext, write_moves, write_statuses};
use watch::{Outlets, intakes, watch_kind, watch_last_good, watch_nodes, watch_ports, watch_secrets};

/// Waits before the controller is started again.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MOST: Duration = Duration::from_secs(30);

/// Most time for giving the Lease up at the end.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// Most of that for taking back what was said, where the install is being deleted.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(3);

/// Settings of the Kubernetes side.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Our controllerName.
    pub controller_name: Arc<str>,
    /// Our keys in the statuses of Gloo's kinds: that of now, and that with the Gloo switch turned.
    pub status_keys: Vec<Box<str>>,
    /// Name of this process in the Lease: the pod's.
    pub identity: Box<str>,
    /// Values of the chart that shape Services.
    pub infrastructure: Arc<InfrastructureOptions>,
    /// Namespaces whose Secrets may be listed and watched.
    pub secret_namespaces: Vec<Box<str>>,
    /// Nodes may be listed and watched.
    pub node_addresses: bool,
    /// Where the replicas are.
    pub replicas: Replicas,
    /// The digests of the tables of this one.
    pub digests: Arc<Published<TableDigests>>,
}

/// What translation wants of the cluster, and which generation is bound. The engine writes the first, and the task that follows the workers
/// the second.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: Arc<SharedStatusQueue>,
    moves: Arc<SharedMoves>,
    infrastructure_state: Arc<InfrastructureState>,
    last_good: Arc<LastGoodState>,
    slots: Arc<SlotsState>,
    referred: Arc<channel::Sender<BTreeSet<ObjectRef>>>,
}

/// The Kubernetes side of this process: a thread of its own. Dropping it changes nothing; the thread ends with the process.
#[derive(Debug)]
pub struct ClusterHandle {
    listed: channel::Receiver<bool>,
    stop: channel::Sender<bool>,
    released: channel::Receiver<bool>,
}

/// The Kubernetes side cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No API server is known.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The thread or its runtime cannot be started.
    #[error("the controller cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

struct Cluster {
    client: Client,
    settings: ClusterSettings,
    metrics: Arc<Metrics>,
    outbox: Outbox,
    gate: Arc<Gate>,
    pace: Arc<Pace>,
    intakes: Vec<(Kind, Arc<Mutex<Intake>>)>,
    referred: Arc<Referred>,
    outage: Arc<Outage>,
    pulse: Arc<Pulse>,
    leader: channel::Sender<bool>,
    released: channel::Sender<bool>,
}

/// Starts the Kubernetes side on a thread of its own; `sink` takes what comes from the cluster.
///
/// # Errors
/// No API server is known, or the thread cannot be started. One that does not answer is no error.
pub fn start_cluster(settings: ClusterSettings, metrics: Arc<Metrics>, outbox: Outbox, sink: Sink) -> Result<ClusterHandle, ClusterError> {
    let intakes = intakes();
    let firsts = intakes.iter().map(|(kind, _)| First::Kind(*kind)).chain([
        First::Ports,
        First::GatewayApiVersion,
        First::LastGood,
        First::AffinityKeys,
    ]);
    let firsts = firsts.chain(settings.node_addresses.then_some(First::Nodes));
    let gate = Arc::new(Gate::new(sink, firsts));
    let (stop, stopping) = channel::channel(false);
    let released = channel::Sender::new(false);
    let handle = ClusterHandle { listed: gate.is_open(), stop, released: released.subscribe() };
    // The client lives on the runtime on which it was made.
    let pace = Arc::new(Pace::default());
    let runtime = Arc::clone(&pace).runtime()?;
    let (connected, is_connected) = std::sync::mpsc::channel();
    let work = move || {
        runtime.block_on(async move {
            let client = match connect().await {
                Ok(client) => client,
                Err(error) => return drop(connected.send(Err(error))),
            };
            let _ = connected.send(Ok(()));
            let referred = Arc::new(Referred::new(Arc::clone(&gate)));
            let leader = channel::Sender::new(false);
            let pulse = Arc::<Pulse>::default();
            let client = pulse.attend(&client);
            Cluster { client, settings, metrics, outbox, gate, pace, intakes, referred, outage: Arc::default(), pulse, leader, released }
                .run(stopping)
                .await;
        });
    };
    std::thread::Builder::new().name("controller".into()).spawn(work)?;
    is_connected.recv().map_err(std::io::Error::other)??;
    Ok(handle)
}

// === impl Outbox ===

impl Default for Outbox {
    fn default() -> Self {
        Self {
            queue: Arc::default(),
            moves: Arc::default(),
            infrastructure_state: Arc::default(),
            last_good: Arc::default(),
            slots: Arc::default(),
            referred: Arc::new(channel::Sender::new(BTreeSet::new())),
        }
    }
}

impl Outbox {
    /// A translation was published under this generation.
    pub fn translated(&self, translation: &Translation, generation: u64) {
        let changed = translation.changed_statuses.iter();
        let statuses = changed.map(|object| (object.clone(), translation.statuses.get(object).cloned())).collect();
        self.queue.desire(generation, statuses);
        self.infrastructure_state.desire(&translation.infrastructure);
        self.last_good.desire(&translation.last_good);
        self.slots.desire(&translation.slots);
        self.referred.send_if_modified(|wanted| {
            let differs = *wanted != translation.wanted;
            if differs {
                wanted.clone_from(&translation.wanted);
            }
            differs
        });
    }

    /// Sessions moved.
    pub fn moved(&self, moved: Moved) {
        self.moves.push(moved);
    }

    /// All workers have bound this generation: its statuses may be told.
    pub fn bound(&self, generation: u64) {
        self.queue.bind(generation);
    }

    /// This generation is made of every first list, and is bound: from now on the leader writes, and what translation does not want is
    /// not wanted.
    pub fn complete(&self, generation: u64) {
        self.queue.bind(generation);
        self.queue.arm();
        self.infrastructure_state.arm();
        self.last_good.arm();
        self.slots.arm();
    }
}

// === impl ClusterHandle ===

impl ClusterHandle {
    /// Becomes true once, when every first list is in and was handed to the sink.
    pub fn listed(&self) -> channel::Receiver<bool> {
        self.listed.clone()
    }

    /// Gives the Lease up, so that another process leads at once; watching goes on, since what is in flight must still reach its pods.
    pub async fn release(&mut self) {
        self.stop.send_replace(true);
        let released = self.released.wait_for(|released| *released);
        if !matches!(tokio::time::timeout(RELEASE_DEADLINE, released).await, Ok(Ok(_))) {
            tracing::warn!("the Lease could not be given up in time; it will expire");
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Never ends. A task that panics is started again, and the data plane serves meanwhile.
    async fn run(self, stop: channel::Receiver<bool>) {
        let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MOST);
        loop {
            let mut tasks = self.spawn(&stop);
            let why = loop {
                match tasks.join_next().await {
                    Some(Ok(Role::Lease)) if *stop.borrow() => drop(self.released.send_replace(true)),
                    Some(Err(error)) => break error.to_string(),
                    Some(Ok(_)) | None => break "a task ended".to_owned(),
                }
            };
            tasks.shutdown().await;
            self.leader.send_replace(false);
            self.metrics.cluster().controller_restarted();
            tracing::error!(why, "the controller is started again, the last snapshot keeps serving; please report this");
            tokio::time::sleep(backoff.next_wait(fastrand::f64())).await;
        }
    }

    fn spawn(&self, stop: &channel::Receiver<bool>) -> JoinSet<Role> {
        let mut tasks = JoinSet::new();
        let outlets = Outlets {
            gate: Arc::clone(&self.gate),
            pace: Arc::clone(&self.pace),
            queue: Arc::clone(&self.outbox.queue),
            infrastructure_state: Arc::clone(&self.outbox.infrastructure_state),
            last_good: Arc::clone(&self.outbox.last_good),
            outage: Arc::clone(&self.outage),
            pulse: Arc::clone(&self.pulse),
            discovery: Arc::new(Discovery::new(self.client.clone())),
            options: Arc::clone(&self.settings.infrastructure),
        };
        let life = |kind: &str| self.metrics.cluster().watch(kind);
        for (kind, intake) in &self.intakes {
            let watch = watch_kind(self.client.clone(), *kind, Arc::clone(intake), life(kind.as_str()), outlets.clone());
            tasks.spawn(reader(watch));
        }
        tasks.spawn(reader(watch_ports(self.client.clone(), life("ConfigMap"), outlets.clone())));
        if self.settings.node_addresses {
            tasks.spawn(reader(watch_nodes(self.client.clone(), life("Node"), outlets.clone())));
        }
        tasks.spawn(reader(watch_last_good(self.client.clone(), life("ConfigMap last-good"), outlets)));
        let keys = &self.settings.infrastructure;
        let keys = ObjectName::new(keys.install_namespace.clone(), format!("{}-affinity-keys", keys.instance));
        tasks.spawn(reader(follow_keys(self.client.clone(), Arc::clone(&self.gate), keys)));
        tasks.spawn(reader(follow_version(self.client.clone(), Arc::clone(&self.gate))));
        tasks.spawn(reader(feel(self.client.clone(), Arc::clone(&self.pulse))));
        self.referred.forget_contents();
        let watched = self.settings.secret_namespaces.clone();
        tasks.spawn(reader(poll_referred(self.client.clone(), Arc::clone(&self.referred), watched, self.outbox.referred.subscribe())));
        for namespace in &self.settings.secret_namespaces {
            tasks.spawn(reader(watch_secrets(
                self.client.clone(),
                namespace.clone(),
                life("Secret"),
                Arc::clone(&self.referred),
                Arc::clone(&self.outage),
                Arc::clone(&self.pulse),
            )));
        }
        tasks.spawn(reader(beat(Arc::clone(&self.metrics))));
        self.spawn_writers(&mut tasks, stop.clone());
        tasks
    }

    fn spawn_writers(&self, tasks: &mut JoinSet<Role>, stop: channel::Receiver<bool>) {
        let (client, settings, metrics) = (self.client.clone(), self.settings.clone(), Arc::clone(&self.metrics));
        let context = StatusContext {
            controller_name: Arc::clone(&settings.controller_name),
            identity: settings.identity.clone().into(),
            events: Arc::new(Mutex::new(TokenBucket::new(EVENTS_BURST, EVENTS_PER_SECOND, Instant::now()))),
            metrics: Arc::clone(&metrics),
        };
        tasks.spawn(reader(write_moves(client.clone(), Arc::clone(&self.outbox.moves), self.leader.subscribe(), context.clone())));
        let (replicas, digests) = (settings.replicas.clone(), Arc::clone(&settings.digests));
        let compared = compare_replicas(replicas, digests, self.leader.subscribe(), Arc::clone(&self.gate), Arc::clone(&metrics));
        tasks.spawn(reader(compared));
        let statuses = write_statuses(client.clone(), Arc::clone(&self.outbox.queue), self.leader.subscribe(), context);
        tasks.spawn(reader(statuses));
        let (slots, gate) = (Arc::clone(&self.outbox.slots), Arc::clone(&self.gate));
        tasks.spawn(reader(write_slots(client.clone(), slots, self.leader.subscribe(), gate, Arc::clone(&metrics))));
        let (infrastructure_state, leader) = (Arc::clone(&self.outbox.infrastructure_state), self.leader.clone());
        let last_good = Arc::clone(&self.outbox.last_good);
        let (gate, outage) = (Arc::clone(&self.gate), Arc::clone(&self.outage));
        tasks.spawn(async move {
            let mut ends = stop.clone();
            let (owner, installed) = tokio::select! {
                owner = owner(&client, &settings.infrastructure) => owner,
                () = stopped(&mut ends) => return Role::Lease,
            };
            let install =
                OwnInstall { controller_name: Arc::clone(&settings.controller_name), name: settings.infrastructure.install(), installed };
            let (holder, at_end) = (channel::Sender::new(false), leader.clone());
            let following = follow_installs(client.clone(), install.clone(), holder.subscribe(), leader.clone(), Arc::clone(&metrics));
            let release = ReleaseSettings {
                controller_name: Arc::clone(&settings.controller_name),
                status_keys: settings.status_keys.clone(),
                infrastructure: Arc::clone(&settings.infrastructure),
                deadline: FAREWELL_DEADLINE,
            };
            let (is_owned, goodbye) = (owner.is_some(), client.clone());
            let farewell = async move {
                if is_owned {
                    release_at_end(goodbye, &release).await;
                }
            };
            let lease = LeaseSettings {
                namespace: settings.infrastructure.install_namespace.clone(),
                name: settings.infrastructure.instance.clone(),
                identity: settings.identity.clone(),
                owner: owner.clone(),
                install,
                outage,
            };
            let keeping =
                write_last_good(client.clone(), last_good, leader.subscribe(), Arc::clone(&settings.infrastructure), owner.clone());
            let infrastructure = InfrastructureSettings { options: Arc::clone(&settings.infrastructure), owner };
            let writing =
                write_infrastructure(client.clone(), infrastructure_state, leader.subscribe(), infrastructure, gate, Arc::clone(&metrics));
            tokio::select! {
                () = compete(client, lease, holder, stop, farewell) => {}
                () = following => {}
                () = writing => {}
                () = keeping => {}
            }
            at_end.send_replace(false);
            Role::Lease
        });
    }
}

/// What a task was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Lease,
    Other,
}

async fn reader(work: impl Future<Output = ()>) -> Role {
    work.await;
    Role::Other
}

/// Until the process is told to end.
async fn stopped(stop: &mut channel::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells that the controller's loop turns.
async fn beat(metrics: Arc<Metrics>) {
    loop {
        metrics.cluster().controller_beats();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The chart's ConfigMap as owner of what is written into the install namespace, and when it was made; `None` where there is none (outside a
/// pod).
async fn owner(client: &Client, options: &InfrastructureOptions) -> (Option<OwnerReference>, Option<jiff::Timestamp>) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &options.install_namespace);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    let (namespace, name) = (&options.install_namespace, &options.owner);
    loop {
        match call(api.get_opt(name)).await {
            Ok(Some(map)) => {
                let owner = OwnerReference {
                    api_version: "v1".into(),
                    kind: "ConfigMap".into(),
                    name: name.to_string(),
                    uid: map.metadata.uid.unwrap_or_default(),
                    ..OwnerReference::default()
                };
                return (Some(owner), map.metadata.creation_timestamp.map(|time| time.0));
            }
            Ok(None) => {
                tracing::warn!(
                    "there is no ConfigMap {namespace}/{name}: what is written into the cluster has no owner and stays when the release is deleted"
                );
                return (None, None);
            }
            Err(error) => {
                tracing::warn!(error = &*chain(&error), "the ConfigMap {namespace}/{name} cannot be read; it is tried again");
                tokio::time::sleep(backoff.next_wait(fastrand::f64())).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
