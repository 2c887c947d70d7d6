//! From Gateways with their classes and ListenerSets to what is listened on.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use gateway_api::experimental::gateways::{Gateway, GatewayListeners};
use http::HeaderValue;

use crate::api::{ListenerSet, object_name};
use crate::base::{
    Kind, ObjectName, ObjectRef,
    text::{quoted, word},
};
use crate::snapshot::{ClientProfile, Observed, RegexOrder};
use crate::translate::{
    Options, Resources, UseRemoteAddress,
    certificates::Certificates,
    condition::{Refusal, reason},
    gloo::gateway_option::{self, GatewayOptions},
    options::GLOO_CLASS,
};

use super::{
    claims::Claims,
    compiled::CompiledGateway,
    gateway_class, infrastructure,
    listener::{self, CompiledListener},
    listener_set::{self, CompiledListenerSet},
    namespaces::NamespacePolicy,
    parameters, parameters_ref,
    placement::{self, placed::Placement},
    sockets, tls,
};

/// Compiles all Gateways of ours. The oldest Gateway gets a socket, so that the order of events does not matter.
pub(in crate::translate) fn compile_all(
    resources: &Resources,
    observed: &Observed,
    options: &Options,
    gateway_options: &GatewayOptions,
    certificates: &mut Certificates,
) -> BTreeMap<ObjectName, CompiledGateway> {
    certificates.begin();
    let sets = listener_set::by_gateway(resources);
    let mut sources = tls::Sources { resources, certificates };
    let mut compiled: Vec<_> = resources
        .gateways()
        .iter()
        .filter_map(|(name, gateway)| {
            let sets = sets.get(name).map(Vec::as_slice).unwrap_or_default();
            Some((name.clone(), age(gateway), compile(name, gateway, sets, observed, options, gateway_options, &mut sources)?))
        })
        .collect();
    sources.certificates.end();
    compiled.sort_by(|(name, age, _), (other, other_age, _)| (age, name).cmp(&(other_age, other)));
    if options.infrastructure.is_some() {
        let in_order = compiled.iter_mut().enumerate().map(|(rank, (name, _, gateway))| (rank, &*name, gateway));
        placement::place(in_order, observed, options);
    } else {
        let mut taken = sockets::Taken::default();
        for (name, _, gateway) in &mut compiled {
            if gateway.refused.is_none() {
                gateway.sockets = sockets::assign(name, &mut gateway.listeners, &gateway.addresses, options, &mut taken);
            }
        }
    }
    compiled.into_iter().map(|(name, _, gateway)| (name, gateway)).collect()
}

fn age(gateway: &Gateway) -> Option<i128> {
    gateway.metadata.creation_timestamp.as_ref().map(|time| time.0.as_nanosecond())
}

fn compile(
    name: &ObjectName,
    gateway: &Gateway,
    sets: &[Arc<ListenerSet>],
    observed: &Observed,
    options: &Options,
    gateway_options: &GatewayOptions,
    sources: &mut tls::Sources<'_>,
) -> Option<CompiledGateway> {
    let class = match sources.resources.gateway_class(&gateway.spec.gateway_class_name) {
        Some(class) if gateway_class::is_ours(class, options) => Some(class),
        None if options.assumed_classes.contains(&gateway.spec.gateway_class_name) => None,
        _ => return None,
    };
    let (addresses, unsupported) = addresses(gateway);
    let (overrides, problem) = match parameters::of_gateway_service(gateway, sources.resources, options) {
        Ok(overrides) => (Some(overrides), None),
        Err(problem) => (None, Some(problem)),
    };
    // What its Service is to be is not known, but it is there: it stays as it is.
    let is_kept = options.infrastructure.as_deref().is_some_and(|values| infrastructure::stands(name, observed, values));
    let (parameters_problem, parameters_refusal) = if is_kept { (problem, None) } else { (None, problem) };
    let placement = options.infrastructure.is_some().then(|| Placement::new(gateway, class, &addresses, overrides));
    let addresses = if addresses.is_empty() || placement.is_some() { vec![options.bind] } else { addresses };
    let mut class_refusal = class.and_then(|class| parameters_ref::class_refusal(class)).map(|refusal| {
        Refusal::new(refusal.reason, format!("GatewayClass {}: {}", word(&gateway.spec.gateway_class_name), refusal.message))
    });
    // A class is a template: what becomes of it later does not close the ports of Gateways that serve.
    let outdated = class_refusal.take_if(|_| sources.resources.was_admitted(name));
    let outdated_class = outdated.map(|refusal| format!("{}; it was valid before, and this Gateway is served as it was", refusal.message));
    let undecodable = sources.resources.refused(&ObjectRef { kind: Kind::Gateway, name: name.clone() });
    let never_decoded = undecodable.filter(|refused| refused.outline).map(|refused| Refusal::unsupported(&*refused.message));
    let refused = never_decoded.or(class_refusal).or(parameters_refusal).or(unsupported);
    let mut listeners = listener::compile_all(&gateway.spec.listeners);
    let own_listeners = listeners.len();
    let policy = listener_set::policy(gateway);
    let mut written: Vec<&GatewayListeners> = gateway.spec.listeners.iter().collect();
    let sets = add_listener_sets(name, &policy, sets, &mut listeners, &mut written, sources.resources);
    gateway_option::close(name, &mut listeners, gateway_options);
    tls::complete(name, gateway, written.into_iter(), &mut listeners, sources);
    Some(CompiledGateway {
        generation: gateway.metadata.generation,
        refused,
        outdated_class,
        unread_parameters: parameters_ref::gateway_unread(gateway),
        parameters_problem,
        insecure_frontend: tls::insecure_frontend(gateway),
        listeners,
        own_listeners,
        places: sets.iter().map(|set| (Arc::clone(&set.name), set.listeners.clone())).collect(),
        sets,
        reads_labels_of_sets: policy.is_ok_and(|policy| policy.reads_labels()),
        sockets: Vec::new(),
        host_identity: tls::host_identity(name, gateway, sources),
        profile: Arc::new(profile(&gateway.spec.gateway_class_name, options)),
        regex_order: regex_order(&gateway.spec.gateway_class_name),
        addresses,
        placement,
    })
}

/// Adds the listeners of the ListenerSets that the Gateway takes. `written`: all listeners as they are written.
fn add_listener_sets<'a>(
    name: &ObjectName,
    policy: &Result<NamespacePolicy, String>,
    sets: &'a [Arc<ListenerSet>],
    listeners: &mut Vec<CompiledListener>,
    written: &mut Vec<&'a GatewayListeners>,
    resources: &Resources,
) -> Vec<CompiledListenerSet> {
    let mut compiled = Vec::with_capacity(sets.len());
    let mut claims = Claims::of(written.iter().copied());
    for set in sets {
        let set_name = Arc::new(object_name(&set.metadata));
        let first = listeners.len();
        let reference = ObjectRef { kind: Kind::ListenerSet, name: (*set_name).clone() };
        let never_decoded = resources.refused(&reference).filter(|refused| refused.outline);
        let refused = never_decoded.map(|refused| Refusal::unsupported(&*refused.message));
        let refused = refused.or_else(|| listener_set::admit(name, policy, &set_name, resources).err());
        if refused.is_none() {
            listeners.extend(listener::compile_more(&set_name, &set.spec.listeners, &mut claims));
            written.extend(&set.spec.listeners);
        }
        compiled.push(CompiledListenerSet::new(&set_name, set, refused, first..listeners.len()));
    }
    compiled
}

/// The addresses that the Gateway asks for, and the entries of `spec.addresses` that are not supported.
fn addresses(gateway: &Gateway) -> (Vec<IpAddr>, Option<Refusal>) {
    let mut addresses = Vec::new();
    let mut refusal = None;
    for address in gateway.spec.addresses.iter().flatten() {
        let written = address.value.as_deref().unwrap_or_default();
        match (address.r#type.as_deref().unwrap_or("IPAddress"), written.parse::<IpAddr>()) {
            ("IPAddress", _) if written.is_empty() => {}
            ("IPAddress", Ok(ip)) if !addresses.contains(&ip) => addresses.push(ip),
            ("IPAddress", Ok(_)) => {}
            ("IPAddress", Err(_)) => {
                refusal.get_or_insert_with(|| unsupported_address(format!("value {written} is no IP address", written = quoted(written))));
            }
            (other, _) => {
                refusal.get_or_insert_with(|| {
                    unsupported_address(format!("type {other} is not supported; expected IPAddress", other = quoted(other)))
                });
            }
        }
    }
    (addresses, refusal)
}

fn unsupported_address(message: String) -> Refusal {
    Refusal::new(reason::UNSUPPORTED_ADDRESS, format!("spec.addresses: {message}"))
}

/// How the client's address is found: Gloo's way for Gloo's class, else Envoy's way for an edge proxy.
fn profile(class: &str, options: &Options) -> ClientProfile {
    let as_gloo = class == GLOO_CLASS;
    let server = HeaderValue::from_static(if as_gloo { "envoy" } else { "clingfish" });
    ClientProfile {
        use_remote_address: match options.use_remote_address {
            UseRemoteAddress::ByClass => !as_gloo,
            UseRemoteAddress::Always(value) => value,
        },
        xff_num_trusted_hops: options.xff_num_trusted_hops,
        server_header: options.server_header.clone().unwrap_or(server),
        path: options.path,
        headers_with_underscores: options.headers_with_underscores,
    }
}

/// Gloo's order for Gloo's class, so that a route which moves keeps its rule.
fn regex_order(class: &str) -> RegexOrder {
    if class == GLOO_CLASS { RegexOrder::Equals } else { RegexOrder::LongestFirst }
}
