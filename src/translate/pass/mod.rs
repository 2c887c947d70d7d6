//! One translation: which parts a change touches, and in which order they are compiled again.

mod affinity;
mod ancestors;
mod backend_tls;
mod binds;
mod clusters;
mod gateways;
mod gloo_kinds;
pub(super) mod memo;
pub(super) mod preparation;
mod routes;
mod settle;
mod slots;
mod traffic;
pub(super) mod translation;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::base::{Kind, ObjectName, ObjectRef, StatusShape};
use crate::snapshot::{BackendName, Snapshot};
use crate::translate::{
    Changes, GlooStatus, GlooStatuses, Status, Translation,
    gateway::{gateway_class, infrastructure::Infrastructure, placement, state::GatewayState},
    gloo::{self, kinds::View, status::UpstreamFacts},
    last_good,
    notices::Topic,
    pass::memo::Memo,
    route::Dependency,
};

/// One translation under way.
struct Pass<'a> {
    view: View<'a>,
    changes: &'a Changes,
    first: bool,
    memo: Box<Memo>,
    out: Translation,
    dirty: Dirty,
    /// Statuses that changed, as they were before.
    old_statuses: BTreeMap<ObjectRef, Option<Arc<Status>>>,
}

/// What has to be done anew.
#[derive(Default)]
struct Dirty {
    routes: BTreeSet<ObjectRef>,
    /// Routes of which only what their status says is to be found anew.
    told: BTreeSet<ObjectRef>,
    /// Status of these Gateways and of all their ListenerSets.
    gateways: BTreeSet<ObjectName>,
    /// Status of these Gateways, and of those of their ListenerSets to which more or fewer routes are attached.
    counted: BTreeSet<ObjectName>,
    /// Hosts of these Gateways.
    hosts: BTreeSet<ObjectName>,
    /// Which sockets there are.
    sockets: bool,
    /// Which Services and ports ought to exist.
    infrastructure: bool,
    backends: BTreeSet<BackendName>,
    /// Status of these Upstreams.
    upstreams: BTreeSet<ObjectName>,
    /// Status of these RouteOptions.
    options: BTreeSet<ObjectName>,
    /// Status of these BackendTLSPolicies.
    policies: BTreeSet<ObjectName>,
    /// Status of these AffinityPolicies.
    affinity: BTreeSet<ObjectName>,
    /// Status of these XBackendTrafficPolicies.
    traffic: BTreeSet<ObjectName>,
    /// Maps of slots of these Services and Upstreams.
    slots: BTreeSet<ObjectRef>,
}

/// Translates what changed.
pub(super) fn run(view: View<'_>, previous: Option<Translation>) -> Translation {
    let first = previous.is_none();
    let mut out = previous.unwrap_or_default();
    out.changed_statuses.clear();
    out.notices.begin();
    let everything = if first { view.resources.everything() } else { Changes::default() };
    let changes = if first { &everything } else { view.resources.changes() };
    if !first && changes.is_empty() && out.memo.observed == *view.observed && !out.memo.tables.has_built() {
        return out;
    }
    let mut memo = std::mem::take(&mut out.memo);
    // Of the first translation everybody waits for every table.
    memo.tables.begin((!first).then_some(view.options.limits.table_entries_at_once));
    memo.patterns.begin();
    let mut pass = Pass { view, changes, first, memo, out, dirty: Dirty::default(), old_statuses: BTreeMap::new() };
    pass.refused();
    pass.last_good();
    pass.classes();
    pass.gateway_options();
    pass.gateways();
    pass.upstreams();
    pass.backend_tls();
    pass.options();
    pass.affinity();
    pass.traffic();
    pass.gaps();
    pass.collect_routes();
    pass.routes();
    pass.settle();
    pass.tell();
    let hosts_changed = pass.hosts();
    pass.slots_touched();
    let clusters_changed = pass.clusters();
    pass.slots();
    pass.statuses();
    pass.finish(hosts_changed, clusters_changed)
}

/// A reference to an object of this kind.
fn object(kind: Kind, name: &ObjectName) -> ObjectRef {
    ObjectRef { kind, name: name.clone() }
}

// === impl Pass: what is touched ===

impl Pass<'_> {
    fn touched(&self, kind: Kind) -> Vec<ObjectName> {
        self.changes.of(kind).cloned().collect()
    }

    fn dirty_dependents(&mut self, dependency: &Dependency) {
        self.dirty.routes.extend(self.memo.routes.dependents(dependency).cloned());
    }

    fn dirty_dependents_of(&mut self, kind: Kind, name: &ObjectName) {
        self.dirty_dependents(&Dependency::Object(object(kind, name)));
    }

    /// Routes of one Gateway mostly have equal statuses, and so have objects of Gloo's: those share one value.
    fn set_status(&mut self, object: ObjectRef, status: Option<Status>) {
        let status = status.map(|status| self.memo.statuses.share(status));
        if self.out.statuses.get(&object) == status.as_ref() {
            return;
        }
        let old = match status {
            Some(status) => self.out.statuses.insert(object.clone(), status),
            None => self.out.statuses.remove(&object),
        };
        self.old_statuses.entry(object).or_insert(old);
    }

    /// Notices of objects that no status can speak of.
    fn refused(&mut self) {
        for object in &self.changes.objects {
            let resources = self.view.resources;
            let notice = resources.refused(object).and_then(|refused| match (resources.generation(object), object.kind) {
                _ if refused.outline => None,
                (Some(_), kind) if kind.facts().status != StatusShape::None => None,
                (None, kind) if kind.facts().status == StatusShape::Gloo => None,
                (Some(generation), _) => Some(format!("{object}: {}", last_good::message(refused, generation))),
                (None, _) => Some(format!("{object}: {}; no version of it could be read, so it counts as missing", refused.message)),
            });
            self.out.notices.set(Topic::Refused(object.clone()), notice.into_iter().collect());
        }
    }
}

impl Pass<'_> {
    /// Which versions are to be kept beyond the process.
    fn last_good(&mut self) {
        if !self.view.options.keeps_last_good || !self.changes.last_good {
            return;
        }
        let (kept, left_out) = last_good::choose(self.view.resources.last_good_versions());
        self.out.notices.set(Topic::LastGood, last_good::notice(&left_out).into_iter().collect());
        if *self.out.last_good != kept {
            self.out.last_good = Arc::new(kept);
        }
    }
}

// === impl Pass: statuses and the end ===

impl Pass<'_> {
    /// Gateways whose status is to be made anew, and whether those of all their ListenerSets are, too.
    fn dirty_gateways(&mut self) -> BTreeMap<ObjectName, bool> {
        let counted = std::mem::take(&mut self.dirty.counted).into_iter().map(|name| (name, false));
        counted.chain(std::mem::take(&mut self.dirty.gateways).into_iter().map(|name| (name, true))).collect()
    }

    fn statuses(&mut self) {
        let View { resources, observed, options } = self.view;
        for (name, whole) in self.dirty_gateways() {
            let mut set_statuses = Vec::new();
            let status = self.memo.gateways.get_mut(&name).map(|state| {
                let (attached, recounted) = state.recount();
                let sets = state.compiled.sets.iter().filter(|set| whole || recounted.contains(&set.name));
                set_statuses = state.compiled.set_statuses(sets, &attached, resources, observed, options);
                Status::Gateway(state.compiled.status(&name, &attached, resources, observed, options))
            });
            for (set, status) in set_statuses {
                self.set_status(object(Kind::ListenerSet, &set), Some(Status::ListenerSet(status)));
            }
            self.set_status(object(Kind::Gateway, &name), status);
        }
        for name in std::mem::take(&mut self.dirty.upstreams) {
            let compiled = self.memo.gloo.upstream(&name);
            let backend = BackendName { kind: Kind::Upstream, name: name.clone(), port: None, policy: None, is_persistent: false };
            let ring_refusal = self.memo.ring_refusals.get(&backend).cloned();
            let no_hosts = self.memo.gaps.get(&backend).map(|gap| gap.to_string().into());
            let facts = UpstreamFacts { ring_refusal, no_hosts, ..self.memo.gloo.upstream_facts(&name) };
            let status = compiled.map(|upstream| gloo::status::upstream_status(upstream, &facts));
            self.set_gloo_status(object(Kind::Upstream, &name), status);
        }
        for name in std::mem::take(&mut self.dirty.policies) {
            let status = self.memo.backend_tls.status(&name, self.ancestors(self.memo.backend_tls.targets_of(&name)), resources, options);
            self.set_status(object(Kind::BackendTlsPolicy, &name), status.map(Status::Policy));
        }
        let (mut troubled, usual) = (self.troubled_affinity(), self.usual_affinity());
        for name in std::mem::take(&mut self.dirty.affinity) {
            let outcome = troubled.remove(&name).unwrap_or_else(|| usual.clone());
            let status = self.memo.affinity.status(&name, self.affinity_ancestors(&name), &outcome, resources, &options.controller_name);
            self.set_status(object(Kind::AffinityPolicy, &name), status.map(Status::Policy));
        }
        for name in std::mem::take(&mut self.dirty.traffic) {
            let status = self.memo.traffic.status(&name, self.traffic_ancestors(&name), resources, &options.controller_name);
            self.set_status(object(Kind::BackendTrafficPolicy, &name), status.map(Status::Policy));
        }
        for name in std::mem::take(&mut self.dirty.options) {
            let compiled = resources.route_option(&name).zip(self.memo.gloo.option(&name));
            let status = compiled
                .map(|(object, option)| gloo::status::route_option_status(option, &self.memo.gloo.option_facts(object, &name, resources)));
            self.set_gloo_status(object(Kind::RouteOption, &name), status);
        }
    }

    /// Whether it is a RouteOption that was never readable and names rules, which answer 500.
    fn refuses_though_unreadable(&self, object: &ObjectRef) -> bool {
        let option = self.memo.gloo.option(&object.name).filter(|_| object.kind == Kind::RouteOption);
        option.is_some_and(|option| !option.targets.is_empty())
    }

    /// The status of an object of Gloo's, unless its newest version cannot be decoded: then that is what there is to say.
    fn set_gloo_status(&mut self, object: ObjectRef, status: Option<GlooStatus>) {
        let resources = self.view.resources;
        let status = match resources.refused(&object) {
            Some(refused) => Some(gloo::status::undecodable_status(&match resources.generation(&object) {
                Some(serving) => last_good::message(refused, serving),
                None if self.refuses_though_unreadable(&object) => {
                    format!("{}; no version of it could be read, so rules of its targetRefs answer 500", refused.message)
                }
                None => refused.message.to_string(),
            })),
            None => status,
        };
        let key = self.view.options.status_key.to_string();
        let status = status.map(|status| Status::Gloo(GlooStatuses { statuses: BTreeMap::from([(key, status)]) }));
        self.set_status(object, status);
    }

    fn infrastructure(&self) -> Option<Infrastructure> {
        let View { resources, observed, options } = self.view;
        let ours = resources.gateway_classes().iter().filter(|(_, class)| gateway_class::is_ours(class, options));
        let classes = ours.map(|(name, _)| name.name.clone()).collect();
        let gateways = self.memo.gateways.iter().map(|(name, state)| (name, &state.compiled));
        placement::infrastructure(gateways, classes, observed, options)
    }

    fn finish(mut self, binds: Option<binds::Binds>, clusters_changed: bool) -> Translation {
        if binds.is_some() || clusters_changed {
            let binds = binds.unwrap_or_else(|| self.out.snapshot.binds.clone());
            let clusters = if clusters_changed { self.memo.clusters.array() } else { Arc::clone(&self.out.snapshot.clusters) };
            self.out.snapshot = Arc::new(Snapshot { binds, clusters });
        }
        if self.dirty.infrastructure
            && let Some(desired) = self.infrastructure()
            && *self.out.infrastructure != desired
        {
            self.out.infrastructure = Arc::new(desired);
        }
        if self.memo.observed != *self.view.observed {
            self.memo.observed = self.view.observed.clone();
        }
        self.out.hostname_conflicts = self.memo.gateways.values().map(GatewayState::conflicts).sum();
        // Some are compiled twice, and end with what they had before.
        let statuses = &self.out.statuses;
        let changed = self.old_statuses.into_iter().filter(|(object, old)| statuses.get(object) != old.as_ref());
        self.out.changed_statuses = changed.map(|(object, _)| object).collect();
        self.out.notices.end();
        self.out.memo = self.memo;
        self.out
    }
}
