//! A Gateway's place in a cluster: its internal ports, its Services, its addresses.

pub(super) mod placed;

use std::collections::BTreeSet;

use crate::base::ObjectName;
use crate::snapshot::Observed;
use crate::translate::Options;

use super::{
    compiled::CompiledGateway,
    infrastructure::{self, Infrastructure},
    sockets,
};

/// Gives Gateways, in the order of age, the sockets of the internal ports that they have.
pub(in crate::translate) fn place<'a>(
    gateways: impl IntoIterator<Item = (usize, &'a ObjectName, &'a mut CompiledGateway)>,
    observed: &Observed,
    options: &Options,
) {
    let mut placed: Vec<_> = gateways.into_iter().collect();
    for (rank, _, gateway) in &mut placed {
        let ports = if gateway.refused.is_none() { sockets::declared_ports(&gateway.listeners) } else { BTreeSet::new() };
        if let Some(placement) = &mut gateway.placement {
            placement.rank = *rank;
            placement.ports = ports;
        }
    }
    let wanted: Vec<_> = placed
        .iter()
        .filter_map(|(_, name, gateway)| Some(infrastructure::wanted_ports(&gateway.placement.as_ref()?.facts(name))))
        .flatten()
        .collect();
    let Some(values) = options.infrastructure.as_deref() else { return };
    let states = infrastructure::port_states(&wanted, observed, values);
    for (_, _, gateway) in placed {
        let Some(placement) = &mut gateway.placement else { continue };
        let of_gateway = states.iter().filter(|(key, _)| key.uid == placement.uid);
        placement.states = of_gateway.map(|(key, state)| (key.port, state.clone())).collect();
        gateway.sockets = sockets::internal_sockets(&gateway.listeners, &placement.states, options.bind);
    }
}

/// The Services and ports that ought to exist for these Gateways. `classes`: the GatewayClasses of ours.
pub(in crate::translate) fn infrastructure<'a>(
    gateways: impl Iterator<Item = (&'a ObjectName, &'a CompiledGateway)>,
    classes: BTreeSet<Box<str>>,
    observed: &Observed,
    options: &Options,
) -> Option<Infrastructure> {
    let values = options.infrastructure.as_deref()?;
    let mut placed: Vec<_> = gateways.filter_map(|(name, gateway)| Some((name, gateway.placement.as_ref()?))).collect();
    placed.sort_by_key(|(_, placement)| placement.rank);
    let used_classes = placed.iter().map(|(_, placement)| placement.class.clone()).filter(|class| classes.contains(class)).collect();
    let facts = placed.into_iter().map(|(name, placement)| placement.facts(name));
    Some(Infrastructure { classes, used_classes, ..infrastructure::desired(facts, options.bind, observed, values) })
}

#[cfg(test)]
mod tests;
