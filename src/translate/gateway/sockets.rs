//! Which sockets a Gateway listens on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use crate::base::ObjectName;
use crate::snapshot::{BindAddress, TransportPort};
use crate::translate::{
    Options,
    condition::{Refusal, reason},
};

use super::{infrastructure::PortState, listener::CompiledListener};

/// Ports from which one is taken where the declared one is taken.
const INTERNAL_PORTS: std::ops::RangeInclusive<u16> = 10_000..=29_999;

/// A declared port further away where a port is taken.
const INTERNAL_OFFSET: u16 = 8_000;

/// A socket and the listeners that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct Socket {
    /// What is bound.
    pub(in crate::translate) bind: BindAddress,
    /// The port that the listeners declare.
    pub(in crate::translate) port: TransportPort,
    /// Indexes of the listeners.
    pub(in crate::translate) listeners: Vec<usize>,
}

/// Sockets that older Gateways have.
#[derive(Debug, Default)]
pub(super) struct Taken {
    sockets: Vec<(BindAddress, ObjectName)>,
}

// === impl Taken ===

impl Taken {
    fn owner(&self, bind: BindAddress) -> Option<&ObjectName> {
        self.sockets.iter().find(|(taken, _)| taken.overlaps(bind)).map(|(_, owner)| owner)
    }
}

/// Deals out the sockets of a Gateway. A listener whose port an older Gateway has is refused where ports are shared.
pub(super) fn assign(
    gateway: &ObjectName,
    listeners: &mut [CompiledListener],
    addresses: &[IpAddr],
    options: &Options,
    taken: &mut Taken,
) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for port in declared_ports(listeners) {
        let on_port =
            || listeners.iter().enumerate().filter(move |(_, listener)| listener.claims_hostname() && listener.shape.port == port);
        let indexes: Vec<usize> = on_port().map(|(index, _)| index).collect();
        match bind_port(gateway, port, addresses, options, taken) {
            Ok(bound) => sockets.extend(bound.into_iter().map(|bind| Socket { bind, port, listeners: indexes.clone() })),
            Err(refusal) => {
                for listener in listeners.iter_mut().filter(|listener| listener.is_valid() && listener.shape.port == port) {
                    listener.refused = Some(refusal.clone());
                }
            }
        }
    }
    sockets
}

/// The sockets of a Gateway in a cluster: the internal ports that it has been given.
pub(super) fn internal_sockets(listeners: &[CompiledListener], states: &BTreeMap<TransportPort, PortState>, bind: IpAddr) -> Vec<Socket> {
    let internal = states.iter().filter_map(|(port, state)| match state {
        PortState::Internal(internal) => Some((*port, *internal)),
        PortState::NotAllocated | PortState::Duplicate { .. } => None,
    });
    let sockets = internal.map(|(port, internal)| {
        let on_port = listeners.iter().enumerate().filter(|(_, listener)| listener.claims_hostname() && listener.shape.port == port);
        let bind = BindAddress { address: SocketAddr::new(bind, internal), transport: port.transport };
        Socket { bind, port, listeners: on_port.map(|(index, _)| index).collect() }
    });
    sockets.collect()
}

/// Ports of the valid listeners.
pub(super) fn declared_ports(listeners: &[CompiledListener]) -> BTreeSet<TransportPort> {
    listeners.iter().filter(|listener| listener.is_valid()).map(|listener| listener.shape.port).collect()
}

fn bind_port(
    gateway: &ObjectName,
    port: TransportPort,
    addresses: &[IpAddr],
    options: &Options,
    taken: &mut Taken,
) -> Result<Vec<BindAddress>, Refusal> {
    let mut bound: Vec<BindAddress> = Vec::new();
    for ip in addresses {
        let declared = BindAddress { address: SocketAddr::new(*ip, port.number), transport: port.transport };
        if bound.iter().any(|mine| mine.overlaps(declared)) {
            continue;
        }
        match taken.owner(declared) {
            None => bound.push(declared),
            Some(owner) if options.shared_ports => {
                let message = format!(
                    "port {port}: {declared} belongs to the older Gateway {owner}; give one of them another port or spec.addresses"
                );
                return Err(Refusal::new(reason::PORT_UNAVAILABLE, message));
            }
            Some(_) => bound.extend(internal(declared, taken)),
        }
    }
    taken.sockets.extend(bound.iter().map(|bind| (*bind, gateway.clone())));
    Ok(bound)
}

/// A free port in place of one that is taken, where each Gateway has its own address in front.
fn internal(declared: BindAddress, taken: &Taken) -> Option<BindAddress> {
    let preferred = declared.address.port().checked_add(INTERNAL_OFFSET);
    let candidates = preferred.into_iter().chain(INTERNAL_PORTS);
    let at = |port| BindAddress { address: SocketAddr::new(declared.address.ip(), port), ..declared };
    candidates.map(at).find(|bind| taken.owner(*bind).is_none())
}
