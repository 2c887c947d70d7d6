//! Upstreams and RouteOptions of a pass.

use std::collections::BTreeSet;

use crate::base::Kind;
use crate::snapshot::BackendName;

use super::{super::gloo_kinds::targets, Pass};

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

    pub(super) fn options(&mut self) {
        for name in self.touched(Kind::RouteOption) {
            self.memo.gloo.update_option(&name, self.view.resources);
            self.dirty_dependents_of(Kind::RouteOption, &name);
            if let Some(option) = self.view.resources.route_option(&name) {
                self.dirty.routes.extend(targets(option));
            }
            self.dirty.options.insert(name);
        }
    }
}
