//! What the proxy asks of `plan` beyond the plan itself.

use std::time::Duration;

use http::response;

use crate::{
    plan::ForwardPlan,
    snapshot::{Bind, Rule},
};

/// The host to try after those that were tried.
pub(super) fn next_host(plan: &ForwardPlan, tried: &[u32]) -> Option<u32> {
    (0..plan.cluster.hosts.len()).filter_map(|index| u32::try_from(index).ok()).find(|index| !tried.contains(index))
}

/// Applies response filters.
pub(super) fn finish_response(
    _parts: &mut response::Parts,
    _bind: &Bind,
    _rule: Option<&Rule>,
    _forward: Option<&ForwardPlan>,
    _upstream: Option<Duration>,
) {
}
