//! Routes of a pass.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Route, object_name};
use crate::base::{Kind, ObjectRef};
use crate::snapshot::BackendName;
use crate::translate::{
    Status,
    notices::Topic,
    route::{self, CompiledRoute, Dependency, RouteContext, RouteReport, table::RouteId},
};

use super::{Pass, memo::Memo, object};

impl Pass<'_> {
    /// Routes tell why a Service that they name has no endpoints: those are dirty for which that has changed.
    pub(super) fn gaps(&mut self) {
        let Memo { clusters, gaps, .. } = &*self.memo;
        let touched = self.changes.of(Kind::Service).chain(&self.changes.endpoints).flat_map(|service| clusters.of(Kind::Service, service));
        let without_slices = gaps.iter().filter(|(_, gap)| gap.may_concern(self.changes)).map(|(backend, _)| backend.clone());
        let touched: BTreeSet<BackendName> = touched.chain(without_slices).filter(|backend| backend.kind == Kind::Service).collect();
        let changed =
            touched.into_iter().filter(|backend| gaps.get(backend) != route::gap(backend, self.view.resources, self.view.options).as_ref());
        for service in changed.map(|backend| backend.name).collect::<BTreeSet<_>>() {
            let dependency = Dependency::Object(object(Kind::Service, &service));
            self.dirty.told.extend(self.memo.routes.dependents(&dependency).cloned());
        }
    }

    /// Tells routes what has come to be known of their backends. What they do stays, and with it their places in the snapshot.
    pub(super) fn tell(&mut self) {
        for name in std::mem::take(&mut self.dirty.told) {
            if let Some(route) = self.view.resources.route(&name) {
                let (_, report, _) = self.compile(&name, &route);
                self.report(&name, report);
            }
        }
    }

    pub(super) fn collect_routes(&mut self) {
        for name in self.changes.objects.iter().filter(|object| object.kind.is_route()).cloned() {
            let options = self.view.resources.route_options_of(&name);
            self.dirty.options.extend(options.map(|option| object_name(&option.metadata)));
            self.dirty.routes.insert(name);
        }
        for kind in [Kind::Service, Kind::Namespace] {
            for name in self.touched(kind) {
                self.dirty_dependents_of(kind, &name);
            }
        }
        for grant in self.touched(Kind::ReferenceGrant) {
            self.dirty_dependents(&Dependency::Grants(grant.namespace));
        }
    }

    pub(super) fn routes(&mut self) {
        let dirty = std::mem::take(&mut self.dirty.routes);
        // All are detached before any is attached: listeners may have changed places.
        let replaced: BTreeMap<_, _> = dirty.iter().filter_map(|name| Some((name.clone(), self.detach(name)?))).collect();
        for name in &dirty {
            self.dirty.told.remove(name);
            self.route(name, replaced.contains_key(name));
        }
        // Only now, so that a backend which is still used keeps its id.
        for backend in replaced.values().flat_map(|(_, old)| &old.backends) {
            self.memo.clusters.release(backend);
        }
    }

    fn detach(&mut self, name: &ObjectRef) -> Option<(RouteId, Box<CompiledRoute>)> {
        let (id, old) = self.memo.routes.take(name)?;
        self.dirty_policies_of(&old);
        for attachment in &old.attachments {
            if let Some(gateway) = self.memo.gateways.get_mut(&*attachment.gateway) {
                gateway.detach(id, attachment);
                self.dirty.hosts.insert((*attachment.gateway).clone());
            }
        }
        for one in &old.option_uses {
            self.memo.gloo.remove_use(&old.name, one);
            self.dirty.options.insert(one.option.clone());
        }
        for rules in &old.unkeyed {
            self.memo.gloo.remove_unkeyed(&old.name, rules);
            self.dirty.upstreams.insert(rules.upstream.clone());
        }
        Some((id, old))
    }

    /// Compiles a route and attaches it, or forgets it.
    fn route(&mut self, name: &ObjectRef, replaced: bool) {
        let topic = Topic::Object(name.clone());
        let Some(route) = self.view.resources.route(name) else {
            if replaced {
                self.memo.routes.forget(name);
            }
            self.memo.pattern_demands.demand(name, 0, None, false);
            self.out.notices.set(topic, Vec::new());
            return self.set_status(name.clone(), None);
        };
        let user = name.clone();
        let (compiled, report, (price, denied)) = self.compile(name, &route);
        self.memo.pattern_demands.demand(&user, price, compiled.age, denied);
        for backend in &compiled.backends {
            self.memo.clusters.retain(backend);
        }
        self.report(name, report);
        self.attach(name, compiled);
    }

    /// The route, what is said of it, and what its patterns cost: their price, and whether some had to be denied.
    fn compile(&mut self, name: &ObjectRef, route: &Route) -> (CompiledRoute, RouteReport, (u64, bool)) {
        let user = name.clone();
        let Memo { gateways, gloo, affinity, backend_tls, traffic, clusters, common, patterns, pattern_demands, .. } = &mut *self.memo;
        let allowance = patterns.allowance(pattern_demands.available(&user, self.view.options.limits.pattern_price));
        let (resources, options) = (self.view.resources, self.view.options);
        let context = RouteContext {
            resources,
            gateways,
            gloo,
            affinity,
            backend_tls: backend_tls.attachments(),
            traffic,
            options,
            common,
            allowance: &allowance,
        };
        let (compiled, report) = route::compile(name, route, &context, &mut |backend| clusters.id(backend));
        // What is attached nowhere is not kept, and its patterns are not either.
        let spent = if compiled.entries.is_empty() && compiled.last_resort.is_empty() { (0, false) } else { allowance.spent() };
        (compiled, report, spent)
    }

    fn report(&mut self, name: &ObjectRef, report: RouteReport) {
        let user = name.clone();
        self.out.notices.set(Topic::Object(user.clone()), report.notices);
        self.set_status(user, report.status.map(Status::Route));
    }

    fn attach(&mut self, name: &ObjectRef, compiled: CompiledRoute) {
        let id = self.memo.routes.id(name);
        self.dirty_policies_of(&compiled);
        for attachment in &compiled.attachments {
            if let Some(gateway) = self.memo.gateways.get_mut(&*attachment.gateway) {
                gateway.attach(id, attachment, compiled.accepted);
                self.dirty.hosts.insert((*attachment.gateway).clone());
            }
        }
        for one in &compiled.option_uses {
            self.memo.gloo.add_use(&compiled.name, one);
            self.dirty.options.insert(one.option.clone());
        }
        for rules in &compiled.unkeyed {
            self.memo.gloo.add_unkeyed(&compiled.name, rules);
            self.dirty.upstreams.insert(rules.upstream.clone());
        }
        self.memo.routes.put(id, compiled);
    }
}
