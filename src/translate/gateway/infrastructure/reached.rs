//! Where clients reach a Gateway, or why they do not.

use std::net::IpAddr;

use crate::base::{ObjectName, text::word};
use crate::snapshot::{Observed, ObservedService, ObservedServiceType, ServiceAddress};
use crate::translate::condition::reason;

use super::{
    names,
    options::{InfrastructureOptions, ServiceType},
    overrides::ServiceOverrides,
};

/// How a message ends of what nobody has to do anything about.
const STILL_TO_COME: &str = " yet";

/// Whether a condition only says that something is on its way, such as a load balancer's address: no problem, as long as it comes.
pub fn is_on_its_way(reason: &str, message: &str) -> bool {
    reason == reason::PENDING || (reason == reason::ADDRESS_NOT_ASSIGNED && message.ends_with(STILL_TO_COME))
}

/// Why a Gateway has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressProblem {
    /// Reason of `Programmed=False`.
    pub reason: &'static str,
    /// What is missing.
    pub message: String,
}

/// Where a Gateway is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The addresses as its status has them.
    pub addresses: Vec<ServiceAddress>,
    /// What its Service has that is not what is wanted, and what to do about it.
    pub asides: Vec<String>,
}

/// The addresses of a Gateway as its status has them.
///
/// # Errors
/// Why `Programmed` is False: no address is assigned yet, or a Service that is not ours stands where ours ought to.
pub fn addresses(
    gateway: &ObjectName,
    static_addresses: &[IpAddr],
    observed: &Observed,
    overrides: &ServiceOverrides,
    options: &InfrastructureOptions,
) -> Result<Reached, AddressProblem> {
    let options = &*overrides.over(options);
    let selector = names::selector_service(gateway, observed, options);
    for name in std::iter::once(selector.clone()).chain(names::neighbour_service(gateway, options)) {
        if observed.services.get(&name).is_some_and(|service| service.gateway.as_ref() != Some(gateway)) {
            return Err(foreign(&name, options));
        }
    }
    let mut both = std::iter::once(selector.clone()).chain(names::neighbour_service(gateway, options));
    if let Some((name, why)) = both.find_map(|name| Some((name.clone(), observed.refused_services.get(&name)?))) {
        let message = format!("Service {name} could not be written: {why}; it is tried again{}", unchangeable(why.as_str()));
        return Err(AddressProblem { reason: reason::ADDRESS_NOT_ASSIGNED, message });
    }
    let service = observed.services.get(&selector);
    if service.is_some_and(|service| service.deleting) {
        let message = format!("Service {selector} is being deleted, and its address with it; it is made again when it is gone");
        return Err(AddressProblem { reason: reason::ADDRESS_NOT_ASSIGNED, message });
    }
    let Some(service) = service else { return Err(not_assigned(&selector, None, options)) };
    let asides = kept_class(&selector, service, options).into_iter().chain(kept_health_check(&selector, service, overrides)).collect();
    let addresses = reported(service, observed);
    if !static_addresses.is_empty() {
        return Ok(Reached { addresses: usable(&selector, static_addresses, addresses)?, asides });
    }
    if addresses.is_empty() {
        return Err(not_assigned(&selector, Some(service), options));
    }
    Ok(Reached { addresses, asides })
}

/// A NodePort Service is reached at the nodes, where these are known.
fn reported(service: &ObservedService, observed: &Observed) -> Vec<ServiceAddress> {
    match service.service_type {
        ObservedServiceType::NodePort if !observed.node_addresses.is_empty() => {
            observed.node_addresses.iter().copied().map(ServiceAddress::Ip).collect()
        }
        _ => service.addresses.clone(),
    }
}

/// What to do where the API server lets nobody change a field.
fn unchangeable(why: &str) -> &'static str {
    if why.contains("may not change") || why.contains("immutable") {
        "; delete the Service, and it is made again with what is wanted and with another address"
    } else {
        ""
    }
}

/// A load balancer keeps the port of its health checks.
fn kept_health_check(name: &ObjectName, service: &ObservedService, overrides: &ServiceOverrides) -> Option<String> {
    let (wanted, standing) = (overrides.health_check_node_port?, service.health_check_node_port?);
    let words = format!(
        "Service {name} keeps spec.healthCheckNodePort: it has {standing} and ought to have {wanted}, but Kubernetes lets nobody change it; \
         delete the Service, and it is made again with another address"
    );
    (wanted != standing).then_some(words)
}

/// A load balancer keeps its class: Kubernetes lets nobody change it.
fn kept_class(name: &ObjectName, service: &ObservedService, options: &InfrastructureOptions) -> Option<String> {
    let (wanted, standing) = (options.load_balancer_class.as_deref(), service.load_balancer_class.as_deref());
    let is_load_balancer = service.service_type == ObservedServiceType::LoadBalancer && options.service_type == ServiceType::LoadBalancer;
    // A class that somebody else has set is wrong only if another one is asked for.
    if !is_load_balancer || wanted == standing || (wanted.is_none() && !service.class_is_ours) {
        return None;
    }
    let quoted = |class: Option<&str>| class.map_or_else(|| "no class".to_owned(), |class| word(class).to_string());
    Some(format!(
        "Service {name} keeps spec.loadBalancerClass: it has {} and ought to have {}, but Kubernetes lets nobody change it; delete the \
         Service, and it is made again with another address",
        quoted(standing),
        quoted(wanted)
    ))
}

/// Of a Service's addresses those that the Gateway asks for; it must have all of them.
fn usable(service: &ObjectName, wanted: &[IpAddr], addresses: Vec<ServiceAddress>) -> Result<Vec<ServiceAddress>, AddressProblem> {
    let missing: Vec<_> = wanted.iter().filter(|ip| !addresses.contains(&ServiceAddress::Ip(**ip))).map(ToString::to_string).collect();
    if !missing.is_empty() {
        let message = format!("spec.addresses: Service {service} does not have {}; a Service can be given one address", missing.join(", "));
        return Err(AddressProblem { reason: reason::ADDRESS_NOT_USABLE, message });
    }
    let is_wanted = |address: &ServiceAddress| matches!(address, ServiceAddress::Ip(ip) if wanted.contains(ip));
    Ok(addresses.into_iter().filter(is_wanted).collect())
}

fn foreign(name: &ObjectName, options: &InfrastructureOptions) -> AddressProblem {
    let message = format!(
        "Service {name} exists and was not made by {} for this Gateway, so it is left alone; delete or rename it",
        options.install()
    );
    AddressProblem { reason: reason::ADDRESS_NOT_ASSIGNED, message }
}

fn not_assigned(name: &ObjectName, service: Option<&ObservedService>, options: &InfrastructureOptions) -> AddressProblem {
    let (reason, message) = match (service, options.service_type) {
        (None, _) => (reason::PENDING, format!("Service {name} is not made{STILL_TO_COME}")),
        (Some(_), ServiceType::LoadBalancer) => {
            (reason::ADDRESS_NOT_ASSIGNED, format!("the load balancer has not given Service {name} an address{STILL_TO_COME}"))
        }
        (Some(_), ServiceType::ClusterIP | ServiceType::NodePort) => {
            (reason::ADDRESS_NOT_ASSIGNED, format!("Service {name} has no cluster IP{STILL_TO_COME}"))
        }
    };
    AddressProblem { reason, message }
}
