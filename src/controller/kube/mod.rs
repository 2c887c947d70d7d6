//! The cluster: watches in, statuses, ports and Services out. The only user of `kube`.
//!
//! What was sent on and what is to be written lives outside the tasks, so that a task that panics is started again without losing either.

mod client;
mod discovery;
mod gate;
mod infrastructure;
mod intake;
mod lease;
mod object;
mod secrets;
mod services;
mod status;
mod watch;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Api, Client};
use tokio::{sync::watch as channel, task::JoinSet};

use crate::base::{Backoff, Kind, ObjectName};
use crate::telemetry::Metrics;
use crate::translate::{Translation, infrastructure::InfrastructureOptions};

pub use client::{ConnectError, connect};
pub use gate::{ClusterNews, Sink};

use client::call;
use gate::{First, Gate};
use infrastructure::{Ground, InfrastructureSettings, write_infrastructure};
use intake::Intake;
use lease::{LeaseSettings, compete};
use secrets::{Secrets, poll_secrets};
use status::{StatusBoard, StatusContext, write_statuses};
use watch::{Outlets, intakes, watch_kind, watch_ports, watch_secrets};

/// Waits before the controller is started again.
const RESTART_FIRST: Duration = Duration::from_secs(1);
const RESTART_MOST: Duration = Duration::from_secs(30);

/// Most time for giving the Lease up at the end.
const RELEASE_DEADLINE: Duration = Duration::from_secs(5);

/// Settings of the Kubernetes side.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Our controllerName.
    pub controller_name: Arc<str>,
    /// Name of this process in the Lease: the pod's.
    pub identity: Box<str>,
    /// Values of the chart that shape Services.
    pub infrastructure: Arc<InfrastructureOptions>,
    /// Namespaces whose Secrets may be listed and watched.
    pub secret_namespaces: Vec<Box<str>>,
}

/// What translation wants of the cluster, and what is bound: written by the engine and by whoever follows the workers.
#[derive(Clone, Debug)]
pub struct Outbox {
    board: Arc<StatusBoard>,
    ground: Arc<Ground>,
    secrets: Arc<channel::Sender<BTreeSet<ObjectName>>>,
}

/// The Kubernetes side of one process.
pub struct Cluster {
    client: Client,
    settings: ClusterSettings,
    metrics: Arc<Metrics>,
    outbox: Outbox,
    gate: Arc<Gate>,
    intakes: Vec<(Kind, Arc<Mutex<Intake>>)>,
    secrets: Arc<Secrets>,
    leader: channel::Sender<bool>,
}

// === impl Outbox ===

impl Default for Outbox {
    fn default() -> Self {
        Self { board: Arc::default(), ground: Arc::default(), secrets: Arc::new(channel::Sender::new(BTreeSet::new())) }
    }
}

impl Outbox {
    /// A translation was published under this generation.
    pub fn translated(&self, translation: &Translation, generation: u64) {
        let changed = translation.changed_statuses.iter();
        let statuses = changed.map(|object| (object.clone(), translation.statuses.get(object).cloned())).collect();
        self.board.desire(generation, statuses);
        self.ground.desire(&translation.infrastructure);
        self.secrets.send_if_modified(|wanted| {
            let differs = *wanted != translation.secret_names;
            if differs {
                wanted.clone_from(&translation.secret_names);
            }
            differs
        });
    }

    /// All workers have bound this generation: its statuses may be told.
    pub fn bound(&self, generation: u64) {
        self.board.bind(generation);
    }
}

// === impl Cluster ===

impl Cluster {
    /// The Kubernetes side; nothing happens before `run`. `sink` takes what comes from the cluster.
    pub fn new(client: Client, settings: ClusterSettings, metrics: Arc<Metrics>, outbox: Outbox, sink: Sink) -> Self {
        let intakes = intakes(&settings.infrastructure);
        let firsts = intakes.iter().map(|(kind, _)| First::Kind(*kind)).chain([First::Ports]);
        let gate = Arc::new(Gate::new(sink, firsts));
        let secrets = Arc::new(Secrets::new(Arc::clone(&gate)));
        Self { client, settings, metrics, outbox, gate, intakes, secrets, leader: channel::Sender::new(false) }
    }

    /// Becomes true once, when every first list is in and was handed to the sink.
    pub fn listed(&self) -> channel::Receiver<bool> {
        self.gate.is_open()
    }

    /// Works until `stop` becomes true, then gives the Lease up. Whatever panics is started again: the data plane serves on meanwhile.
    pub async fn run(&self, mut stop: channel::Receiver<bool>) {
        let mut backoff = Backoff::new(RESTART_FIRST, RESTART_MOST);
        while !*stop.borrow() {
            let mut tasks = self.spawn(&stop);
            let ended = tokio::select! {
                ended = tasks.join_next() => ended,
                () = stopped(&mut stop) => return self.end(tasks).await,
            };
            tasks.shutdown().await;
            let why = match ended {
                Some(Err(error)) => error.to_string(),
                _ => "a task ended".to_owned(),
            };
            self.metrics.cluster().controller_restarted();
            tracing::error!(why, "the controller is started again, the last snapshot keeps serving; please report this");
            tokio::time::sleep(backoff.next_wait(fastrand::f64())).await;
        }
    }

    /// The Lease is given up, all else just ends.
    async fn end(&self, mut tasks: JoinSet<Role>) {
        let released = async {
            while let Some(ended) = tasks.join_next().await {
                if matches!(ended, Ok(Role::Lease)) {
                    return;
                }
            }
        };
        if tokio::time::timeout(RELEASE_DEADLINE, released).await.is_err() {
            tracing::warn!("the Lease could not be given up in time; it will expire");
        }
        tasks.shutdown().await;
    }

    fn spawn(&self, stop: &channel::Receiver<bool>) -> JoinSet<Role> {
        let mut tasks = JoinSet::new();
        let outlets = Outlets {
            gate: Arc::clone(&self.gate),
            board: Arc::clone(&self.outbox.board),
            ground: Arc::clone(&self.outbox.ground),
            options: Arc::clone(&self.settings.infrastructure),
        };
        let life = |kind: &str| self.metrics.cluster().watch(kind);
        for (kind, intake) in &self.intakes {
            let watch = watch_kind(self.client.clone(), *kind, Arc::clone(intake), life(kind.as_str()), outlets.clone());
            tasks.spawn(reader(watch));
        }
        tasks.spawn(reader(watch_ports(self.client.clone(), life("ConfigMap"), outlets)));
        self.secrets.forget_contents();
        tasks.spawn(reader(poll_secrets(self.client.clone(), Arc::clone(&self.secrets), self.outbox.secrets.subscribe())));
        for namespace in &self.settings.secret_namespaces {
            tasks.spawn(reader(watch_secrets(self.client.clone(), namespace.clone(), life("Secret"), Arc::clone(&self.secrets))));
        }
        tasks.spawn(reader(beat(Arc::clone(&self.metrics))));
        self.spawn_writers(&mut tasks, stop.clone());
        tasks
    }

    fn spawn_writers(&self, tasks: &mut JoinSet<Role>, stop: channel::Receiver<bool>) {
        let (client, settings, metrics) = (self.client.clone(), self.settings.clone(), Arc::clone(&self.metrics));
        let context = StatusContext { controller_name: Arc::clone(&settings.controller_name), metrics: Arc::clone(&metrics) };
        let statuses = write_statuses(client.clone(), Arc::clone(&self.outbox.board), self.leader.subscribe(), context);
        tasks.spawn(reader(statuses));
        let (ground, leader) = (Arc::clone(&self.outbox.ground), self.leader.clone());
        tasks.spawn(async move {
            let mut ends = stop.clone();
            let owner = tokio::select! {
                owner = owner(&client, &settings.infrastructure) => owner,
                () = stopped(&mut ends) => return Role::Lease,
            };
            let lease = LeaseSettings {
                namespace: settings.infrastructure.install_namespace.clone(),
                name: settings.infrastructure.deployment.clone(),
                identity: settings.identity.clone(),
                owner: owner.clone(),
            };
            let infrastructure = InfrastructureSettings { options: Arc::clone(&settings.infrastructure), owner };
            let writing = write_infrastructure(client.clone(), ground, leader.subscribe(), infrastructure);
            tokio::select! {
                () = compete(client, lease, leader, stop, metrics) => {}
                () = writing => {}
            }
            Role::Lease
        });
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("settings", &self.settings).finish_non_exhaustive()
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

/// The chart's Deployment as owner of what is written into the install namespace; `None` where there is none (outside a pod).
async fn owner(client: &Client, options: &InfrastructureOptions) -> Option<OwnerReference> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &options.install_namespace);
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    loop {
        match call(api.get_opt(&options.deployment)).await {
            Ok(Some(deployment)) => {
                return Some(OwnerReference {
                    api_version: "apps/v1".into(),
                    kind: "Deployment".into(),
                    name: options.deployment.to_string(),
                    uid: deployment.metadata.uid.unwrap_or_default(),
                    ..OwnerReference::default()
                });
            }
            Ok(None) => {
                tracing::warn!(
                    "there is no Deployment {}/{}: what is written into the cluster has no owner and stays when the release is deleted",
                    options.install_namespace,
                    options.deployment
                );
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "the Deployment {}/{} cannot be read; it is tried again", options.install_namespace, options.deployment);
                tokio::time::sleep(backoff.next_wait(fastrand::f64())).await;
            }
        }
    }
}
