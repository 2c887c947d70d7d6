//! backendRefs of a rule: where each share goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::api::{RouteBackendRef, RouteRule};
use crate::base::{Kind, ObjectName, ObjectRef, text::word};
use crate::lb::{HashSplit, WeightedSplit};
use crate::snapshot::{Backend, BackendName, ClusterId, FixedReply, Forward, Fraction, Mirror, Split, Target, Transport, TransportPort};
use crate::translate::{
    Options, Resources,
    affinity::AffinitySettings,
    backend::{
        app_protocol,
        endpoints::{Gap, carries, service_port},
        upstream::{annotation_for_tls, is_external_name},
    },
    condition::{Refusal, reason},
    reference_grant::CrossReference,
};

use super::{
    compiled::Dependency,
    context::RouteContext,
    filters::{self, BackendFilters},
    reference::{Reference, reference},
};

/// Most of a weight (Gateway API).
const MAX_WEIGHT: i32 = 1_000_000;

/// The backends of a rule.
#[derive(Debug, Default)]
pub(super) struct CompiledBackends {
    pub(super) forward: Forward,
    /// References that do not hold.
    pub(super) unresolved: Vec<Refusal>,
    /// Filters of backends that are wrong or not served.
    pub(super) problems: Vec<String>,
    /// Fields of their filters that count for nothing, and why.
    pub(super) ignored: Vec<String>,
    /// Services without endpoints, and why.
    pub(super) gaps: Vec<String>,
}

/// What sets the clusters of a rule apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    /// The AffinityPolicy that counts for it.
    pub(super) policy: Option<(&'a ObjectName, &'a AffinitySettings)>,
    /// Its sessions are persistent.
    pub(super) is_persistent: bool,
}

/// Reads the backendRefs of a rule.
pub(super) fn compile(
    route: &ObjectRef,
    rule: &RouteRule,
    tables: Tables<'_>,
    context: &RouteContext<'_>,
    cluster_id: &mut dyn FnMut(&BackendName) -> ClusterId,
    dependencies: &mut BTreeSet<Dependency>,
) -> CompiledBackends {
    let refs = rule.backend_refs.as_deref().unwrap_or_default();
    let mut compiled = CompiledBackends::default();
    let mut backends = Vec::with_capacity(refs.len());
    let mut weights = Vec::with_capacity(refs.len());
    for (index, reference) in refs.iter().enumerate() {
        let (weight, weight_problem) = weight(reference.weight);
        let (written, filter_problem) = compiled.read_filters(index, reference, rule);
        let BackendFilters { mut filters, redirect, mirrors: mirrored } = written;
        let (mirrors, of_mirrors) = mirrors(route, &mirrored, context, cluster_id, dependencies);
        filters.mirrors = mirrors;
        let beneath = |refusal: Refusal| Refusal::new(refusal.reason, format!("backendRefs[{index}].{}", refusal.message));
        compiled.unresolved.extend(of_mirrors.into_iter().map(beneath));
        let problem = filter_problem.or(weight_problem).map(|message| format!("backendRefs[{index}].{message}"));
        let (name, resolved) = resolve(route, &reference!(reference), context, dependencies);
        let policy = tables.policy.map(|(name, _)| Box::new(name.clone()));
        let name = BackendName { policy, is_persistent: tables.is_persistent, ..name };
        let target = match (problem, resolved) {
            (Some(problem), resolved) => {
                compiled.unresolved.extend(resolved.err().map(|refusal| at(index, refusal)));
                let target = invalid(&problem);
                compiled.problems.push(problem);
                target
            }
            (None, Err(refusal)) => {
                let refusal = at(index, refusal);
                let target = invalid(&refusal.message);
                compiled.unresolved.push(refusal);
                target
            }
            (None, Ok(())) => match redirect {
                Some(redirect) => Target::Redirect(Box::new(redirect)),
                None => {
                    compiled.gaps.extend(gap(&name, context.resources, context.options).map(|gap| gap.to_string()));
                    Target::Cluster(cluster_id(&name))
                }
            },
        };
        weights.push(weight);
        backends.push(Backend { name: Arc::new(name), target, filters: (!filters.is_empty()).then(|| Box::new(filters)) });
    }
    let hash_split = tables.policy.filter(|(_, settings)| settings.affinity.split != Split::Random).map(|_| {
        let named: Vec<_> = backends.iter().zip(&weights).map(|(backend, weight)| (backend.name.to_string(), *weight)).collect();
        HashSplit::new(&named)
    });
    compiled.forward = Forward { split: WeightedSplit::new(&weights), hash_split, backends: context.common.backends(backends) };
    compiled
}

impl CompiledBackends {
    /// Reads the filters of a backendRef, and what is wrong with them.
    fn read_filters<'a>(&mut self, index: usize, reference: &'a RouteBackendRef, rule: &RouteRule) -> (BackendFilters<'a>, Option<String>) {
        let mut ignored = Vec::new();
        let read = filters::compile_backend(reference.filters.as_deref().unwrap_or_default(), rule, &mut ignored);
        self.ignored.extend(ignored.into_iter().map(|why| format!("backendRefs[{index}].{why}")));
        read.map_or_else(|message| (BackendFilters::default(), Some(message)), |filters| (filters, None))
    }
}

/// The Services and Upstreams that a rule names, whether they may be sent to or not.
pub(super) fn named<'r>(route: &'r ObjectRef, rule: &'r RouteRule) -> impl Iterator<Item = ObjectRef> + 'r {
    let object = |reference: &RouteBackendRef| {
        let kind = reference.kind.as_deref().unwrap_or(Kind::Service.as_str());
        let kind = Kind::from_group_kind(reference.group.as_deref().unwrap_or_default(), kind)?;
        let namespace = reference.namespace.as_deref().unwrap_or(&route.name.namespace);
        matches!(kind, Kind::Service | Kind::Upstream).then(|| ObjectRef::new(kind, namespace, reference.name.as_str()))
    };
    rule.backend_refs.iter().flatten().filter_map(object)
}

/// The first Service among the backends for which Kubernetes itself keeps clients by their address.
pub(super) fn with_client_ip_affinity<'b>(backends: &'b [Backend], context: &RouteContext<'_>) -> Option<&'b ObjectName> {
    let services = backends.iter().map(|backend| &backend.name).filter(|name| name.kind == Kind::Service);
    let affinity = |name: &BackendName| context.resources.service(&name.name)?.spec.as_ref()?.session_affinity.as_deref();
    services.map(|name| (name, affinity(name))).find(|(_, affinity)| *affinity == Some("ClientIP")).map(|(name, _)| &name.name)
}

/// Why a port of a Service has no endpoints, where that stays until somebody changes something. Upstreams tell in a status of their own.
pub(in crate::translate) fn gap(backend: &BackendName, resources: &Resources, options: &Options) -> Option<Gap> {
    let service = resources.service(&backend.name).filter(|service| !is_external_name(service))?;
    let port = service_port(service, backend.port?)?;
    let slices: Vec<_> = resources.slices_of(&backend.name).map(|slice| &**slice).collect();
    Gap::structural(&backend.name, service, port, &slices, || resources.stray_slice(&backend.name, options.tells_of_other_namespaces()))
}

/// The mirrors of a rule, and what of them does not resolve: such a one gets nothing, and the rule is served (Gateway API,
/// `HTTPRequestMirrorFilter`).
pub(super) fn mirrors(
    route: &ObjectRef,
    written: &[(String, Reference<'_>, Fraction)],
    context: &RouteContext<'_>,
    cluster_id: &mut dyn FnMut(&BackendName) -> ClusterId,
    dependencies: &mut BTreeSet<Dependency>,
) -> (Box<[Mirror]>, Vec<Refusal>) {
    let mut mirrors = Vec::with_capacity(written.len());
    let mut unresolved = Vec::new();
    for (field, reference, fraction) in written {
        match resolve(route, reference, context, dependencies) {
            (name, Ok(())) => mirrors.push(Mirror { cluster: cluster_id(&name), name: Arc::new(name), fraction: *fraction }),
            (_, Err(refusal)) => unresolved.push(Refusal::new(refusal.reason, format!("{field}: {}", refusal.message))),
        }
    }
    (mirrors.into(), unresolved)
}

/// What of these references does not resolve; each comes with its field.
pub(super) fn unresolved(
    route: &ObjectRef,
    references: &[(String, Reference<'_>)],
    context: &RouteContext<'_>,
    dependencies: &mut BTreeSet<Dependency>,
) -> Vec<Refusal> {
    let mut unresolved = Vec::new();
    for (field, reference) in references {
        if let (_, Err(refusal)) = resolve(route, reference, context, dependencies) {
            unresolved.push(Refusal::new(refusal.reason, format!("{field}: {}", refusal.message)));
        }
    }
    unresolved
}

fn at(index: usize, refusal: Refusal) -> Refusal {
    Refusal::new(refusal.reason, format!("backendRefs[{index}]: {}", refusal.message))
}

fn invalid(reason: &str) -> Target {
    Target::Invalid(FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: reason.into() })
}

fn weight(weight: Option<i32>) -> (u32, Option<String>) {
    let weight = weight.unwrap_or(1);
    match u32::try_from(weight) {
        Ok(valid) if weight <= MAX_WEIGHT => (valid, None),
        _ => (1, Some(format!("weight: {weight}; expected 0 to {MAX_WEIGHT}"))),
    }
}

/// Resolves a reference. Permission comes before existence: who may not refer learns nothing.
fn resolve(
    route: &ObjectRef,
    reference: &Reference<'_>,
    context: &RouteContext<'_>,
    dependencies: &mut BTreeSet<Dependency>,
) -> (BackendName, Result<(), Refusal>) {
    let group = reference.group.unwrap_or_default();
    let kind_name = reference.kind.unwrap_or(Kind::Service.as_str());
    let namespace = reference.namespace.unwrap_or(&route.name.namespace);
    let name = ObjectName::new(namespace, reference.name);
    let number = reference.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = number.map(|number| TransportPort { number, transport: transport(route.kind) });
    let kind = Kind::from_group_kind(group, kind_name).filter(|kind| matches!(kind, Kind::Service | Kind::Upstream));
    let Some(kind) = kind else {
        let written = if group.is_empty() { word(kind_name).to_string() } else { format!("{}/{}", word(group), word(kind_name)) };
        let message = format!("kind {written} is not served; expected a Service, or an Upstream of group gloo.solo.io");
        return (
            BackendName { kind: Kind::Service, name, port, policy: None, is_persistent: false },
            Err(Refusal::new(reason::INVALID_KIND, message)),
        );
    };
    let backend = BackendName { kind, port: port.filter(|_| kind == Kind::Service), name, policy: None, is_persistent: false };
    let resolved = permitted(route, &backend, context, dependencies).and_then(|()| {
        dependencies.insert(Dependency::Object(ObjectRef { kind, name: backend.name.clone() }));
        match kind {
            Kind::Upstream => upstream_exists(&backend.name, context),
            _ => service_serves(route.kind, &backend, reference.port, context),
        }
    });
    (backend, resolved)
}

fn permitted(
    route: &ObjectRef,
    backend: &BackendName,
    context: &RouteContext<'_>,
    dependencies: &mut BTreeSet<Dependency>,
) -> Result<(), Refusal> {
    let reference = CrossReference {
        from: route.kind,
        from_namespace: &route.name.namespace,
        to: backend.kind,
        to_namespace: &backend.name.namespace,
        to_name: &backend.name.name,
    };
    if reference.from_namespace != reference.to_namespace {
        dependencies.insert(Dependency::Grants(backend.name.namespace.clone()));
    }
    if reference.is_permitted(context.resources) {
        return Ok(());
    }
    let message = format!(
        "no ReferenceGrant in namespace {} lets {}s of namespace {} refer to {} {}",
        word(&backend.name.namespace),
        route.kind,
        route.name.namespace,
        backend.kind,
        backend.name
    );
    Err(Refusal::new(reason::REF_NOT_PERMITTED, message))
}

/// What carries the traffic of a kind of route, to the backends too.
fn transport(route: Kind) -> Transport {
    if route == Kind::UdpRoute { Transport::Udp } else { Transport::Tcp }
}

fn upstream_exists(name: &ObjectName, context: &RouteContext<'_>) -> Result<(), Refusal> {
    let reference = ObjectRef { kind: Kind::Upstream, name: name.clone() };
    if context.resources.upstream(name).is_some() {
        return Ok(());
    }
    let why = context.resources.refused(&reference).map(|refused| format!(" that can be read ({})", refused.message));
    Err(Refusal::new(reason::BACKEND_NOT_FOUND, format!("there is no Upstream {name}{}", why.unwrap_or_default())))
}

fn service_serves(route: Kind, backend: &BackendName, written: Option<i32>, context: &RouteContext<'_>) -> Result<(), Refusal> {
    let Some(service) = context.resources.service(&backend.name) else {
        return Err(Refusal::new(reason::BACKEND_NOT_FOUND, format!("there is no Service {}", backend.name)));
    };
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let message = format!("Service {} is of type ExternalName, which is not served: it could lead anywhere", backend.name);
        return Err(Refusal::new(reason::INVALID_KIND, message));
    }
    let Some(wanted) = backend.port else {
        let written = written.map_or_else(|| "missing".to_owned(), |port| port.to_string());
        return Err(Refusal::new(reason::BACKEND_NOT_FOUND, format!("port: {written}; expected 1 to 65535, a port of the Service")));
    };
    // What is in a connection is not looked at: it may be TLS.
    let speaks = !route.is_stream_route();
    if let Some(annotation) = annotation_for_tls(service, wanted.number).filter(|_| speaks) {
        let message =
            format!("Service {}: annotation {annotation} asks for TLS, which is not served yet; plain text would be unsafe", backend.name);
        return Err(Refusal::new(reason::UNSUPPORTED_PROTOCOL, message));
    }
    let of_number: Vec<_> = ports(service).filter(|port| port.port == i32::from(wanted.number)).collect();
    let Some(first) = of_number.first() else {
        let known: Vec<_> = ports(service).map(|port| port.port.to_string()).collect();
        let message = format!("Service {} has no port {}; it has {}", backend.name, wanted.number, known.join(", "));
        return Err(Refusal::new(reason::BACKEND_NOT_FOUND, message));
    };
    let Some(port) = of_number.iter().find(|port| carries(port, wanted.transport)) else {
        let protocol = first.protocol.as_deref().unwrap_or(Transport::Tcp.as_str());
        let (number, expected) = (wanted.number, wanted.transport.as_str());
        let message = format!("port {number} of Service {} carries {}; expected {expected}", backend.name, word(protocol));
        return Err(Refusal::new(reason::UNSUPPORTED_PROTOCOL, message));
    };
    // What a policy asks for is done, or its cluster answers for it.
    let object = ObjectRef { kind: Kind::Service, name: backend.name.clone() };
    let is_secured = context.backend_tls.of(&object, port.name.as_deref()).is_some();
    let Some(why) = app_protocol::refusal(port).filter(|_| speaks && !is_secured) else { return Ok(()) };
    let written = port.app_protocol.as_deref().unwrap_or_default();
    let message = format!("port {} of Service {}: appProtocol {} {why}", wanted.number, backend.name, word(written));
    Err(Refusal::new(reason::UNSUPPORTED_PROTOCOL, message))
}

fn ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.spec.iter().flat_map(|spec| spec.ports.iter().flatten())
}
