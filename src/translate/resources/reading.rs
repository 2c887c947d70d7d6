//! What there is.

use std::{collections::BTreeMap, sync::Arc};

use gateway_api::{
    backendtlspolicies::BackendTlsPolicy,
    experimental::{gatewayclasses::GatewayClass, gateways::Gateway, referencegrants::ReferenceGrant},
};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
};

use crate::api::{
    AffinityPolicy, AffinitySlots, BackendTrafficPolicy, GatewayOption, GatewayParameters, ListenerSet, Route, RouteOption, Upstream,
};
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::translate::backend::endpoints::StraySlice;

use super::{Resources, change::Refused, shelf::Store};

impl Resources {
    /// The GatewayClass of this name.
    pub fn gateway_class(&self, name: &str) -> Option<&Arc<GatewayClass>> {
        self.gateway_classes.get(&ObjectName::new("", name))
    }

    /// Whether the class of this Gateway was valid at some time since both are there.
    pub fn was_admitted(&self, gateway: &ObjectName) -> bool {
        self.admitted.contains_key(gateway)
    }

    /// All Gateways.
    pub fn gateways(&self) -> &BTreeMap<ObjectName, Arc<Gateway>> {
        &self.gateways
    }

    /// All GatewayClasses.
    pub fn gateway_classes(&self) -> &BTreeMap<ObjectName, Arc<GatewayClass>> {
        &self.gateway_classes
    }

    /// The GatewayParameters of this name.
    pub fn gateway_parameters(&self, name: &ObjectName) -> Option<&Arc<GatewayParameters>> {
        self.gateway_parameters.get(name)
    }

    /// The route of this kind and name.
    pub fn route(&self, object: &ObjectRef) -> Option<Route> {
        Some(self.routes.get(object)?.unpack()?.of_kind(object.kind))
    }

    /// Whether there is a route of this kind and name.
    pub fn has_route(&self, object: &ObjectRef) -> bool {
        self.routes.contains_key(object)
    }

    /// All ListenerSets.
    pub fn listener_sets(&self) -> &BTreeMap<ObjectName, Arc<ListenerSet>> {
        &self.listener_sets
    }

    /// The Namespace of this name.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(&ObjectName::new("", name))
    }

    /// The ReferenceGrants of a namespace.
    pub fn grants_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<ReferenceGrant>> {
        in_namespace(&self.grants, namespace)
    }

    /// The RouteOption of this name.
    pub fn route_option(&self, name: &ObjectName) -> Option<&Arc<RouteOption>> {
        self.route_options.get(name)
    }

    /// All RouteOptions.
    pub fn route_options(&self) -> &BTreeMap<ObjectName, Arc<RouteOption>> {
        &self.route_options
    }

    /// The RouteOptions whose `targetRefs` name this route, by namespace and name.
    pub fn route_options_of(&self, route: &ObjectRef) -> impl Iterator<Item = &Arc<RouteOption>> {
        self.options_by_route.get(route).into_iter().flatten().filter_map(|name| self.route_options.get(name))
    }

    /// The VirtualHostOption, ListenerOption or HttpListenerOption of this name.
    pub fn gateway_option(&self, object: &ObjectRef) -> Option<&Arc<GatewayOption>> {
        self.gateway_options.get(object)
    }

    /// The Secret of this name.
    pub fn secret(&self, name: &ObjectName) -> Option<&Arc<Secret>> {
        self.secrets.get(name)
    }

    /// The AffinityPolicy of this name.
    pub fn affinity_policy(&self, name: &ObjectName) -> Option<&Arc<AffinityPolicy>> {
        self.affinity_policies.get(name)
    }

    /// All AffinityPolicies.
    pub fn affinity_policies(&self) -> &BTreeMap<ObjectName, Arc<AffinityPolicy>> {
        &self.affinity_policies
    }

    /// All XBackendTrafficPolicies.
    pub fn backend_traffic_policies(&self) -> &BTreeMap<ObjectName, Arc<BackendTrafficPolicy>> {
        &self.backend_traffic_policies
    }

    /// The AffinitySlots of this name.
    pub fn affinity_slots(&self, name: &ObjectName) -> Option<&Arc<AffinitySlots>> {
        self.affinity_slots.get(name)
    }

    /// Whether an object has a section of this name: a rule of a route, or a port of a Service.
    pub(in crate::translate) fn has_section(&self, object: &ObjectRef, section: &str) -> bool {
        match object.kind {
            Kind::Service => {
                let ports = self.service(&object.name).and_then(|service| service.spec.as_ref()?.ports.as_ref());
                ports.into_iter().flatten().any(|port| port.name.as_deref() == Some(section))
            }
            kind if kind.is_route() => {
                let route = self.route(object);
                route.is_some_and(|route| route.rules().iter().any(|rule| rule.name.as_deref() == Some(section)))
            }
            _ => false,
        }
    }

    /// All BackendTLSPolicies.
    pub fn backend_tls_policies(&self) -> &BTreeMap<ObjectName, Arc<BackendTlsPolicy>> {
        &self.backend_tls_policies
    }

    /// The ConfigMap of this name.
    pub fn config_map(&self, name: &ObjectName) -> Option<&Arc<ConfigMap>> {
        self.config_maps.get(name)
    }

    /// The Service of this name.
    pub fn service(&self, name: &ObjectName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The EndpointSlices of a Service, by name.
    pub fn slices_of(&self, service: &ObjectName) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices_by_service.get(service).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }

    /// An EndpointSlice that may be meant for a Service that has none: one of its namespace without a label, one of another namespace with
    /// the right one, where `elsewhere` allows to tell what is there.
    pub fn stray_slice(&self, service: &ObjectName, elsewhere: bool) -> Option<StraySlice> {
        let first = ObjectName { namespace: service.namespace.clone(), name: Box::default() };
        let unlabelled = self.unlabelled_slices.range(first..).take_while(|slice| slice.namespace == service.namespace);
        // Mostly slices are named after their Service.
        let (named, others): (Vec<_>, Vec<_>) = unlabelled.partition(|slice| slice.name.starts_with(&*service.name));
        let mut by_service = self.slices_by_service.iter().filter(|_| elsewhere);
        let elsewhere =
            by_service.find(|(other, _)| other.name == service.name && *other != service).and_then(|(_, slices)| slices.first());
        let unlabelled = |slice: &ObjectName| StraySlice::Unlabelled(slice.clone());
        let named = named.first().map(|slice| unlabelled(slice)).or_else(|| elsewhere.cloned().map(StraySlice::Elsewhere));
        named.or_else(|| others.first().map(|slice| unlabelled(slice)))
    }

    /// The Upstream of this name.
    pub fn upstream(&self, name: &ObjectName) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// All Upstreams.
    pub fn upstreams(&self) -> &BTreeMap<ObjectName, Arc<Upstream>> {
        &self.upstreams
    }

    /// The version of this object that could not be decoded, if that is the newest one.
    pub fn refused(&self, object: &ObjectRef) -> Option<&Refused> {
        self.refused.get(object)
    }

    /// All objects whose newest version could not be decoded.
    pub fn all_refused(&self) -> &BTreeMap<ObjectRef, Refused> {
        &self.refused
    }

    /// Whether all that is known of the object is an outline: no version of it was ever decoded.
    pub fn is_outline(&self, object: &ObjectRef) -> bool {
        self.refused.get(object).is_some_and(|refused| refused.outline)
    }

    /// Whether a decoded version of the object is there.
    pub fn contains(&self, object: &ObjectRef) -> bool {
        self.generation(object).is_some()
    }

    /// `metadata.uid` of a Service or an Upstream.
    pub fn uid(&self, object: &ObjectRef) -> Option<Box<str>> {
        let metadata = match object.kind {
            Kind::Service => &self.service(&object.name)?.metadata,
            Kind::Upstream => &self.upstream(&object.name)?.metadata,
            _ => return None,
        };
        metadata.uid.as_deref().map(Into::into)
    }

    /// `metadata.generation` of the version that serves; `Some(None)` where the object has no generation.
    pub fn generation(&self, object: &ObjectRef) -> Option<Option<i64>> {
        if self.is_outline(object) {
            return None;
        }
        self.shelf(object.kind).generation(object)
    }
}

fn in_namespace<'a, T>(store: &'a Store<T>, namespace: &str) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
    let owned: Box<str> = namespace.into();
    store.range(ObjectName::new(namespace, "")..).take_while(move |(name, _)| name.namespace == owned).map(|(_, object)| object)
}
