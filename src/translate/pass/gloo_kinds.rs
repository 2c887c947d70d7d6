//! Upstreams and RouteOptions of a pass.

use std::collections::BTreeSet;

use crate::api::creation_timestamp;
use crate::base::{Kind, ObjectName};
use crate::translate::gloo::route_option::targets::targets;

use super::{Pass, memo::Memo, object};

impl Pass<'_> {
    pub(super) fn upstreams(&mut self) {
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
            self.dirty_policies_of_upstream(&name);
            let seen = self.memo.gloo.update_upstream(&name, &self.view);
            self.dirty_policies_of_upstream(&name);
            // A missing one is told of with the reason why it could not be read, which may have changed.
            if seen || self.memo.gloo.upstream(&name).is_none() {
                self.dirty_dependents_of(Kind::Upstream, &name);
            }
            self.dirty.backends.extend(self.memo.clusters.of(Kind::Upstream, &name));
            self.dirty.upstreams.insert(name);
        }
        if changed {
            self.out.dns_names = self.memo.gloo.dns_names();
        }
    }

    /// Through an Upstream, routes come to the Service that it names.
    fn dirty_policies_of_upstream(&mut self, name: &ObjectName) {
        let service = self.memo.gloo.upstream(name).and_then(|upstream| upstream.service.as_ref());
        self.dirty.policies.extend(service.into_iter().flat_map(|service| self.memo.backend_tls.naming(service)));
    }

    pub(super) fn options(&mut self) {
        for name in self.touched(Kind::RouteOption) {
            self.option(&name);
            if let Some(option) = self.view.resources.route_option(&name) {
                self.dirty.routes.extend(targets(option).map(|target| target.object));
            }
        }
    }

    /// Compiles a RouteOption anew, within what is left for its regular expression.
    pub(super) fn option(&mut self, name: &ObjectName) {
        let user = object(Kind::RouteOption, name);
        let Memo { gloo, patterns, pattern_demands, .. } = &mut *self.memo;
        let allowance = patterns.allowance(pattern_demands.available(&user, self.view.options.limits.pattern_price));
        gloo.update_option(name, self.view.resources, &allowance);
        let (price, denied) = allowance.spent();
        let age = self.view.resources.route_option(name).and_then(|option| creation_timestamp(&option.metadata));
        pattern_demands.demand(&user, price, age, denied);
        self.dirty_dependents_of(Kind::RouteOption, name);
        self.dirty.options.insert(name.clone());
    }
}
