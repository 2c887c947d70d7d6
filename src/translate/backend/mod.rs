//! What stands behind a route: Services with their EndpointSlices, Upstreams, and how their hosts are spoken to.

pub mod endpoints;
pub mod upstream;

pub(super) mod app_protocol;
pub(super) mod backend_tls;
pub(super) mod traffic;
pub(super) mod unready;
