//! A request whose tag was unknown, looked at once more with a newer snapshot.

use std::sync::Arc;

use crate::snapshot::{Action, Bind, Snapshot, Target};

use super::{
    backend,
    decision::{KeySource, Outcome, Plan},
    session::SessionState,
};

/// Whether the host of a request's session is known by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebind {
    /// It is, and the plan leads there.
    Bound,
    /// It is not.
    Unknown,
}

impl Plan {
    /// Whether the request came with a tag of which this process knows nothing: others may know its host already.
    pub fn has_unknown_tag(&self) -> bool {
        match &self.outcome {
            Outcome::Forward(forward) => forward.session.as_ref().is_some_and(|session| session.state == SessionState::Unknown),
            Outcome::Reply(_) => false,
        }
    }

    /// Leads the request to the host of its tag, if the snapshot has it. What is planned stays as it is otherwise.
    pub fn rebind(&mut self, snapshot: &Snapshot, bind: &Bind) -> Rebind {
        let Some(entry) = self.matched.clone() else { return Rebind::Unknown };
        let (Outcome::Forward(plan), Action::Forward(rule)) = (&mut self.outcome, &entry.rule.action) else { return Rebind::Unknown };
        let found = plan.session.as_ref().and_then(|session| session.find_again(rule, &entry.rule.policy, snapshot));
        let Some((found, to)) = found.and_then(|found| Some((found, rule.backends.get(found.backend)?))) else { return Rebind::Unknown };
        // The filters of the backend that was drawn have changed the head already.
        let drawn = self.backend.and_then(|drawn| rule.backends.get(drawn));
        let is_filtered = to.filters.is_some() || drawn.is_some_and(|drawn| drawn.filters.is_some());
        if self.backend != Some(found.backend) && is_filtered {
            return Rebind::Unknown;
        }
        let Target::Cluster(id) = &to.target else { return Rebind::Unknown };
        let Some(cluster) = snapshot.cluster(*id) else { return Rebind::Unknown };
        self.backend = Some(found.backend);
        plan.cluster = Arc::clone(cluster);
        plan.protocol = entry.rule.upstream_protocol(cluster);
        plan.tls = backend::host_tls(cluster, bind);
        plan.host = found.host;
        plan.key_source = KeySource::Bound;
        plan.session = plan.session.take().map(|session| session.bound_to(found.host));
        Rebind::Bound
    }
}
