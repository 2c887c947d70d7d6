//! Placeholder of the owner's files.

/// `gloo.solo.io/v1` Upstream.
#[derive(Clone, Debug)]
pub struct Upstream {}

/// `gateway.solo.io/v1` RouteOption.
#[derive(Clone, Debug)]
pub struct RouteOption {}
