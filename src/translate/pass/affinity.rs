//! AffinityPolicies of a pass.

use std::collections::BTreeSet;

use crate::api::creation_timestamp;
use crate::base::{Kind, ObjectName};
use crate::snapshot::BackendName;

use crate::translate::{affinity::TARGETS, route::Dependency};

use super::{Pass, memo::Memo, object};

impl Pass<'_> {
    /// Compiles the policies anew that were touched, and whatever they count for.
    pub(super) fn affinity(&mut self) {
        let touched = self.touched(Kind::AffinityPolicy);
        self.affinity_anew(&touched);
        // Whether there are the targets and sections that policies name.
        for target in self.changes.objects.iter().filter(|object| TARGETS.contains(&object.kind)) {
            self.dirty.affinity.extend(self.memo.affinity.naming(target).cloned());
        }
    }

    /// Compiles these policies anew, and whatever they count for.
    pub(super) fn affinity_anew(&mut self, policies: &[ObjectName]) {
        if policies.is_empty() {
            return;
        }
        let before = self.memo.affinity.clone();
        for name in policies {
            self.affinity_policy(name);
        }
        for changed in self.memo.affinity.settle(&before) {
            if changed.kind.is_route() {
                self.dirty.routes.insert(changed);
            } else {
                self.dirty.backends.extend(self.memo.clusters.of(changed.kind, &changed.name));
                // What is said of Upstreams whose rules have no key.
                self.dirty_dependents(&Dependency::Object(changed));
            }
        }
        let is_of_them = |backend: &&BackendName| backend.policy.as_ref().is_some_and(|policy| policies.contains(policy));
        self.dirty.backends.extend(self.memo.clusters.backends().filter(is_of_them).cloned());
        self.dirty.affinity.extend(policies.iter().cloned());
        // Whether another one counts for a section of their targets.
        self.dirty.affinity.extend(self.memo.affinity.names().cloned());
    }

    /// Compiles a policy anew, within what is left for its regular expressions.
    fn affinity_policy(&mut self, name: &ObjectName) {
        let user = object(Kind::AffinityPolicy, name);
        let Memo { affinity, patterns, pattern_demands, .. } = &mut *self.memo;
        let allowance = patterns.allowance(pattern_demands.available(&user, self.view.options.limits.pattern_price));
        affinity.compile(name, self.view.resources, &allowance);
        let (price, denied) = allowance.spent();
        let age = self.view.resources.affinity_policy(name).and_then(|policy| creation_timestamp(&policy.metadata));
        pattern_demands.demand(&user, price, age, denied);
    }

    /// The Gateways through which requests come to the targets of a policy.
    pub(super) fn affinity_ancestors(&self, policy: &ObjectName) -> BTreeSet<ObjectName> {
        let Memo { affinity, routes, .. } = &*self.memo;
        let mut ancestors = BTreeSet::new();
        for target in affinity.objects_of(policy) {
            let dependency = Dependency::Object(target.clone());
            let named = target.kind.is_route().then_some(target);
            let users = named.into_iter().chain(routes.dependents(&dependency)).filter_map(|route| routes.named(route));
            ancestors.extend(users.flat_map(|route| &route.attachments).map(|attachment| (*attachment.gateway).clone()));
        }
        ancestors
    }
}
