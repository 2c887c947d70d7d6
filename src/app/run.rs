//! `clingfish run`: a gateway that is fed by a cluster.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::admin::{self, Admin, Scope};
use crate::base::{Published, Readiness, ReadinessGuard};
use crate::cli::RunArgs;
use crate::controller::{
    Clock, ClusterError, ClusterEvent, ClusterHandle, ClusterSettings, Engine, EngineConfig, EngineHandle, Input, Outbox, Replicas,
    resolve_names, start_cluster,
};
use crate::proxy::Bound;
use crate::settings::{IpFamilyPolicy, RunSettings, ServiceType, TrafficPolicy};
use crate::snapshot::Snapshot;
use crate::telemetry::{Logging, Metrics, init_logging};
use crate::translate::{
    AssumedClasses, Options,
    infrastructure::{self, InfrastructureOptions},
    status_key,
};

use super::{
    data_plane::DataPlane,
    descriptors::descriptor_budget,
    error::{AppError, CommandError},
    serve::sources,
    serving::control_runtime,
    shutdown,
    source::{cross_namespace, observed, with_client, with_tenants},
};

/// Most time for an answer of the engine.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);

/// A gateway in a cluster.
struct InCluster {
    cluster: ClusterHandle,
    readiness: Readiness,
    data_plane: DataPlane,
    /// The port that others reach, and the one on loopback.
    admin: [Admin; 2],
}

/// Serves until a signal, then gives the Lease up and drains.
pub(super) fn run(arguments: RunArgs) -> Result<(), CommandError> {
    let settings = arguments.settings()?;
    let logging = init_logging(settings.serve.log_format, &settings.serve.log_filter)?;
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let gateway = InCluster::start(&settings, logging)?;
        let [public, local] = &gateway.admin;
        tracing::info!(
            admin = %public.address(),
            admin_local = %local.address(),
            workers = settings.serve.workers,
            controller = &*settings.controller_name,
            identity = &*settings.identity,
            "clingfish {}",
            env!("CARGO_PKG_VERSION")
        );
        let signal = shutdown::signal().await?;
        tracing::info!("{signal}: draining");
        if gateway.drain().await {
            tracing::info!("drained");
        } else {
            tracing::warn!("what was still in flight was cut off; --drain-max is the limit");
        }
        Ok(())
    })
}

// === impl InCluster ===

impl InCluster {
    fn start(settings: &RunSettings, logging: Logging) -> Result<Self, CommandError> {
        let serve = &settings.serve;
        let metrics = Metrics::new(serve.workers);
        let budget = descriptor_budget(serve.workers, &metrics).map_err(AppError::from)?;
        let published = Arc::new(Published::new(Arc::new(Snapshot::default())));
        let readiness = Readiness::new();
        let guards = [readiness.guard("the cluster's first lists"), readiness.guard("the workers to bind the first snapshot")];
        let values = Arc::new(values(settings));
        let outbox = Outbox::default();
        let digests = Arc::new(Published::new(Arc::default()));
        let (observer, teller) = (outbox.clone(), outbox.clone());
        let (engine, handle) = Engine::new(EngineConfig {
            options: options(settings, &values),
            published: Arc::clone(&published),
            metrics: Arc::clone(&metrics),
            observed: observed(),
            clock: Clock::default(),
            slots: None,
            observer: Some(Box::new(move |translation, generation| observer.translated(translation, generation))),
            digests: Arc::clone(&digests),
            moved: Some(Box::new(move |moved| teller.moved(moved))),
        });
        let sources = sources(&metrics, &readiness, &published, &digests, &handle, Some(logging));
        let admin = [
            admin::start(serve.admin, Scope::Public, sources.clone(), budget.admin)?,
            admin::start(settings.admin_local, Scope::Everything, sources, budget.admin)?,
        ];
        engine.start(Vec::new(), Vec::new())?;
        let cluster_settings = ClusterSettings {
            controller_name: (&*settings.controller_name).into(),
            status_keys: status_keys(&settings.install_namespace, &settings.controller_name),
            identity: settings.identity.clone(),
            infrastructure: values,
            secret_namespaces: settings.secret_namespaces.clone(),
            node_addresses: settings.node_addresses,
            replicas: replicas(settings),
            digests,
        };
        let cluster = start_cluster(cluster_settings, Arc::clone(&metrics), outbox.clone(), sink(handle.clone()))?;
        let data_plane = DataPlane::start(serve, budget, &published, &metrics)?;
        tokio::spawn(report_workers(data_plane.bound(), handle.clone(), outbox.clone()));
        tokio::spawn(become_ready(cluster.listed(), data_plane.bound(), handle.clone(), outbox, guards));
        tokio::spawn(resolve_names(handle));
        Ok(Self { cluster, readiness, data_plane, admin })
    }

    /// Ends without losing what is in flight; whether everything was finished in time.
    async fn drain(self) -> bool {
        self.readiness.drain();
        let Self { data_plane, mut cluster, .. } = self;
        let (finished, ()) = tokio::join!(data_plane.drain(), cluster.release());
        finished
    }
}

/// All replicas: the chart has a Service without an address for them.
fn replicas(settings: &RunSettings) -> Replicas {
    Replicas {
        // With the dot at its end no domain is searched.
        name: format!("metrics-{}.{}.svc.{}.", settings.instance_name, settings.install_namespace, settings.cluster_domain).into(),
        port: settings.serve.admin.port(),
        own: settings.pod_ips,
    }
}

/// What comes from the cluster goes to the engine.
fn sink(engine: EngineHandle) -> crate::controller::Sink {
    Box::new(move |event| {
        engine.send(match event {
            ClusterEvent::Changes(changes) => Input::Changes { changes, notices: Vec::new() },
            ClusterEvent::Ports(ports) => Input::Ports(ports),
            ClusterEvent::Services(services) => Input::Services(services),
            ClusterEvent::RefusedServices(refused) => Input::RefusedServices(refused),
            ClusterEvent::RefusedSlots(refused) => Input::RefusedSlots(refused),
            ClusterEvent::Agreement(agreement) => Input::Agreement(agreement),
            ClusterEvent::NodeAddresses(addresses) => Input::NodeAddresses(addresses),
            ClusterEvent::GatewayApiVersion(version) => Input::GatewayApiVersion(version),
            ClusterEvent::AffinityKeys(keys) => Input::AffinityKeys(keys),
            ClusterEvent::LastGood(versions) => Input::LastGood(versions),
        });
    })
}

/// Tells what the workers have bound: the engine for `Programmed`, the status writer so that no status runs ahead of them.
async fn report_workers(mut bound: watch::Receiver<Bound>, engine: EngineHandle, outbox: Outbox) {
    let mut told = std::collections::BTreeMap::new();
    loop {
        let (states, generation) = {
            let bound = bound.borrow_and_update();
            (bound.states(), bound.generation())
        };
        if states != told {
            told.clone_from(&states);
            engine.send(Input::Bound(states));
            // Once it answers, what was said of sockets that were not bound yet is out of date.
            engine.state(ENGINE_PATIENCE).await;
        }
        outbox.bound(generation);
        if bound.changed().await.is_err() {
            return;
        }
    }
}

/// Ready when every first list is in and the snapshot made of them is bound.
async fn become_ready(
    mut listed: watch::Receiver<bool>,
    mut bound: watch::Receiver<Bound>,
    engine: EngineHandle,
    outbox: Outbox,
    guards: [ReadinessGuard; 2],
) {
    let [lists, snapshot] = guards;
    if listed.wait_for(|listed| *listed).await.is_err() {
        return std::future::pending().await;
    }
    drop(lists);
    // The engine answers in order: after what was listed.
    let generation = loop {
        if let Some(report) = engine.report(ENGINE_PATIENCE).await {
            break report.generation;
        }
    };
    let states = bound.wait_for(|bound| bound.generation() >= generation).await.map(|bound| bound.states());
    let Ok(states) = states else { return std::future::pending().await };
    drop(snapshot);
    engine.send(Input::Bound(states));
    while engine.report(ENGINE_PATIENCE).await.is_none() {}
    outbox.complete(generation);
    tracing::info!("ready: everything is listed, and the first snapshot is bound");
}

/// Options of translation in a cluster.
fn options(settings: &RunSettings, values: &Arc<InfrastructureOptions>) -> Options {
    let options = Options {
        controller_name: settings.controller_name.clone(),
        any_controller: false,
        assumed_classes: AssumedClasses::None,
        bind: settings.serve.bind,
        shared_ports: false,
        assume_bound: false,
        allow_local_endpoints: false,
        own_addresses: settings.pod_ips,
        cross_namespace: cross_namespace(settings.upstream_cross_namespace, &settings.install_namespace),
        status_key: status_key(settings.gloo, &settings.install_namespace, &settings.controller_name),
        keeps_last_good: true,
        infrastructure: Some(Arc::clone(values)),
        ..Options::default()
    };
    with_tenants(with_client(options, &settings.serve.client), settings.serve.tenants)
}

/// The keys with and without the Gloo switch.
pub(super) fn status_keys(install_namespace: &str, controller_name: &str) -> Vec<Box<str>> {
    [true, false].map(|gloo| status_key(gloo, install_namespace, controller_name)).into()
}

/// The chart's values that shape Services and ports.
fn values(settings: &RunSettings) -> InfrastructureOptions {
    InfrastructureOptions {
        install_namespace: settings.install_namespace.clone(),
        instance: settings.instance_name.clone(),
        owner: settings.owner_config_map.clone(),
        gloo_names: settings.gloo,
        service_type: match settings.service_type {
            ServiceType::LoadBalancer => infrastructure::ServiceType::LoadBalancer,
            ServiceType::NodePort => infrastructure::ServiceType::NodePort,
            ServiceType::ClusterIp => infrastructure::ServiceType::ClusterIP,
        },
        external_traffic_policy: match settings.external_traffic_policy {
            TrafficPolicy::Local => infrastructure::ExternalTrafficPolicy::Local,
            TrafficPolicy::Cluster => infrastructure::ExternalTrafficPolicy::Cluster,
        },
        ip_family_policy: settings.ip_family_policy.map(|policy| match policy {
            IpFamilyPolicy::SingleStack => infrastructure::IpFamilyPolicy::SingleStack,
            IpFamilyPolicy::PreferDualStack => infrastructure::IpFamilyPolicy::PreferDualStack,
        }),
        service_rest: settings.service_rest,
        annotations: settings.service_annotations.clone(),
        labels: settings.service_labels.clone(),
        load_balancer_source_ranges: settings.load_balancer_source_ranges.clone(),
        allocate_load_balancer_node_ports: settings.allocate_load_balancer_node_ports,
        load_balancer_class: settings.load_balancer_class.clone(),
        extra_services: settings.extra_services,
        class_finalizer: settings.class_finalizer,
        selector: settings.pod_selector.clone(),
        reserved_ports: BTreeSet::from([settings.serve.admin.port(), settings.admin_local.port()]),
        cluster_domain: settings.cluster_domain.clone(),
    }
}

impl From<ClusterError> for CommandError {
    fn from(error: ClusterError) -> Self {
        Self::Message(error.to_string())
    }
}
