//! Listeners of a Gateway: which are valid, which routes they take, which are indistinct.

use std::sync::Arc;

use gateway_api::experimental::gateways::{GatewayListeners, GatewayListenersAllowedRoutesKinds};

use crate::base::{
    Kind, Message, ObjectName,
    text::{quoted, word},
};
use crate::snapshot::{Hostname, TransportPort};
use crate::translate::{
    Condition, RouteGroupKind,
    condition::{self, Refusal, fails, holds, kind, reason},
    hostname,
};

use super::{
    claims::{Claims, claimed_hostname},
    namespaces::NamespacePolicy,
    protocol::Protocol,
    tls::listener_tls::ListenerTls,
};

/// What routes and sockets need to know of a listener. Routes are compiled anew when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct ListenerShape {
    /// Unique within the Gateway with its ListenerSets.
    pub(in crate::translate) name: Arc<str>,
    /// Its name where it was written.
    pub(in crate::translate) section: Arc<str>,
    /// The ListenerSet that it was written in; `None`: the Gateway itself.
    pub(in crate::translate) set: Option<Arc<ObjectName>>,
    /// Port as declared.
    pub(in crate::translate) port: TransportPort,
    /// Hostname as declared.
    pub(in crate::translate) hostname: Hostname,
    /// From where routes are taken.
    pub(in crate::translate) namespaces: NamespacePolicy,
    /// What is spoken on its port.
    pub(in crate::translate) protocol: Protocol,
    /// Kinds of routes that are taken.
    pub(in crate::translate) kinds: Box<[Kind]>,
    /// Why every request is answered 500, if so: an option guards it that is not built.
    pub(in crate::translate) refusal: Option<Message>,
}

/// A listener with what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct CompiledListener {
    pub(in crate::translate) shape: ListenerShape,
    /// Why it is refused.
    pub(in crate::translate) refused: Option<Refusal>,
    /// Why it is indistinct from another one of its Gateway.
    pub(super) conflicted: Option<Refusal>,
    /// What of the kinds of routes asked for is not taken.
    refused_kinds: Option<Refusal>,
    /// How TLS is terminated: HTTPS only.
    pub(in crate::translate) tls: Option<ListenerTls>,
}

// === impl ListenerShape ===

impl ListenerShape {
    /// The namespace that it belongs to, of this Gateway.
    pub(in crate::translate) fn namespace<'a>(&'a self, gateway: &'a ObjectName) -> &'a str {
        self.set.as_ref().map_or(&gateway.namespace, |set| &set.namespace)
    }

    /// Whether routes of this kind are taken.
    pub(in crate::translate) fn takes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

// === impl CompiledListener ===

impl CompiledListener {
    /// Whether requests may be served on it, once its socket is bound.
    pub(in crate::translate) fn is_valid(&self) -> bool {
        self.claims_hostname() && self.tls.as_ref().is_none_or(ListenerTls::is_usable)
    }

    /// Whether its hostname is its own on a port that is bound. One without certificate keeps it, so that no less specific listener answers
    /// in its place; so does one that is refused for what it asks of clients, which the other one may not ask.
    pub(super) fn claims_hostname(&self) -> bool {
        let is_kept = self.refused.is_none() || self.tls.as_ref().is_some_and(|tls| tls.is_withheld);
        is_kept && self.conflicted.is_none() && !self.shape.kinds.is_empty()
    }

    /// What of its references does not hold.
    pub(in crate::translate) fn unresolved(&self) -> Option<&Refusal> {
        self.tls.as_ref().and_then(|tls| tls.unresolved.as_ref()).or(self.refused_kinds.as_ref())
    }

    /// Whether the Gateway has to report it as not valid.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some() || self.conflicted.is_some()
    }

    /// Kinds of routes that it takes, as its status lists them.
    pub(in crate::translate) fn supported_kinds(&self) -> Vec<RouteGroupKind> {
        let listed = |kind: &Kind| RouteGroupKind { group: kind.group().to_owned(), kind: kind.as_str().to_owned() };
        self.shape.kinds.iter().map(listed).collect()
    }

    /// Its conditions; `unprogrammed` says why its socket does not serve and matters only for a valid listener.
    pub(in crate::translate) fn conditions(&self, unprogrammed: Option<&Refusal>, generation: Option<i64>) -> Vec<Condition> {
        let unavailable = unprogrammed.filter(|refusal| refusal.reason == reason::PORT_UNAVAILABLE && self.is_valid());
        let refusal = self.conflicted.as_ref().or(self.refused.as_ref()).or(unavailable);
        let programmed = match (refusal, self.unresolved(), unprogrammed) {
            (Some(refusal), _, _) => {
                let reason =
                    if self.conflicted.is_some() || refusal.reason == reason::PORT_UNAVAILABLE { refusal.reason } else { reason::INVALID };
                fails(kind::PROGRAMMED, reason, refusal.message.clone(), generation)
            }
            (None, Some(unresolved), _) if !self.is_valid() => {
                fails(kind::PROGRAMMED, reason::INVALID, unresolved.message.clone(), generation)
            }
            // An address is the Gateway's: a listener has no reason for it.
            (None, _, Some(refusal)) if refusal.reason == reason::ADDRESS_NOT_USABLE => {
                fails(kind::PROGRAMMED, reason::INVALID, refusal.message.clone(), generation)
            }
            (None, _, Some(refusal)) => fails(kind::PROGRAMMED, refusal.reason, refusal.message.clone(), generation),
            (None, _, None) => holds(kind::PROGRAMMED, reason::PROGRAMMED, "requests are served", generation),
        };
        let conflicted = match &self.conflicted {
            Some(conflict) => holds(kind::CONFLICTED, conflict.reason, conflict.message.clone(), generation),
            None => fails(kind::CONFLICTED, reason::NO_CONFLICTS, "distinct from the other listeners", generation),
        };
        let mut conditions = vec![
            condition::from_refusal(kind::ACCEPTED, refusal, (reason::ACCEPTED, "the listener is valid"), generation),
            conflicted,
            programmed,
            condition::from_refusal(
                kind::RESOLVED_REFS,
                self.unresolved(),
                (reason::RESOLVED_REFS, "all references are resolved"),
                generation,
            ),
        ];
        let overlaps = self.tls.as_ref().and_then(|tls| tls.overlaps.as_deref());
        conditions.extend(overlaps.map(|words| holds(kind::OVERLAPPING_TLS_CONFIG, reason::OVERLAPPING_HOSTNAMES, words, generation)));
        conditions
    }
}

/// Compiles a Gateway's own listeners, in the order written.
pub(in crate::translate) fn compile_all(listeners: &[GatewayListeners]) -> Vec<CompiledListener> {
    let mut compiled: Vec<_> = listeners.iter().map(compile).collect();
    for (index, listener) in listeners.iter().enumerate() {
        let conflict = listeners.iter().enumerate().filter(|(other, _)| *other != index).find_map(|(_, other)| conflict(listener, other));
        let repeated = listeners.iter().take(index).any(|other| other.name == listener.name);
        let Some(target) = compiled.get_mut(index) else { continue };
        if repeated {
            target.refused = Some(Refusal::unsupported(format!(
                "name: {} is the name of an earlier listener; expected unique names",
                quoted(&listener.name)
            )));
        }
        target.conflicted = conflict;
    }
    compiled
}

/// Compiles the listeners of a ListenerSet. Those that are accepted hold what they claim from then on.
pub(super) fn compile_more<'a>(set: &Arc<ObjectName>, listeners: &'a [GatewayListeners], claims: &mut Claims<'a>) -> Vec<CompiledListener> {
    let mut compiled = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let mut one = compile(listener);
        one.shape.name = format!("{set}/{}", word(&listener.name)).into();
        one.shape.set = Some(Arc::clone(set));
        one.conflicted = claims.lost(listener);
        if one.conflicted.is_none() {
            claims.hold(listener);
        }
        compiled.push(one);
    }
    compiled
}

fn conflict(listener: &GatewayListeners, other: &GatewayListeners) -> Option<Refusal> {
    if listener.port != other.port {
        return None;
    }
    let (mine, theirs) = (Protocol::parse(&listener.protocol), Protocol::parse(&other.protocol));
    let reason = mine.conflict(theirs, claimed_hostname(listener) == claimed_hostname(other))?;
    let message = if reason == reason::HOSTNAME_CONFLICT {
        format!("port {} and hostname are also those of listener {}; neither is served", listener.port, quoted(&other.name))
    } else {
        format!(
            "port {}: protocol {} here, {} on listener {}; neither is served",
            listener.port,
            word(&listener.protocol),
            word(&other.protocol),
            quoted(&other.name)
        )
    };
    Some(Refusal::new(reason, message))
}

/// What a listener says by itself, whatever others say.
fn compile(listener: &GatewayListeners) -> CompiledListener {
    let mut refused = Protocol::parse(&listener.protocol).refusal(&listener.protocol);
    let mut refuse = |message: String| {
        refused.get_or_insert_with(|| Refusal::unsupported(message));
    };
    let port = u16::try_from(listener.port).ok().filter(|port| *port > 0).unwrap_or_else(|| {
        refuse(format!("port: {} is no port; expected 1 to 65535", listener.port));
        0
    });
    let hostname = hostname::parse(listener.hostname.as_deref().unwrap_or_default()).unwrap_or_else(|message| {
        refuse(format!("hostname: {message}"));
        Hostname::Any
    });
    let allowed = listener.allowed_routes.as_ref();
    let namespaces = NamespacePolicy::compile(allowed.and_then(|allowed| allowed.namespaces.as_ref())).unwrap_or_else(|message| {
        refuse(message);
        NamespacePolicy::Nowhere
    });
    let protocol = Protocol::parse(&listener.protocol);
    if listener.tls.is_some() && protocol.is_without_tls() {
        refuse(format!("tls: is not used with protocol {}; expected protocol HTTPS or TLS, or no tls", word(&listener.protocol)));
    }
    let (kinds, refused_kinds) = kinds(allowed.and_then(|allowed| allowed.kinds.as_deref()), protocol);
    let section: Arc<str> = listener.name.as_str().into();
    let shape = ListenerShape {
        name: Arc::clone(&section),
        section,
        set: None,
        port: TransportPort { number: port, transport: protocol.transport() },
        hostname,
        namespaces,
        protocol,
        kinds: kinds.into(),
        refusal: None,
    };
    CompiledListener { shape, refused, conflicted: None, refused_kinds, tls: None }
}

/// The kinds taken, and the kinds asked for that are not.
fn kinds(asked: Option<&[GatewayListenersAllowedRoutesKinds]>, protocol: Protocol) -> (Vec<Kind>, Option<Refusal>) {
    let served = protocol.route_kinds();
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return (served.to_vec(), None) };
    let mut taken = Vec::new();
    let mut refused = Vec::new();
    for kind in asked {
        let group = kind.group.as_deref().unwrap_or_else(|| Kind::HttpRoute.group());
        match Kind::from_group_kind(group, &kind.kind).filter(|kind| served.contains(kind)) {
            Some(kind) if taken.contains(&kind) => {}
            Some(kind) => taken.push(kind),
            None => refused.push(format!("{}/{}", word(group), word(&kind.kind))),
        }
    }
    let unresolved = (!refused.is_empty()).then(|| {
        let expected: Vec<_> = served.iter().map(|kind| format!("{}/{kind}", kind.group())).collect();
        let expected = if expected.is_empty() {
            "this protocol has no kind that is".to_owned()
        } else {
            format!("expected {}", expected.join(" or "))
        };
        let message = format!("allowedRoutes.kinds: {} not served here; {expected}", refused.join(", "));
        Refusal::new(reason::INVALID_ROUTE_KINDS, message)
    });
    (taken, unresolved)
}
