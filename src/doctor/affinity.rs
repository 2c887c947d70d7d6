//! What chooses a pod behind the gateway's back, so that sessions do not stay on their pods.

use serde_json::Value;

use super::{
    backends::{endpoints, hashes, targets},
    gathered::{Asked, Gathered, Unasked},
    objects::{count, few, full_name, list, mark, text},
    report::Outcome,
};

/// Names of the proxies that meshes put into pods.
const SIDECARS: [(&str, &str); 5] = [
    ("istio-proxy", "Istio"),
    ("linkerd-proxy", "Linkerd"),
    ("kuma-sidecar", "Kuma"),
    ("consul-dataplane", "Consul"),
    ("envoy-sidecar", "Consul"),
];

/// Marks of a namespace that make a mesh put its proxy into every new pod: where, name, value (empty: any), mesh.
const INJECTIONS: [(&str, &str, &str, &str); 5] = [
    ("labels", "istio-injection", "enabled", "Istio"),
    ("labels", "istio.io/rev", "", "Istio"),
    ("annotations", "linkerd.io/inject", "enabled", "Linkerd"),
    ("annotations", "linkerd.io/inject", "ingress", "Linkerd"),
    ("labels", "kuma.io/sidecar-injection", "enabled", "Kuma"),
];

pub(super) fn check(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    check_sidecars(gathered, outcome)?;
    check_services(gathered, outcome)?;
    check_static_hosts(gathered, outcome)?;
    let hashing = gathered.list(Asked::Upstreams)?.iter().filter(|upstream| hashes(upstream)).count();
    outcome.looked_at = format!("nothing chooses a pod after the gateway; {} with a hash", count(hashing, "Upstream"));
    Ok(())
}

/// A mesh's proxy beside the gateway takes its connections to pods for ones to their Service, and balances them itself.
fn check_sidecars(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let install = &gathered.install;
    let to_do = "keep the mesh out of the gateway's pods with podAnnotations and podLabels (sidecar.istio.io/inject: \"false\", \
                 linkerd.io/inject: disabled, kuma.io/sidecar-injection: disabled), and restart them";
    let mut found = false;
    for pod in gathered.list(Asked::Pods)?.iter().filter(|pod| install.has_pod(pod)) {
        let mut containers = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(|pointer| list(pod, pointer));
        let sidecar = containers.find_map(|container| SIDECARS.iter().find(|(name, _)| *name == text(container, "/name")));
        if let Some((name, mesh)) = sidecar {
            let what =
                format!("{mesh}'s proxy ({name}) runs beside the gateway: it may send a session to another pod than the gateway chose");
            outcome.finding(format!("pod {}", full_name(pod)), what, to_do);
            found = true;
        }
    }
    let namespace = gathered.list(Asked::Namespaces)?.iter().find(|namespace| text(namespace, "/metadata/name") == install.namespace);
    let marked = namespace.and_then(|namespace| {
        INJECTIONS.iter().find(|(map, name, value, _)| mark(namespace, map, name).is_some_and(|found| value.is_empty() || found == *value))
    });
    let opted_out = gathered.find(Asked::Deployments, &install.namespace, &install.deployment)?.is_some_and(is_opted_out);
    if let Some((_, name, _, mesh)) = marked.filter(|_| !found && !opted_out) {
        let what =
            format!("its mark {name} makes {mesh} put a proxy into the gateway's next pods: sessions would no longer stay on theirs");
        outcome.finding(format!("Namespace {}", install.namespace), what, to_do);
    }
    Ok(())
}

/// Whether the Deployment's pods say that no mesh may put a proxy into them.
fn is_opted_out(deployment: &Value) -> bool {
    [("sidecar.istio.io/inject", "false"), ("linkerd.io/inject", "disabled"), ("kuma.io/sidecar-injection", "disabled")].into_iter().any(
        |(name, value)| {
            let metadata = deployment.pointer("/spec/template/metadata");
            ["labels", "annotations"].iter().any(|map| metadata.and_then(|metadata| metadata.get(map)?.get(name)?.as_str()) == Some(value))
        },
    )
}

/// Endpoints behind a hash that are no pods.
fn check_services(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let slices = gathered.list(Asked::EndpointSlices)?;
    for target in targets(gathered)?.iter().filter(|target| target.hashes) {
        let name = format!("{}/{}", target.namespace, target.name);
        let service = gathered.find(Asked::Services, &target.namespace, &target.name)?;
        if service.is_some_and(|service| text(service, "/spec/type") == "ExternalName") {
            let what = format!("Service {name} is of type ExternalName: who answers for that name chooses the pod, not the hash");
            outcome.finding(&*target.from, what, "name a Service that selects the pods themselves");
            continue;
        }
        let foreign: Vec<&str> = endpoints(target, slices)
            .into_iter()
            .filter(|endpoint| text(endpoint, "/targetRef/kind") != "Pod")
            .flat_map(|endpoint| list(endpoint, "/addresses"))
            .filter_map(Value::as_str)
            .collect();
        let Some(first) = foreign.first() else { continue };
        let what = match foreign.iter().find_map(|address| Some((address, service_at(address, gathered)?))) {
            Some((address, other)) => {
                format!("its endpoint {address} is the address of Service {other}, which chooses a pod itself for each connection")
            }
            None if foreign.len() == 1 => format!("its endpoint {first} is no pod: if it balances, sessions do not stay"),
            None => format!("its endpoints {} are no pods: if they balance, sessions do not stay", few(&foreign)),
        };
        outcome.finding(&*target.from, format!("Service {name}: {what}"), "name a Service that selects the pods themselves");
    }
    Ok(())
}

/// Static hosts that are Services.
fn check_static_hosts(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    for upstream in gathered.list(Asked::Upstreams)?.iter().filter(|upstream| hashes(upstream)) {
        for host in list(upstream, "/spec/static/hosts") {
            let address = text(host, "/addr").trim_end_matches('.');
            let by_name = || named_service(address, gathered);
            if let Some(service) = service_at(address, gathered).or_else(by_name) {
                let what = format!("its host {address} is Service {service}, which chooses a pod itself for each connection");
                outcome.finding(format!("Upstream {}", full_name(upstream)), what, "use spec.kube, which leads to the pods themselves");
            }
        }
    }
    Ok(())
}

/// The Service with this cluster IP.
fn service_at(address: &str, gathered: &Gathered) -> Option<String> {
    let services = gathered.list(Asked::Services).ok()?.iter();
    let has = |service: &&Value| {
        text(service, "/spec/clusterIP") == address || list(service, "/spec/clusterIPs").iter().any(|one| one.as_str() == Some(address))
    };
    services.into_iter().find(has).map(full_name)
}

/// The Service with a cluster IP that a name of the cluster's DNS leads to.
fn named_service(host: &str, gathered: &Gathered) -> Option<String> {
    let mut parts = host.splitn(3, '.');
    let (name, namespace, rest) = (parts.next()?, parts.next()?, parts.next().unwrap_or("svc"));
    let service = gathered.find(Asked::Services, namespace, name).ok()??;
    let balances = !matches!(text(service, "/spec/clusterIP"), "" | "None");
    (balances && (rest == "svc" || rest.starts_with("svc."))).then(|| full_name(service))
}
