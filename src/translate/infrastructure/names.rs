//! Names of the Services in front of Gateways.

use xxhash_rust::xxh64::xxh64;

use crate::base::ObjectName;

use super::InfrastructureOptions;

/// Bound of a Service's name (RFC 1035 label).
const MAX_NAME: usize = 63;

/// What the names begin with: ours, and Gloo's.
pub(super) const PREFIXES: [&str; 2] = ["clingfish-", "gloo-proxy-"];

/// The Service that selects the gateway's pods: in the install namespace.
pub(super) fn selector_service(gateway: &ObjectName, options: &InfrastructureOptions) -> ObjectName {
    let at_home = gateway.namespace == options.install_namespace;
    ObjectName::new(options.install_namespace.clone(), service_name(gateway, options.name_prefix(), !at_home))
}

/// The Service by which a Gateway elsewhere is known to its neighbours: in the Gateway's namespace.
pub(super) fn neighbour_service(gateway: &ObjectName, options: &InfrastructureOptions) -> Option<ObjectName> {
    let wanted = options.extra_services && gateway.namespace != options.install_namespace;
    wanted.then(|| ObjectName::new(gateway.namespace.clone(), service_name(gateway, options.name_prefix(), false)))
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
            let name = selector_service(&gateway, options);
            assert_eq!(&*name.namespace, "gloo-system");
            assert!(name.name.len() <= 63 && name.name.starts_with(selector), "{gateway}: {name}");
            assert!(is_candidate(&name));
            assert_eq!(neighbour_service(&gateway, options).map(|name| name.name), neighbour.map(Into::into), "{gateway}");
        }
        let off = InfrastructureOptions { extra_services: false, ..options };
        assert_eq!(neighbour_service(&at("team", "http"), &off), None);
    }
}
