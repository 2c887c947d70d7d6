//! XBackendTrafficPolicies of a pass.

use std::collections::BTreeSet;

use crate::base::{Kind, ObjectName};
use crate::translate::route::Dependency;

use super::{Pass, memo::Memo};

impl Pass<'_> {
    /// Compiles the policies anew where one of them was touched.
    pub(super) fn traffic(&mut self) {
        let touched = self.touched(Kind::BackendTrafficPolicy);
        if !touched.is_empty() {
            for backend in self.memo.traffic.update(self.view.resources) {
                self.dirty_dependents(&Dependency::Object(backend));
            }
            self.dirty.traffic.extend(touched);
            // Whether another one counts for its targets.
            self.dirty.traffic.extend(self.memo.traffic.names().cloned());
        }
        // Whether there are the targets that policies name.
        for target in self.changes.objects.iter().filter(|object| matches!(object.kind, Kind::Service | Kind::Upstream)) {
            self.dirty.traffic.extend(self.memo.traffic.naming(target).cloned());
        }
    }

    /// The Gateways through which requests come to the targets of a policy.
    pub(super) fn traffic_ancestors(&self, policy: &ObjectName) -> BTreeSet<ObjectName> {
        let Memo { traffic, routes, .. } = &*self.memo;
        let dependencies = traffic.targets_of(policy).map(|target| Dependency::Object(target.clone()));
        let users: Vec<_> = dependencies.flat_map(|dependency| routes.dependents(&dependency).cloned().collect::<Vec<_>>()).collect();
        let attached = users.iter().filter_map(|route| routes.named(route)).flat_map(|route| &route.attachments);
        attached.map(|attachment| (*attachment.gateway).clone()).collect()
    }
}
