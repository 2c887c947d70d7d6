//! Whether what a policy is for is there.

use crate::base::Kind;
use crate::translate::Resources;

use super::target::Target;

/// What there is of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::translate) enum Presence {
    /// All of it.
    There,
    /// The object has no section of this name.
    NoSection,
    /// There is no such object.
    NoObject,
}

/// Looks a target up. Sections of a Service are its ports, those of a route its rules; other objects have none.
pub(in crate::translate) fn presence(target: &Target, resources: &Resources) -> Presence {
    let Target { object, section } = target;
    let exists = match object.kind {
        Kind::Service => resources.service(&object.name).is_some(),
        Kind::Upstream => resources.upstream(&object.name).is_some(),
        kind => kind.is_route() && resources.has_route(object),
    };
    match section.as_deref() {
        _ if !exists => Presence::NoObject,
        Some(section) if !has_section(target, section, resources) => Presence::NoSection,
        Some(_) | None => Presence::There,
    }
}

fn has_section(target: &Target, section: &str, resources: &Resources) -> bool {
    let object = &target.object;
    match object.kind {
        Kind::Service => {
            let ports = resources.service(&object.name).and_then(|service| service.spec.as_ref()?.ports.as_ref());
            ports.into_iter().flatten().any(|port| port.name.as_deref() == Some(section))
        }
        kind if kind.is_route() => {
            let route = resources.route(object);
            route.is_some_and(|route| route.rules().iter().any(|rule| rule.name.as_deref() == Some(section)))
        }
        _ => false,
    }
}
