//! Kinds of other gateways that are not read, object by object: what guards somebody is said apart.

use super::super::{installation::Installation, output::Output, report::Effect};

/// Groups whose objects are told where nothing is made of them.
const GROUPS: [&str; 8] = [
    "gateway.envoyproxy.io",
    "gateway.kgateway.dev",
    "networking.istio.io",
    "security.istio.io",
    "projectcontour.io",
    "traefik.io",
    "traefik.containo.us",
    "core.haproxy.org",
];

/// Kinds that are read.
const READ: [&str; 8] = [
    "BackendConfigPolicy",
    "BackendTrafficPolicy",
    "DestinationRule",
    "HTTPProxy",
    "IngressRoute",
    "Middleware",
    "TraefikService",
    "VirtualService",
];

/// Kinds that keep somebody out.
const GUARDS: [&str; 5] = ["AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication", "SecurityPolicy", "TrafficPolicy"];

/// Names what is not read.
pub(super) fn tell(installation: &Installation, output: &mut Output) {
    for (subject, _) in installation.objects().filter(|(subject, _)| GROUPS.contains(&subject.group.as_str())) {
        let is_old = subject.group == "traefik.containo.us";
        if READ.contains(&subject.kind.as_str()) && !is_old {
            continue;
        }
        let note = if GUARDS.contains(&subject.kind.as_str()) {
            (Effect::Unguarded, "may keep somebody out, and is not read: put another guard in its place before the traffic moves")
        } else if is_old {
            (Effect::Lost, "is of Traefik's old group, and is not read: Traefik 3 has the same kind in traefik.io")
        } else {
            (Effect::Lost, "not read")
        };
        output.note(note.0, subject.to_string(), note.1);
    }
}
