//! BackendTLSPolicies of a pass.

use std::collections::BTreeSet;

use crate::base::{Kind, ObjectName};
use crate::snapshot::BackendName;
use crate::translate::{
    backend::{endpoints::service_port, upstream::UpstreamHosts},
    cluster::PortTls,
    route::{CompiledRoute, Dependency},
};

use super::{Pass, memo::Memo};

impl Pass<'_> {
    /// Compiles the policies anew where one of them was touched, or what they refer to.
    pub(super) fn backend_tls(&mut self) {
        let wanted = self.memo.backend_tls.wanted();
        let touched = self.changes.of(Kind::BackendTlsPolicy).next().is_some();
        if touched || wanted.iter().any(|object| self.changes.objects.contains(object)) {
            let gone: BTreeSet<ObjectName> = self.touched(Kind::BackendTlsPolicy).into_iter().collect();
            let changed = self.memo.backend_tls.update(self.view.resources, self.view.options);
            self.dirty.policies.extend(gone);
            self.dirty.policies.extend(self.memo.backend_tls.names().cloned());
            for service in changed {
                self.dirty.backends.extend(self.memo.clusters.of(Kind::Service, &service));
                let upstreams = self.memo.gloo.upstreams_of(&service).into_iter();
                self.dirty.backends.extend(upstreams.flat_map(|name| self.memo.clusters.of(Kind::Upstream, &name)));
                // Whether a port may be sent to that asks for TLS depends on its policy.
                self.dirty_dependents_of(Kind::Service, &service);
            }
        }
        // Whether a Service has the port that a policy names.
        for service in self.touched(Kind::Service) {
            self.dirty.policies.extend(self.memo.backend_tls.naming(&service));
        }
        let wanted = self.memo.certificates.wanted() | self.memo.backend_tls.wanted();
        if self.out.wanted != wanted {
            self.out.wanted = wanted;
        }
    }

    /// A route has come, or goes: what is said of policies for its backends depends on its Gateways.
    pub(super) fn dirty_policies_of(&mut self, route: &CompiledRoute) {
        for dependency in &route.dependencies {
            let Dependency::Object(backend) = dependency else { continue };
            let service = match backend.kind {
                Kind::Service => Some(&backend.name),
                Kind::Upstream => self.memo.gloo.upstream(&backend.name).and_then(|upstream| upstream.service.as_ref()),
                _ => None,
            };
            self.dirty.policies.extend(service.into_iter().flat_map(|service| self.memo.backend_tls.naming(service)));
            self.dirty.affinity.extend(self.memo.affinity.naming(backend).cloned());
            self.dirty.traffic.extend(self.memo.traffic.naming(backend).cloned());
        }
        self.dirty.affinity.extend(self.memo.affinity.naming(&route.name).cloned());
    }

    /// How TLS is spoken to the hosts of a backend; `None`: no policy is for it.
    pub(super) fn tls_of(&self, backend: &BackendName) -> Option<PortTls> {
        let Memo { backend_tls, gloo, .. } = &*self.memo;
        if backend.kind == Kind::Upstream {
            let upstream = gloo.upstream(&backend.name)?;
            let UpstreamHosts::Service(port) = &upstream.hosts else { return None };
            return backend_tls.of_port(upstream.service.as_ref()?, port);
        }
        let service = self.view.resources.service(&backend.name)?;
        backend_tls.of_port(&backend.name, service_port(service, backend.port?)?)
    }
}
