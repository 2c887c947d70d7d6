//! Gloo's kinds: how each of their fields is answered, their statuses, and what the routes make of Upstreams and RouteOptions.

pub mod fields;
pub mod findings;
pub mod route_option;
pub mod status;

pub(super) mod gateway_option;
pub(super) mod kinds;
