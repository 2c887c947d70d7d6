//! Which listeners of which Gateways a route is attached to, and what each of its parents says.

use std::{collections::BTreeSet, sync::Arc};

use crate::api::{Route, RouteParentRef};
use crate::base::{
    Kind, ObjectName, ObjectRef,
    text::{quoted, several, word},
};
use crate::snapshot::{Hostname, Specificity};
use crate::translate::{
    ParentRef,
    condition::{Refusal, reason},
    gateway::{hostname_conflicts, listener::CompiledListener, listener_set, state::GatewayState},
    hostname,
};

use super::{
    compiled::{Attachment, Dependency},
    context::RouteContext,
};

/// What one parent of ours says.
#[derive(Clone, Debug)]
pub(in crate::translate) struct Parent {
    pub(super) parent_ref: ParentRef,
    pub(super) refused: Option<Refusal>,
    /// Listeners that answer 500, beside others that serve the route.
    pub(super) closed: Option<String>,
}

/// All parents of a route.
#[derive(Clone, Debug, Default)]
pub(super) struct Parents {
    pub(super) parents: Vec<Parent>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) dependencies: BTreeSet<Dependency>,
    pub(super) notices: Vec<String>,
    /// Hostnames that are none, or that routes of another namespace own.
    pub(super) ignored_hostnames: Vec<String>,
}

/// The hostnames of a route, and what is wrong with those that are none.
struct Hostnames {
    /// Empty: whatever the listener has.
    valid: Vec<Hostname>,
    invalid: Vec<String>,
}

/// Resolves all parentRefs that name a Gateway of ours.
pub(super) fn resolve(name: &ObjectRef, route: &Route, context: &RouteContext<'_>) -> Parents {
    let hostnames = hostnames(route);
    let mut resolved = Parents { ignored_hostnames: hostnames.invalid.clone(), ..Parents::default() };
    for parent in route.body.spec.parent_refs.iter().flatten() {
        let named = ObjectName::new(parent.namespace.as_deref().unwrap_or(&name.name.namespace), parent.name.as_str());
        match parent_kind(parent) {
            Some(ParentKind::Gateway) => at_gateway(name, parent, named, None, &hostnames, context, &mut resolved),
            Some(ParentKind::ListenerSet) => {
                resolved.dependencies.insert(Dependency::Object(ObjectRef { kind: Kind::ListenerSet, name: named.clone() }));
                let set = context.resources.listener_sets().get(&named);
                match set.map(|set| listener_set::parent(&named, set)) {
                    Some(Some(gateway)) => at_gateway(name, parent, gateway, Some(&named), &hostnames, context, &mut resolved),
                    Some(None) => {}
                    None => resolved.notices.push(format!("{name}: spec.parentRefs: there is no ListenerSet {named}")),
                }
            }
            None => {}
        }
    }
    if !resolved.attachments.is_empty() {
        let ignored = hostnames.invalid.iter().map(|problem| format!("{name}: {problem}; it is ignored"));
        resolved.notices.extend(ignored);
    }
    resolved
}

/// Attaches a route to a Gateway's own listeners, or to those of a ListenerSet of it.
fn at_gateway(
    name: &ObjectRef,
    parent: &RouteParentRef,
    gateway: ObjectName,
    set: Option<&ObjectName>,
    hostnames: &Hostnames,
    context: &RouteContext<'_>,
    resolved: &mut Parents,
) {
    resolved.dependencies.insert(Dependency::Object(ObjectRef { kind: Kind::Gateway, name: gateway.clone() }));
    match context.gateways.get(&gateway) {
        Some(state) => {
            let attached = attach(name, parent, set, state, hostnames, context, resolved);
            let (refused, closed) = attached.map_or_else(|refusal| (Some(refusal), None), |closed| (None, closed));
            let kind = if set.is_some() { Kind::ListenerSet } else { Kind::Gateway };
            resolved.parents.push(Parent { parent_ref: echo(parent, kind), refused, closed });
        }
        None if context.resources.gateways().contains_key(&gateway) => {}
        None => resolved.notices.push(format!("{name}: spec.parentRefs: there is no Gateway {gateway}")),
    }
}

/// What a parentRef names, of the kinds that have listeners.
enum ParentKind {
    Gateway,
    ListenerSet,
}

fn parent_kind(parent: &RouteParentRef) -> Option<ParentKind> {
    let group = parent.group.as_deref().unwrap_or_else(|| Kind::Gateway.group());
    let kind = parent.kind.as_deref().unwrap_or(Kind::Gateway.as_str());
    match Kind::from_group_kind(group, kind) {
        Some(Kind::Gateway) => Some(ParentKind::Gateway),
        Some(Kind::ListenerSet) => Some(ParentKind::ListenerSet),
        _ => None,
    }
}

/// The parentRef as a status repeats it: group and kind always present.
fn echo(parent: &RouteParentRef, kind: Kind) -> ParentRef {
    ParentRef {
        group: kind.group().to_owned(),
        kind: kind.as_str().to_owned(),
        namespace: parent.namespace.clone(),
        name: parent.name.clone(),
        section_name: parent.section_name.clone(),
        port: parent.port,
    }
}

fn hostnames(route: &Route) -> Hostnames {
    let mut hostnames = Hostnames { valid: Vec::new(), invalid: Vec::new() };
    for (index, written) in route.body.spec.hostnames.iter().flatten().enumerate() {
        let parsed = if written.is_empty() { Err("is empty; expected a DNS name".to_owned()) } else { hostname::parse(written) };
        match parsed {
            Ok(hostname) => hostnames.valid.push(hostname),
            Err(message) => hostnames.invalid.push(format!("spec.hostnames[{index}]: {message}")),
        }
    }
    hostnames
}

/// Attaches the route to the listeners that one parentRef means; those that answer 500 come back in words.
fn attach(
    route: &ObjectRef,
    parent: &RouteParentRef,
    set: Option<&ObjectName>,
    state: &GatewayState,
    hostnames: &Hostnames,
    context: &RouteContext<'_>,
    resolved: &mut Parents,
) -> Result<Option<String>, Refusal> {
    let (gateway, namespace) = (&*state.name, &route.name.namespace);
    let meant: Vec<_> = state.compiled.seen(set).filter(|(_, listener)| is_meant(parent, listener)).collect();
    if meant.is_empty() {
        return Err(no_matching_parent(parent, set, gateway));
    }
    if meant.iter().any(|(_, listener)| listener.shape.namespaces.reads_labels()) {
        resolved.dependencies.insert(Dependency::Object(ObjectRef::new(Kind::Namespace, "", namespace.clone())));
    }
    let allows =
        |listener: &CompiledListener| listener.shape.namespaces.allows(listener.shape.namespace(gateway), namespace, context.resources);
    let allowed: Vec<_> = meant.iter().filter(|(_, listener)| listener.shape.takes(route.kind) && allows(listener)).collect();
    if allowed.is_empty() {
        let message = if meant.iter().any(|(_, listener)| listener.shape.takes(route.kind)) {
            format!("no listener of Gateway {gateway} that the parentRef selects allows routes of namespace {}", word(namespace))
        } else {
            format!("no listener of Gateway {gateway} that the parentRef selects allows {}s", route.kind)
        };
        return Err(Refusal::new(reason::NOT_ALLOWED_BY_LISTENERS, message));
    }
    if hostnames.valid.is_empty() && !hostnames.invalid.is_empty() {
        return Err(Refusal::unsupported(several(&hostnames.invalid)));
    }
    let mut attached = false;
    let (mut lost, mut closed) = (Vec::new(), Vec::new());
    for (index, listener) in allowed {
        let common = in_common(&hostnames.valid, &listener.shape.hostname);
        if common.is_empty() {
            continue;
        }
        let before = lost.len();
        lost.extend(common.iter().filter_map(|hostname| owned_by_others(route, state, *index, hostname)));
        let refusal = listener.shape.refusal.as_ref();
        closed.extend(refusal.map(|why| format!("listener {}: {why}", word(&listener.shape.name))));
        let serves = refusal.is_none() && lost.len() - before < common.len();
        attached |= serves;
        let own = own_specificity(&hostnames.valid, &listener.shape.hostname);
        let attachment = Attachment { gateway: Arc::clone(&state.name), listener: *index, hostnames: common.into(), own, serves };
        merge(&mut resolved.attachments, attachment);
    }
    if attached {
        resolved.ignored_hostnames.extend(lost);
        return Ok((!closed.is_empty()).then(|| several(&closed)));
    }
    if !closed.is_empty() {
        return Err(Refusal::unsupported(format!("every request is answered 500: {}", several(&closed))));
    }
    if !lost.is_empty() {
        return Err(Refusal::new(reason::HOSTNAME_CONFLICT, several(&lost)));
    }
    let message = format!("no hostname in common with a listener of Gateway {gateway} that the parentRef selects");
    Err(Refusal::new(reason::NO_MATCHING_LISTENER_HOSTNAME, message))
}

/// Why a route does not serve a hostname that it claims: routes of another namespace were there before.
fn owned_by_others(route: &ObjectRef, state: &GatewayState, listener: usize, hostname: &Hostname) -> Option<String> {
    let owner = hostname_conflicts::of_route(state.conflicts_on(listener, hostname), route).owner?;
    let listener = state.compiled.listeners.get(listener).map(|listener| word(&listener.shape.name).to_string()).unwrap_or_default();
    Some(format!("hostname {hostname} of listener {listener} belongs to namespace {}, whose {} is older", word(owner), route.kind))
}

fn is_meant(parent: &RouteParentRef, listener: &CompiledListener) -> bool {
    parent.section_name.as_deref().is_none_or(|section| section.is_empty() || section == &*listener.shape.section)
        && parent.port.is_none_or(|port| port == i32::from(listener.shape.port.number))
}

fn no_matching_parent(parent: &RouteParentRef, set: Option<&ObjectName>, gateway: &ObjectName) -> Refusal {
    let section = parent.section_name.as_ref().map(|section| format!(" named {section}", section = quoted(section)));
    let port = parent.port.map(|port| format!(" on port {port}"));
    let has_none = set.map_or_else(
        || format!("Gateway {gateway} has no listener"),
        |set| format!("ListenerSet {set} adds to Gateway {gateway} no listener"),
    );
    let message = format!("{has_none}{}{}", section.unwrap_or_default(), port.unwrap_or_default());
    Refusal::new(reason::NO_MATCHING_PARENT, message)
}

fn in_common(hostnames: &[Hostname], listener: &Hostname) -> Vec<Hostname> {
    if hostnames.is_empty() {
        return vec![listener.clone()];
    }
    let mut common: Vec<_> = hostnames.iter().filter_map(|hostname| hostname.intersect(listener)).collect();
    common.sort();
    common.dedup();
    common
}

/// How specific the most specific hostname of a route is that takes in all of the listener's.
fn own_specificity(hostnames: &[Hostname], listener: &Hostname) -> Specificity {
    let wider = hostnames.iter().filter(|hostname| hostname.intersect(listener).as_ref() == Some(listener));
    wider.map(Hostname::specificity).max().unwrap_or(Specificity::Any)
}

/// Two parentRefs may mean the same listener: it is attached to once.
fn merge(attachments: &mut Vec<Attachment>, attachment: Attachment) {
    let same = |other: &Attachment| other.listener == attachment.listener && other.gateway == attachment.gateway;
    if !attachments.iter().any(same) {
        attachments.push(attachment);
    }
}
