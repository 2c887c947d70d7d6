//! Backends without endpoints.

use serde_json::Value;

use super::{
    gathered::{Asked, Gathered, Unasked},
    objects::{count, full_name, list, mark, members, text},
    report::Outcome,
    routes::own_routes,
};

/// A Service that a backend leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Who leads to it: an Upstream, or an HTTPRoute.
    pub(super) from: String,
    /// Its namespace and name.
    pub(super) namespace: String,
    pub(super) name: String,
    /// The port; 0 where none is given.
    port: u64,
    /// An Upstream that chooses hosts by a hash leads to it.
    pub(super) hashes: bool,
}

/// Services that Upstreams, and routes of the install, lead to.
pub(super) fn targets(gathered: &Gathered) -> Result<Vec<Target>, Unasked> {
    let mut targets: Vec<Target> = Vec::new();
    for upstream in gathered.list(Asked::Upstreams)? {
        let name = text(upstream, "/spec/kube/serviceName");
        if !name.is_empty() {
            let namespace = match text(upstream, "/spec/kube/serviceNamespace") {
                "" => text(upstream, "/metadata/namespace"),
                namespace => namespace,
            };
            targets.push(Target {
                from: format!("Upstream {}", full_name(upstream)),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                port: upstream.pointer("/spec/kube/servicePort").and_then(Value::as_u64).unwrap_or_default(),
                hashes: hashes(upstream),
            });
        }
    }
    for (kind, route) in own_routes(gathered)? {
        for reference in list(route, "/spec/rules").iter().flat_map(|rule| list(rule, "/backendRefs")) {
            if !matches!(text(reference, "/kind"), "" | "Service") || !text(reference, "/group").is_empty() {
                continue;
            }
            let namespace = match text(reference, "/namespace") {
                "" => text(route, "/metadata/namespace"),
                namespace => namespace,
            };
            let target = Target {
                from: format!("{kind} {}", full_name(route)),
                namespace: namespace.to_owned(),
                name: text(reference, "/name").to_owned(),
                port: reference.pointer("/port").and_then(Value::as_u64).unwrap_or_default(),
                hashes: false,
            };
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
    }
    Ok(targets)
}

/// Whether an Upstream chooses hosts by a hash.
pub(super) fn hashes(upstream: &Value) -> bool {
    ["ringHash", "maglev"]
        .iter()
        .any(|balancer| upstream.pointer("/spec/loadBalancerConfig").and_then(|config| config.get(balancer)).is_some())
}

/// Endpoints of a Service.
pub(super) fn endpoints<'a>(target: &Target, slices: &'a [Value]) -> Vec<&'a Value> {
    let of_it = |slice: &&Value| {
        text(slice, "/metadata/namespace") == target.namespace && mark(slice, "labels", "kubernetes.io/service-name") == Some(&target.name)
    };
    slices.iter().filter(of_it).flat_map(|slice| list(slice, "/endpoints")).collect()
}

pub(super) fn check(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let targets = targets(gathered)?;
    let slices = gathered.list(Asked::EndpointSlices)?;
    for target in &targets {
        let service = gathered.find(Asked::Services, &target.namespace, &target.name)?;
        check_target(target, service, slices, outcome);
    }
    outcome.looked_at = format!("{} with ready endpoints", count(targets.len(), "backend"));
    Ok(())
}

fn check_target(target: &Target, service: Option<&Value>, slices: &[Value], outcome: &mut Outcome) {
    let Target { from, namespace, name, port, .. } = target;
    let Some(service) = service else {
        outcome.finding(&**from, format!("there is no Service {namespace}/{name}"), "make the Service, or correct the reference");
        return;
    };
    // What has no endpoints of its own is the check affinity's.
    if text(service, "/spec/type") == "ExternalName" {
        return;
    }
    let ports: Vec<String> = list(service, "/spec/ports").iter().filter_map(|port| Some(port.get("port")?.to_string())).collect();
    if *port != 0 && !ports.contains(&port.to_string()) {
        let what = format!("Service {namespace}/{name} has no port {port}, but {}", ports.join(", "));
        outcome.finding(&**from, what, "correct the port: it is the Service's own, not the pods'");
        return;
    }
    let endpoints = endpoints(target, slices);
    let is_ready = |endpoint: &&&Value| endpoint.pointer("/conditions/ready") != Some(&Value::Bool(false));
    if endpoints.iter().any(|endpoint| is_ready(&endpoint)) {
        return;
    }
    let selector: Vec<String> =
        members(service, "/spec/selector").map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    let selector = selector.join(",");
    let pods = format!("kubectl get pods -n {namespace} -l {selector}");
    let (what, to_do) = match (endpoints.len(), selector.is_empty()) {
        (0, true) => {
            ("has neither a selector nor endpoints".to_owned(), format!("give Service {namespace}/{name} a selector, or EndpointSlices"))
        }
        (0, false) => (
            format!("has no endpoints: no pod has the labels {selector}"),
            format!("scale the workload up, or correct the selector: {pods}"),
        ),
        (all, _) => (format!("has no ready endpoint among {all}"), format!("see why the pods are not ready: {pods}")),
    };
    outcome.finding(&**from, format!("Service {namespace}/{name} {what}; requests are answered 503"), to_do);
}
