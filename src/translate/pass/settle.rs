//! What depends on several objects: budgets that are spent, hostnames that are claimed twice, paths with too many matches.
//!
//! It is decided after all changes are compiled, from all objects, so that their order does not matter. Objects for which the decision
//! differs are compiled once more.

use crate::base::{Kind, ObjectName};
use crate::translate::{gateway::state::Judged, notices::Topic};

use super::Pass;

impl Pass<'_> {
    /// Decides, and tells those whom it concerns. Who owns a hostname decides whose matches and patterns count; which of these there are decides
    /// what is tried one after another, and that is the end.
    pub(super) fn settle(&mut self) {
        let others_own = self.judge_hostnames();
        let others_may = self.share_out_patterns();
        if others_own || others_may {
            self.judge_hostnames();
        }
    }

    /// Returns whether that makes a difference to anybody.
    fn judge_hostnames(&mut self) -> bool {
        for name in self.dirty.hosts.iter().cloned().collect::<Vec<_>>() {
            let Some(gateway) = self.memo.gateways.get_mut(&name) else { continue };
            for Judged { listener, hostname, routes, notices } in gateway.judge(&self.memo.routes, self.view.options) {
                self.dirty.routes.extend(routes);
                self.out.notices.set(Topic::Hostname { gateway: name.clone(), listener, hostname }, notices);
            }
        }
        let any = !self.dirty.routes.is_empty();
        self.routes_once_more();
        any
    }

    /// Returns whether that makes a difference to anybody.
    fn share_out_patterns(&mut self) -> bool {
        let concerned = self.memo.pattern_demands.settle(self.view.options.limits.pattern_price);
        let any = !concerned.is_empty();
        let mut policies = Vec::new();
        for user in concerned {
            match user.kind {
                Kind::RouteOption => self.option(&user.name),
                Kind::AffinityPolicy => policies.push(user.name),
                _ => drop(self.dirty.routes.insert(user)),
            }
        }
        self.affinity_anew(&policies);
        self.routes_once_more();
        any
    }

    fn routes_once_more(&mut self) {
        if !self.dirty.routes.is_empty() {
            self.routes();
        }
    }

    /// Nothing is said any more of the hostnames of a Gateway that is gone or has other listeners.
    pub(super) fn forget_hostnames(&mut self, gateway: &ObjectName) {
        let judged: Vec<_> = self.memo.gateways.get(gateway).into_iter().flat_map(|state| state.judged()).collect();
        for (listener, hostname) in judged {
            self.out.notices.set(Topic::Hostname { gateway: gateway.clone(), listener, hostname }, Vec::new());
        }
    }
}
