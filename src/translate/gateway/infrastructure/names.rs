//! Names of the Services in front of Gateways.

use xxhash_rust::xxh64::xxh64;

use crate::base::ObjectName;
use crate::snapshot::{Observed, ObservedService};

use super::options::InfrastructureOptions;

/// Bound of a Service's name (RFC 1035 label).
const MAX_NAME: usize = 63;

/// What the names begin with: ours, and Gloo's.
pub(super) const PREFIXES: [&str; 2] = ["clingfish-", "gloo-proxy-"];

/// The Service with the Gateway's address: in the install namespace. It has today's name, unless one with the other prefix stands already:
/// no Service can be renamed, and with a new one the address would be another.
pub(super) fn selector_service(gateway: &ObjectName, observed: &Observed, options: &InfrastructureOptions) -> ObjectName {
    let stands = |name: &ObjectName| {
        let has_address = |service: &&ObservedService| !service.is_alias && !service.deleting && service.gateway.as_ref() == Some(gateway);
        observed.services.get(name).filter(has_address).is_some()
    };
    let today = todays_service(gateway, options);
    if stands(&today) {
        return today;
    }
    let others = PREFIXES.iter().filter(|prefix| **prefix != todays_prefix(options));
    let mut others = others.map(|prefix| prefixed_service(gateway, prefix, options));
    others.find(stands).unwrap_or(today)
}

/// The second name of the Service with the Gateway's address, where that has not today's name.
pub(super) fn alias_service(gateway: &ObjectName, observed: &Observed, options: &InfrastructureOptions) -> Option<ObjectName> {
    let today = todays_service(gateway, options);
    (selector_service(gateway, observed, options) != today).then_some(today)
}

fn todays_prefix(options: &InfrastructureOptions) -> &'static str {
    let [ours, gloo] = PREFIXES;
    if options.gloo_names { gloo } else { ours }
}

fn todays_service(gateway: &ObjectName, options: &InfrastructureOptions) -> ObjectName {
    prefixed_service(gateway, todays_prefix(options), options)
}

fn prefixed_service(gateway: &ObjectName, prefix: &str, options: &InfrastructureOptions) -> ObjectName {
    let at_home = gateway.namespace == options.install_namespace;
    ObjectName::new(options.install_namespace.clone(), service_name(gateway, prefix, !at_home))
}

/// The Service by which a Gateway elsewhere is known to its neighbours: in the Gateway's namespace.
pub(super) fn neighbour_service(gateway: &ObjectName, options: &InfrastructureOptions) -> Option<ObjectName> {
    let wanted = options.extra_services && gateway.namespace != options.install_namespace;
    wanted.then(|| ObjectName::new(gateway.namespace.clone(), service_name(gateway, todays_prefix(options), false)))
}

/// `<prefix><gateway>`; with a hash of namespace and name where the namespace must tell, or where the name is no label of its own.
fn service_name(gateway: &ObjectName, prefix: &str, with_hash: bool) -> String {
    let label = gateway.name.replace('.', "-");
    let plain = format!("{prefix}{label}");
    if !with_hash && plain.len() <= MAX_NAME && *label == *gateway.name {
        return plain;
    }
    let suffix = format!("-{:08x}", xxh64(gateway.to_string().as_bytes(), 0) >> 32);
    let kept: String = plain.chars().take(MAX_NAME - suffix.len()).collect();
    format!("{}{suffix}", kept.trim_end_matches('-'))
}

/// Whether a Service of this name could be one of those in front of Gateways, with the names of today or with Gloo's.
pub(super) fn is_candidate(name: &ObjectName) -> bool {
    PREFIXES.iter().any(|prefix| name.name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_gateways_apart_and_fit() {
        let options = InfrastructureOptions { install_namespace: "gloo-system".into(), ..Default::default() };
        let gloo = InfrastructureOptions { gloo_names: true, ..options.clone() };
        let long = "x".repeat(253);
        let at = |namespace: &str, name: &str| ObjectName::new(namespace, name);
        for (gateway, options, selector, neighbour) in [
            (at("gloo-system", "http"), &options, "clingfish-http", None),
            (at("gloo-system", "http"), &gloo, "gloo-proxy-http", None),
            (at("team", "http"), &options, "clingfish-http-f8f03d74", Some("clingfish-http")),
            (at("other", "http"), &options, "clingfish-http-", Some("clingfish-http")),
            (at("gloo-system", "a.b"), &options, "clingfish-a-b-", None),
            (at("gloo-system", &long), &options, "clingfish-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-", None),
        ] {
            let name = selector_service(&gateway, &Observed::default(), options);
            assert_eq!(&*name.namespace, "gloo-system");
            assert!(name.name.len() <= 63 && name.name.starts_with(selector), "{gateway}: {name}");
            assert!(is_candidate(&name));
            assert_eq!(neighbour_service(&gateway, options).map(|name| name.name), neighbour.map(Into::into), "{gateway}");
        }
        let off = InfrastructureOptions { extra_services: false, ..options };
        assert_eq!(neighbour_service(&at("team", "http"), &off), None);
    }

    #[test]
    fn the_service_with_the_address_stays_whichever_prefix_is_todays() {
        let options = InfrastructureOptions { install_namespace: "system".into(), ..Default::default() };
        let gloo = InfrastructureOptions { gloo_names: true, ..options.clone() };
        let service = |gateway: &str, is_alias, deleting| ObservedService {
            gateway: Some(ObjectName::new("system", gateway)),
            is_alias,
            deleting,
            ..ObservedService::default()
        };
        let (ours, gloos) = ("clingfish-http", "gloo-proxy-http");
        type Standing<'a> = &'a [(&'a str, ObservedService)];
        let cases: [(Standing<'_>, &InfrastructureOptions, &str, Option<&str>); 9] = [
            (&[], &gloo, gloos, None),
            (&[(ours, service("http", false, false))], &options, ours, None),
            (&[(ours, service("http", false, false))], &gloo, ours, Some(gloos)),
            (&[(ours, service("http", false, false)), (gloos, service("http", true, false))], &gloo, ours, Some(gloos)),
            (&[(ours, service("http", false, false)), (gloos, service("http", true, false))], &options, ours, None),
            (&[(gloos, service("http", false, false))], &options, gloos, Some(ours)),
            // Both have an address, as from before Services were kept: today's name counts.
            (&[(ours, service("http", false, false)), (gloos, service("http", false, false))], &gloo, gloos, None),
            (&[(ours, service("http", false, true)), (gloos, service("http", true, false))], &gloo, gloos, None),
            (&[(ours, service("other", false, false))], &gloo, gloos, None),
        ];
        for (standing, options, expected, alias) in cases {
            let services = standing.iter().map(|(name, service)| (ObjectName::new("system", *name), service.clone())).collect();
            let (observed, gateway) = (Observed { services, ..Observed::default() }, ObjectName::new("system", "http"));
            assert_eq!(&*selector_service(&gateway, &observed, options).name, expected, "{standing:?}");
            assert_eq!(alias_service(&gateway, &observed, options).map(|name| name.name).as_deref(), alias, "{standing:?}");
        }
    }
}
