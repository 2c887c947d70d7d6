//! What translation of backends reads.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use crate::base::{ObjectName, ObjectRef};
use crate::lb::SlotMap;
use crate::translate::{backend::endpoints::StraySlice, options::CrossNamespace};

/// What translation of backends reads.
pub trait BackendView {
    /// The Service of this name.
    fn service(&self, name: &ObjectName) -> Option<&Service>;
    /// The EndpointSlices of the Service (by label `kubernetes.io/service-name`), in any order.
    fn slices(&self, service: &ObjectName) -> Vec<&EndpointSlice>;
    /// Whether Upstreams of `namespace` may name this Service of another namespace.
    fn may_reference(&self, namespace: &str, service: &ObjectName) -> bool;
    /// Addresses of a DNS name; `None`: not resolved yet.
    fn dns(&self, name: &str) -> Option<Arc<[IpAddr]>>;
    /// An EndpointSlice that may be meant for a Service that has none.
    fn stray_slice(&self, service: &ObjectName) -> Option<StraySlice>;
    /// Which pods of a Service or Upstream have which slots, as the leader has written it, and as it served last where that is ahead; `None`:
    /// nobody has written it yet.
    fn slots(&self, target: &ObjectRef) -> Option<(SlotMap, Option<&SlotMap>)>;
    /// Seconds since the epoch, where the time is told.
    fn second(&self) -> Option<u64>;
}

/// Whether Upstreams of `namespace` may name a Service of another namespace: what `BackendView::may_reference` answers. `granted` says whether
/// a ReferenceGrant in the Service's namespace allows it.
pub fn may_cross_namespaces(setting: &CrossNamespace, namespace: &str, granted: impl FnOnce() -> bool) -> bool {
    match setting {
        CrossNamespace::Any => true,
        CrossNamespace::ReleaseNamespace(release) => **release == *namespace || granted(),
        CrossNamespace::Grant => granted(),
    }
}
