//! Ports and hostnames that listeners claim: what the Gateway's own ones and those of older ListenerSets hold is theirs.

use std::collections::HashMap;

use gateway_api::experimental::gateways::GatewayListeners;

use crate::base::text::quoted;
use crate::translate::condition::Refusal;

use super::protocol::Protocol;

/// What earlier listeners hold. A later one is compared with few of them, however many there are.
#[derive(Debug, Default)]
pub(super) struct Claims<'a> {
    /// The first listener of a protocol on a port.
    ports: HashMap<(i32, Protocol), Claim<'a>>,
    /// The same with a hostname.
    hostnames: HashMap<(i32, Protocol, String), Claim<'a>>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Claim<'a> {
    /// How many were there before.
    place: usize,
    name: &'a str,
}

/// The hostname that a listener claims on its port, as written but for the case of its letters.
pub(super) fn claimed_hostname(listener: &GatewayListeners) -> String {
    listener.hostname.as_deref().unwrap_or_default().to_ascii_lowercase()
}

// === impl Claims ===

impl<'a> Claims<'a> {
    /// What a Gateway's own listeners hold.
    pub(in crate::translate) fn of(listeners: impl Iterator<Item = &'a GatewayListeners>) -> Self {
        let mut claims = Self::default();
        listeners.for_each(|listener| claims.hold(listener));
        claims
    }

    /// From now on it holds what it claims.
    pub(in crate::translate) fn hold(&mut self, listener: &'a GatewayListeners) {
        let (port, protocol) = (listener.port, Protocol::parse(&listener.protocol));
        let claim = Claim { place: self.count, name: &listener.name };
        self.count += 1;
        self.ports.entry((port, protocol)).or_insert(claim);
        self.hostnames.entry((port, protocol, claimed_hostname(listener))).or_insert(claim);
    }

    /// Why a listener cannot be told from the first of those before it, if so: the later one is refused alone.
    pub(in crate::translate) fn lost(&self, listener: &GatewayListeners) -> Option<Refusal> {
        let (port, mine) = (listener.port, Protocol::parse(&listener.protocol));
        let hostname = claimed_hostname(listener);
        let on_port = |theirs: Protocol| Some((self.ports.get(&(port, theirs))?, mine.conflict(theirs, false)?));
        let on_hostname = |theirs: Protocol| Some((self.hostnames.get(&(port, theirs, hostname.clone()))?, mine.conflict(theirs, true)?));
        let conflicts = Protocol::ALL.into_iter().flat_map(|theirs| on_port(theirs).into_iter().chain(on_hostname(theirs)));
        let (claim, reason) = conflicts.min_by_key(|(claim, _)| claim.place)?;
        Some(Refusal::new(reason, format!("port {port}: listener {} was there before", quoted(claim.name))))
    }
}
