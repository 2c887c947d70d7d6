//! AffinityPolicies of a pass.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::creation_timestamp;
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Observed, backend_digest};

use crate::translate::{
    affinity::{Outcome, ReplicasOf, TARGETS},
    route::Dependency,
    slots::{desired::Need, object as slots_object},
};

use super::{Pass, memo::Memo, object};

impl Pass<'_> {
    /// Compiles the policies anew that were touched, and whatever they count for.
    pub(super) fn affinity(&mut self) {
        let touched = self.touched(Kind::AffinityPolicy);
        self.affinity_anew(&touched);
        let (before, now) = (&self.memo.observed, self.view.observed);
        if before.agreement != now.agreement || before.refused_slots != now.refused_slots {
            self.dirty.affinity.extend(self.memo.affinity.names().cloned());
        }
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

    /// What became of the policies with which something is wrong. Clusters are looked through only while there is anything.
    pub(super) fn troubled_affinity(&self) -> BTreeMap<ObjectName, Outcome> {
        let Observed { agreement, refused_slots, .. } = self.view.observed;
        let differing = agreement.as_ref().map(|found| &found.disagreements).filter(|differing| !differing.is_empty());
        let mut troubled = BTreeMap::<ObjectName, Outcome>::new();
        if self.dirty.affinity.is_empty() || (differing.is_none() && refused_slots.is_empty()) {
            return troubled;
        }
        for backend in self.memo.clusters.backends().filter(|backend| !self.memo.clusters.is_retired(backend)) {
            let Some(counting) = self.memo.affinity.counting_for(backend, self.view.resources) else { continue };
            let needs_slots = Need::of(counting.settings.ok().map(|settings| &**settings)).is_some();
            let refused = refused_slots
                .get_key_value(&slots_object::name_of(&ObjectRef { kind: backend.kind, name: backend.name.clone() }))
                .filter(|_| needs_slots);
            let since = differing.and_then(|differing| differing.get(&backend_digest(backend)));
            if refused.is_some() || since.is_some() {
                let outcome = troubled.entry(counting.name.clone()).or_insert_with(|| self.usual_affinity());
                outcome.refused_slots.extend(refused.map(|(name, why)| (name.clone(), why.clone())));
                outcome.disagree(since.into_iter().flatten());
            }
        }
        troubled
    }

    /// What became of a policy with which nothing is wrong.
    pub(super) fn usual_affinity(&self) -> Outcome {
        let agreement = self.view.observed.agreement.as_ref();
        let agreement = agreement.map(|found| if found.compared { ReplicasOf::Agree } else { ReplicasOf::Sole });
        Outcome { agreement, refused_slots: BTreeMap::new() }
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
