//! What rules have in common: equal policies and equal backends are there once.

use std::{cell::RefCell, sync::Arc};

use crate::snapshot::{Backend, RoutePolicy};
use crate::translate::recent::Recent;

/// Policies and backends given out to rules.
#[derive(Debug, Default)]
pub(in crate::translate) struct Common {
    default_policy: Arc<RoutePolicy>,
    policies: RefCell<Recent<RoutePolicy>>,
    backends: RefCell<Recent<[Backend]>>,
}

// === impl Common ===

impl Common {
    /// The policy of a rule that says nothing.
    pub(super) fn default_policy(&self) -> Arc<RoutePolicy> {
        Arc::clone(&self.default_policy)
    }

    /// A policy, shared with other rules where they have the same.
    pub(super) fn policy(&self, policy: RoutePolicy) -> Arc<RoutePolicy> {
        if policy == *self.default_policy { self.default_policy() } else { self.policies.borrow_mut().share(policy) }
    }

    /// Backends, shared with other rules where they have the same; those with filters of their own are not compared.
    pub(super) fn backends(&self, backends: Vec<Backend>) -> Arc<[Backend]> {
        let same = |a: &Backend, b: &Backend| a.name == b.name && a.target == b.target && a.filters.is_none() && b.filters.is_none();
        let mut recent = self.backends.borrow_mut();
        let known = recent.find(|known| known.len() == backends.len() && known.iter().zip(&backends).all(|(a, b)| same(a, b)));
        known.unwrap_or_else(|| recent.add(backends.into()))
    }
}
