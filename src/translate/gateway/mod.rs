//! Gateways: their class and parameters, the listeners that they and ListenerSets have, where in a cluster they are reached, and what each
//! makes of the routes that are attached to it.

pub mod infrastructure;

pub(super) mod claims;
pub(super) mod compile;
pub(super) mod compiled;
pub(super) mod gateway_class;
pub(super) mod gateway_parameters;
pub(super) mod hostname_conflicts;
pub(super) mod listener;
pub(super) mod listener_set;
pub(super) mod namespaces;
pub(super) mod parameters;
pub(super) mod parameters_ref;
pub(super) mod placement;
pub(super) mod protocol;
pub(super) mod sockets;
pub(super) mod state;
pub(super) mod tls;
