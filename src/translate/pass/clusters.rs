//! Hosts, sockets and clusters of a pass.

use std::{collections::BTreeMap, sync::Arc};

use crate::api::creation_timestamp;
use crate::base::Kind;
use crate::snapshot::BackendName;
use crate::translate::{cluster, notices::Topic};

use super::{Pass, binds::Binds};

impl Pass<'_> {
    /// Rebuilds hosts and sockets; returns the sockets if any of them changed.
    pub(super) fn hosts(&mut self) -> Option<Binds> {
        let hosts = std::mem::take(&mut self.dirty.hosts);
        for name in &hosts {
            if let Some(gateway) = self.memo.gateways.get_mut(name) {
                gateway.rebuild(&self.memo.routes);
                self.dirty.counted.insert(name.clone());
            }
        }
        if !self.dirty.sockets && hosts.is_empty() {
            return None;
        }
        let mut binds = if self.dirty.sockets { BTreeMap::new() } else { self.out.snapshot.binds.clone() };
        for (_, gateway) in self.memo.gateways.iter().filter(|(name, _)| self.dirty.sockets || hosts.contains(*name)) {
            binds.extend(gateway.binds().map(|bind| (bind.bound_to(), Arc::new(bind))));
        }
        Some(binds)
    }

    /// Builds the clusters that changed; returns whether any did.
    pub(super) fn clusters(&mut self) -> bool {
        for service in self.changes.of(Kind::Service).chain(&self.changes.endpoints) {
            let upstreams = self.memo.gloo.upstreams_of(service).into_iter();
            self.dirty.backends.extend(upstreams.flat_map(|name| self.memo.clusters.of(Kind::Upstream, &name)));
            self.dirty.backends.extend(self.memo.clusters.of(Kind::Service, service));
        }
        let without_slices = self.memo.gaps.iter().filter(|(_, gap)| gap.may_concern(self.changes)).map(|(backend, _)| backend.clone());
        self.dirty.backends.extend(without_slices);
        let observed = self.view.observed;
        if self.memo.observed.ipv6 != observed.ipv6 || self.memo.observed.affinity_keys != observed.affinity_keys {
            self.dirty.backends.extend(self.memo.clusters.backends().cloned());
        }
        let (fresh, gone) = self.memo.clusters.settle();
        let mut changed = false;
        for backend in gone {
            self.memo.tables.release_routes(&backend);
            self.memo.ring_demands.demand(&backend, 0, None, false);
            self.memo.ring_refusals.remove(&backend);
            if self.memo.gaps.remove(&backend).is_some() && backend.kind == Kind::Upstream {
                self.dirty.upstreams.insert(backend.name.clone());
            }
            self.slots_of(&backend, None);
            self.out.notices.set(Topic::Backend(backend), Vec::new());
        }
        self.dirty.backends.extend(fresh);
        self.dirty.backends.extend(self.memo.tables.built().cloned());
        let mut dirty: Vec<_> = std::mem::take(&mut self.dirty.backends).into_iter().collect();
        // So that many small tables do not wait for a large one.
        dirty.sort_by_key(|backend| self.table_size(backend));
        for backend in dirty {
            changed |= self.build(&backend);
        }
        for backend in self.memo.ring_demands.settle(self.view.options.limits.ring_points) {
            changed |= self.build(&backend);
        }
        // While routes wait to be published, those that are served may use what is retired.
        if !self.memo.tables.holds_routes() {
            for backend in self.memo.clusters.bury() {
                self.memo.tables.forget(&backend);
                changed = true;
            }
        }
        changed
    }

    /// Entries of the table that a backend has so far.
    fn table_size(&self, backend: &BackendName) -> u64 {
        let cluster = self.memo.clusters.known(backend).and_then(|id| self.memo.clusters.cluster(id));
        cluster.and_then(|cluster| cluster.balancer.table()).map_or(0, |table| table.size)
    }

    fn build(&mut self, backend: &BackendName) -> bool {
        let policies = cluster::ClusterPolicies {
            tls: self.tls_of(backend),
            affinity: self.memo.affinity.of_backend(backend, self.view.resources),
            affinity_keys: self.view.observed.affinity_keys.clone(),
            is_persistent: backend.is_persistent,
        };
        let memo = &mut *self.memo;
        let Some(id) = memo.clusters.known(backend) else { return false };
        let previous = memo.clusters.cluster(id);
        let rules = self.view.endpoint_rules();
        let limits = &self.view.options.limits;
        let available = memo.ring_demands.available(backend, limits.ring_points);
        let rings = cluster::RingLimits { one: limits.points_of_one_ring, available };
        let built = match backend.kind {
            Kind::Upstream => {
                let Some(upstream) = memo.gloo.upstream(&backend.name) else { return false };
                cluster::upstream_cluster(id, backend, upstream, &policies, &self.view, rules, rings, previous, &mut memo.tables)
            }
            _ => cluster::service_cluster(id, backend, &policies, &self.view, rules, rings, previous, &mut memo.tables),
        };
        if memo.clusters.is_retired(backend) {
            return memo.clusters.put(built.cluster);
        }
        self.out.notices.set(Topic::Backend(backend.clone()), built.notices);
        self.slots_of(backend, built.due);
        self.ask_for_points(backend, built.ring);
        if self.memo.gaps.get(backend) != built.gap.as_ref() {
            match built.gap {
                Some(gap) => drop(self.memo.gaps.insert(backend.clone(), gap)),
                None => drop(self.memo.gaps.remove(backend)),
            }
            if backend.kind == Kind::Upstream {
                self.dirty.upstreams.insert(backend.name.clone());
            }
        }
        self.memo.clusters.put(built.cluster)
    }

    /// Takes in what a cluster asks for of the points of all rings.
    fn ask_for_points(&mut self, backend: &BackendName, ring: cluster::RingDemand) {
        let resources = self.view.resources;
        let age = match backend.kind {
            Kind::Upstream => resources.upstream(&backend.name).and_then(|upstream| creation_timestamp(&upstream.metadata)),
            _ => resources.service(&backend.name).and_then(|service| creation_timestamp(&service.metadata)),
        };
        self.memo.ring_demands.demand(backend, ring.points, age, ring.refusal.is_some() && ring.points > 0);
        if self.memo.ring_refusals.get(backend) == ring.refusal.as_ref() {
            return;
        }
        match ring.refusal {
            Some(refusal) => drop(self.memo.ring_refusals.insert(backend.clone(), refusal)),
            None => drop(self.memo.ring_refusals.remove(backend)),
        }
        if backend.kind == Kind::Upstream {
            self.dirty.upstreams.insert(backend.name.clone());
        }
    }
}
