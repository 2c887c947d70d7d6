//! One translation: which parts a change touches, and in which order they are done anew.

use std::{borrow::Cow, collections::BTreeMap, collections::BTreeSet, sync::Arc};

use crate::base::{Kind, ObjectName, ObjectRef};
use crate::snapshot::{BackendName, Snapshot};

use super::{
    Changes, GlooStatus, GlooStatuses, Status, Translation, cluster, gateway, gateway_class,
    gateways::GatewayState,
    gloo_kinds::View,
    gloo_status,
    http_route::{self, CompiledRoute, Dependency, RouteContext},
    last_good,
    memo::{Memo, Topic},
    route_table::RouteId,
};

/// One translation under way.
struct Pass<'a> {
    view: View<'a>,
    changes: Cow<'a, Changes>,
    first: bool,
    memo: Box<Memo>,
    out: Translation,
    dirty: Dirty,
}

/// What has to be done anew.
#[derive(Default)]
struct Dirty {
    routes: BTreeSet<ObjectName>,
    /// Status of these Gateways.
    gateways: BTreeSet<ObjectName>,
    /// Hosts of these Gateways.
    hosts: BTreeSet<ObjectName>,
    /// Which sockets there are.
    sockets: bool,
    backends: BTreeSet<BackendName>,
    /// Status of these Upstreams.
    upstreams: BTreeSet<ObjectName>,
    /// Status of these RouteOptions.
    options: BTreeSet<ObjectName>,
}

/// Translates what changed.
pub(super) fn run(view: View<'_>, previous: Option<Translation>) -> Translation {
    let first = previous.is_none();
    let mut out = previous.unwrap_or_default();
    out.changed_statuses.clear();
    let changes = if first { Cow::Owned(view.resources.everything()) } else { Cow::Borrowed(view.resources.changes()) };
    if !first && changes.is_empty() && out.memo.observed == *view.observed {
        return out;
    }
    let memo = std::mem::take(&mut out.memo);
    let mut pass = Pass { view, changes, first, memo, out, dirty: Dirty::default() };
    pass.refused();
    pass.classes();
    pass.gateways();
    pass.upstreams();
    pass.options();
    pass.collect_routes();
    pass.routes();
    let hosts_changed = pass.hosts();
    let clusters_changed = pass.clusters();
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

    fn set_status(&mut self, object: ObjectRef, status: Option<Status>) {
        let same = self.out.statuses.get(&object).map(|old| &**old) == status.as_ref();
        if same {
            return;
        }
        match status {
            Some(status) => drop(self.out.statuses.insert(object.clone(), Arc::new(status))),
            None => drop(self.out.statuses.remove(&object)),
        }
        self.out.changed_statuses.push(object);
    }

    /// Notices of objects that no status can speak of.
    fn refused(&mut self) {
        for object in self.changes.clone().objects.iter() {
            let resources = self.view.resources;
            let notice = resources.refused(object).and_then(|refused| match (resources.generation(object), object.kind) {
                (Some(_), Kind::Gateway | Kind::GatewayClass | Kind::HttpRoute | Kind::Upstream | Kind::RouteOption) => None,
                (None, Kind::Upstream | Kind::RouteOption) => None,
                (Some(generation), _) => Some(format!("{object}: {}", last_good::message(refused, generation))),
                (None, _) => Some(format!("{object}: {}; no version of it could be read, so it is not there", refused.message)),
            });
            self.memo.notices.set(Topic::Refused(object.clone()), notice.into_iter().collect());
        }
    }

    fn classes(&mut self) {
        for name in self.touched(Kind::GatewayClass) {
            let class = self.view.resources.gateway_classes().get(&name).filter(|class| gateway_class::is_ours(class, self.view.options));
            let status = class.map(|class| Status::GatewayClass(gateway_class::status(class, &name, self.view.resources)));
            let notice = class.and_then(|class| gateway_class::notice(class, &name, self.view.options));
            self.set_status(object(Kind::GatewayClass, &name), status);
            self.memo.notices.set(Topic::Object(object(Kind::GatewayClass, &name)), notice.into_iter().collect());
        }
    }
}

// === impl Pass: Gateways ===

impl Pass<'_> {
    fn gateways(&mut self) {
        if self.memo.observed.bound != self.view.observed.bound {
            self.dirty.gateways.extend(self.memo.gateways.keys().cloned());
        }
        let touched = self.touched(Kind::Gateway);
        if !self.first && touched.is_empty() && self.changes.of(Kind::GatewayClass).next().is_none() {
            return;
        }
        let compiled = gateway::compile_all(self.view.resources, self.view.options);
        self.gateway_notices(&touched);
        for name in touched {
            self.dirty.gateways.insert(name.clone());
            if !compiled.contains_key(&name) {
                // Routes say in a notice whether there is such a Gateway at all.
                self.dirty_dependents_of(Kind::Gateway, &name);
            }
        }
        let gone: Vec<_> = self.memo.gateways.keys().filter(|name| !compiled.contains_key(*name)).cloned().collect();
        for name in gone {
            self.memo.gateways.remove(&name);
            self.dirty.sockets = true;
            self.dirty.gateways.insert(name.clone());
            self.dirty_dependents_of(Kind::Gateway, &name);
        }
        for (name, compiled) in compiled {
            self.update_gateway(name, compiled);
        }
    }

    fn update_gateway(&mut self, name: ObjectName, compiled: gateway::CompiledGateway) {
        let relisted = match self.memo.gateways.get_mut(&name) {
            Some(state) if state.compiled == compiled => return,
            Some(state) => state.replace(compiled),
            None => {
                self.memo.gateways.insert(name.clone(), GatewayState::new(compiled));
                true
            }
        };
        if relisted {
            self.dirty_dependents_of(Kind::Gateway, &name);
        }
        self.dirty.sockets = true;
        self.dirty.gateways.insert(name);
    }

    fn gateway_notices(&mut self, touched: &[ObjectName]) {
        let resources = self.view.resources;
        let gone = touched.iter().filter(|name| !resources.gateways().contains_key(*name)).map(|name| (name, None));
        let there = resources.gateways().iter().map(|(name, gateway)| (name, Some(&*gateway.spec.gateway_class_name)));
        for (name, class) in gone.chain(there) {
            let notice = class.filter(|class| resources.gateway_class(class).is_none()).map(|class| {
                format!(
                    "Gateway {name}: spec.gatewayClassName: there is no GatewayClass {class}, so this Gateway is not served; apply one with \
                     spec.controllerName {}",
                    self.view.options.controller_name
                )
            });
            self.memo.notices.set(Topic::Object(object(Kind::Gateway, name)), notice.into_iter().collect());
        }
    }
}

// === impl Pass: Gloo's kinds ===

impl Pass<'_> {
    fn upstreams(&mut self) {
        let mut touched: BTreeSet<_> = self.changes.of(Kind::Upstream).cloned().collect();
        for service in self.changes.of(Kind::Service) {
            touched.extend(self.memo.gloo.upstreams_of(service));
        }
        for grant in self.changes.of(Kind::ReferenceGrant) {
            touched.extend(self.memo.gloo.upstreams_into(&grant.namespace));
        }
        if self.memo.observed.dns != self.view.observed.dns {
            touched.extend(self.memo.gloo.with_named_hosts());
        }
        let changed = !touched.is_empty();
        for name in touched {
            let seen = self.memo.gloo.update_upstream(&name, &self.view);
            // A missing one is told of with the reason why it could not be read, which may have changed.
            if seen || self.memo.gloo.upstream(&name).is_none() {
                self.dirty_dependents_of(Kind::Upstream, &name);
            }
            self.dirty.backends.insert(BackendName { kind: Kind::Upstream, name: name.clone(), port: None });
            self.dirty.upstreams.insert(name);
        }
        if changed {
            self.out.dns_names = self.memo.gloo.dns_names();
        }
    }

    fn options(&mut self) {
        for name in self.touched(Kind::RouteOption) {
            self.memo.gloo.update_option(&name, self.view.resources);
            self.dirty_dependents_of(Kind::RouteOption, &name);
            if let Some(option) = self.view.resources.route_option(&name) {
                self.dirty.routes.extend(super::gloo_kinds::targets(option));
            }
            self.dirty.options.insert(name);
        }
    }
}

// === impl Pass: routes ===

impl Pass<'_> {
    fn collect_routes(&mut self) {
        for name in self.touched(Kind::HttpRoute) {
            let options = self.view.resources.route_options_of(&name);
            self.dirty.options.extend(options.map(|option| crate::api::object_name(&option.metadata)));
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

    fn routes(&mut self) {
        let dirty = std::mem::take(&mut self.dirty.routes);
        // All are detached before any is attached: listeners may have changed places.
        let replaced: BTreeMap<_, _> = dirty.iter().filter_map(|name| Some((name.clone(), self.detach(name)?))).collect();
        for name in &dirty {
            self.route(name, replaced.get(name).map(|(_, old)| old));
        }
        // Only now, so that a backend which is still used keeps its id.
        for backend in replaced.values().flat_map(|(_, old)| &old.backends) {
            self.memo.clusters.release(backend);
        }
    }

    fn detach(&mut self, name: &ObjectName) -> Option<(RouteId, CompiledRoute)> {
        let (id, old) = self.memo.routes.take(name)?;
        for attachment in &old.attachments {
            if let Some(gateway) = self.memo.gateways.get_mut(&attachment.gateway) {
                gateway.detach(id, attachment);
                self.dirty.hosts.insert(attachment.gateway.clone());
            }
        }
        for one in &old.option_uses {
            self.memo.gloo.remove_use(one);
            self.dirty.options.insert(one.option.clone());
        }
        for rule in &old.unkeyed {
            self.memo.gloo.remove_unkeyed(rule);
            self.dirty.upstreams.insert(rule.upstream.clone());
        }
        Some((id, old))
    }

    /// Compiles a route and attaches it, or forgets it.
    fn route(&mut self, name: &ObjectName, old: Option<&CompiledRoute>) {
        let topic = Topic::Object(object(Kind::HttpRoute, name));
        let Some(route) = self.view.resources.http_route(name) else {
            if old.is_some() {
                self.memo.routes.forget(name);
            }
            self.memo.notices.set(topic, Vec::new());
            return self.set_status(object(Kind::HttpRoute, name), None);
        };
        let Memo { gateways, gloo, clusters, default_policy, .. } = &mut *self.memo;
        let context = RouteContext { resources: self.view.resources, gateways, gloo, options: self.view.options, default_policy };
        let mut compiled = http_route::compile(name, route, &context, &mut |backend| clusters.id(backend));
        let status = compiled.status.take();
        for backend in &compiled.backends {
            self.memo.clusters.retain(backend);
        }
        self.memo.notices.set(topic, std::mem::take(&mut compiled.notices));
        self.set_status(object(Kind::HttpRoute, name), status.map(Status::Route));
        self.attach(name, compiled);
    }

    fn attach(&mut self, name: &ObjectName, compiled: CompiledRoute) {
        let id = self.memo.routes.id(name);
        for attachment in &compiled.attachments {
            if let Some(gateway) = self.memo.gateways.get_mut(&attachment.gateway) {
                gateway.attach(id, attachment, compiled.accepted);
                self.dirty.hosts.insert(attachment.gateway.clone());
            }
        }
        for one in &compiled.option_uses {
            self.memo.gloo.add_use(one);
            self.dirty.options.insert(one.option.clone());
        }
        for rule in &compiled.unkeyed {
            self.memo.gloo.add_unkeyed(rule);
            self.dirty.upstreams.insert(rule.upstream.clone());
        }
        self.memo.routes.put(id, compiled);
    }
}

// === impl Pass: hosts and clusters ===

impl Pass<'_> {
    /// Rebuilds hosts and sockets; returns the sockets if any of them changed.
    fn hosts(&mut self) -> Option<BTreeMap<std::net::SocketAddr, Arc<crate::snapshot::Bind>>> {
        let hosts = std::mem::take(&mut self.dirty.hosts);
        for name in &hosts {
            if let Some(gateway) = self.memo.gateways.get_mut(name) {
                gateway.rebuild(&self.memo.routes);
                self.dirty.gateways.insert(name.clone());
            }
        }
        if !self.dirty.sockets && hosts.is_empty() {
            return None;
        }
        let mut binds = if self.dirty.sockets { BTreeMap::new() } else { self.out.snapshot.binds.clone() };
        for (name, gateway) in self.memo.gateways.iter().filter(|(name, _)| self.dirty.sockets || hosts.contains(*name)) {
            binds.extend(gateway.binds(name).map(|bind| (bind.address, Arc::new(bind))));
        }
        Some(binds)
    }

    /// Builds the clusters that changed; returns whether any did.
    fn clusters(&mut self) -> bool {
        for service in self.changes.of(Kind::Service).chain(&self.changes.endpoints) {
            let upstreams = self.memo.gloo.upstreams_of(service).into_iter();
            self.dirty.backends.extend(upstreams.map(|name| BackendName { kind: Kind::Upstream, name, port: None }));
            self.dirty.backends.extend(self.memo.clusters.ports_of(service));
        }
        if self.memo.observed.ipv6 != self.view.observed.ipv6 {
            self.dirty.backends.extend(self.memo.clusters.backends().cloned());
        }
        let (fresh, gone) = self.memo.clusters.settle();
        let mut changed = !gone.is_empty();
        for backend in gone {
            self.dirty.backends.remove(&backend);
            self.memo.notices.set(Topic::Backend(backend), Vec::new());
        }
        self.dirty.backends.extend(fresh);
        for backend in std::mem::take(&mut self.dirty.backends) {
            changed |= self.build(&backend);
        }
        changed
    }

    fn build(&mut self, backend: &BackendName) -> bool {
        let Some(id) = self.memo.clusters.known(backend) else { return false };
        let previous = self.memo.clusters.cluster(id);
        let rules = self.view.endpoint_rules();
        let built = match backend.kind {
            Kind::Upstream => {
                let Some(upstream) = self.memo.gloo.upstream(&backend.name) else { return false };
                cluster::upstream_cluster(id, backend, upstream, &self.view, rules, previous)
            }
            _ => cluster::service_cluster(id, backend, &self.view, rules, previous),
        };
        self.memo.notices.set(Topic::Backend(backend.clone()), built.notices);
        self.memo.clusters.put(built.cluster)
    }
}

// === impl Pass: statuses and the end ===

impl Pass<'_> {
    fn statuses(&mut self) {
        let View { resources, observed, options } = self.view;
        for name in std::mem::take(&mut self.dirty.gateways) {
            let state = self.memo.gateways.get(&name);
            let status = state.map(|state| Status::Gateway(state.compiled.status(&name, &state.attached(), resources, observed, options)));
            self.set_status(object(Kind::Gateway, &name), status);
        }
        for name in std::mem::take(&mut self.dirty.upstreams) {
            let compiled = self.memo.gloo.upstream(&name);
            let status = compiled.map(|upstream| gloo_status::upstream_status(upstream, &self.memo.gloo.upstream_facts(&name)));
            self.set_gloo_status(object(Kind::Upstream, &name), status);
        }
        for name in std::mem::take(&mut self.dirty.options) {
            let compiled = resources.route_option(&name).zip(self.memo.gloo.option(&name));
            let status = compiled.map(|(object, option)| {
                gloo_status::route_option_status(option, &self.memo.gloo.option_facts(object, &name, resources))
            });
            self.set_gloo_status(object(Kind::RouteOption, &name), status);
        }
    }

    /// The status of an object of Gloo's, unless its newest version cannot be decoded: then that is what there is to say.
    fn set_gloo_status(&mut self, object: ObjectRef, status: Option<GlooStatus>) {
        let resources = self.view.resources;
        let status = match resources.refused(&object) {
            Some(refused) => Some(gloo_status::undecodable_status(&match resources.generation(&object) {
                Some(serving) => last_good::message(refused, serving),
                None => refused.message.clone(),
            })),
            None => status,
        };
        let key = self.view.options.status_key.to_string();
        let status = status.map(|status| Status::Gloo(GlooStatuses { statuses: BTreeMap::from([(key, status)]) }));
        self.set_status(object, status);
    }

    fn finish(
        mut self,
        binds: Option<BTreeMap<std::net::SocketAddr, Arc<crate::snapshot::Bind>>>,
        clusters_changed: bool,
    ) -> Translation {
        if binds.is_some() || clusters_changed {
            let binds = binds.unwrap_or_else(|| self.out.snapshot.binds.clone());
            let clusters = if clusters_changed { self.memo.clusters.array() } else { Arc::clone(&self.out.snapshot.clusters) };
            self.out.snapshot = Arc::new(Snapshot { binds, clusters });
        }
        if let Some(notices) = self.memo.notices.take_changed() {
            self.out.notices = notices;
        }
        if self.memo.observed != *self.view.observed {
            self.memo.observed = self.view.observed.clone();
        }
        self.out.changed_statuses.sort();
        self.out.changed_statuses.dedup();
        self.out.memo = self.memo;
        self.out
    }
}
