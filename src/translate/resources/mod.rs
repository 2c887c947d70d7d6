//! The declared resources, with the last good version of every object.

pub(super) mod change;
mod last_good;
mod packed;
mod reading;
mod shelf;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use gateway_api::{
    backendtlspolicies::BackendTlsPolicy,
    experimental::{gatewayclasses::GatewayClass, gateways::Gateway, referencegrants::ReferenceGrant},
};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Namespace, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use smallvec::SmallVec;

use crate::api::{
    AffinityPolicy, AffinitySlots, BackendTrafficPolicy, DecodeError, GatewayOption, GatewayParameters, ListenerSet, Object, RouteOption,
    Upstream, object_name,
};
use crate::base::{Kind, ObjectName, ObjectRef};
use crate::translate::{LastGoodVersion, gateway::parameters_ref, gloo::route_option::targets};

use change::{Change, Changes, PackedForm, PackedRoute, Refused};
use shelf::{Shelf, Store};

/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Members by key, in order; mostly one.
type Index<K> = BTreeMap<K, SmallVec<[ObjectName; 1]>>;

/// The declared resources.
#[derive(Debug, Default)]
pub struct Resources {
    affinity_policies: Store<AffinityPolicy>,
    affinity_slots: Store<AffinitySlots>,
    backend_tls_policies: Store<BackendTlsPolicy>,
    backend_traffic_policies: Store<BackendTrafficPolicy>,
    config_maps: Store<ConfigMap>,
    gateway_classes: Store<GatewayClass>,
    gateways: Store<Gateway>,
    gateway_parameters: Store<GatewayParameters>,
    /// VirtualHostOptions, ListenerOptions and HttpListenerOptions.
    gateway_options: BTreeMap<ObjectRef, Arc<GatewayOption>>,
    /// Of all kinds. There may be thousands, read one at a time.
    routes: BTreeMap<ObjectRef, PackedForm>,
    listener_sets: Store<ListenerSet>,
    namespaces: Store<Namespace>,
    grants: Store<ReferenceGrant>,
    route_options: Store<RouteOption>,
    secrets: Store<Secret>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    upstreams: Store<Upstream>,
    refused: BTreeMap<ObjectRef, Refused>,
    /// Objects of files whose newest version cannot be parsed, sorted.
    unparsed: BTreeMap<Arc<str>, Vec<ObjectRef>>,
    /// Versions that an earlier process kept, of objects that nothing has been heard of.
    dormant: BTreeMap<ObjectRef, LastGoodVersion>,
    slices_by_service: Index<ObjectName>,
    /// EndpointSlices that name no Service.
    unlabelled_slices: BTreeSet<ObjectName>,
    /// Gateways whose class, the one named here, was valid at some time since it is there.
    admitted: BTreeMap<ObjectName, Box<str>>,
    options_by_route: Index<ObjectRef>,
    changes: Changes,
}

// === impl Resources: writing ===

impl Resources {
    /// Takes a change in and remembers what it touched, until `clear_changes`.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Apply(object) => self.put(*object),
            Change::Route(route) => self.put_packed(route),
            Change::Delete(object) => self.delete(&object),
            Change::Undecodable(error) => self.refuse(error),
            Change::Unparsed(unparsed) => self.put_unparsed(unparsed),
        }
    }

    /// Forgets what was touched: call it after a translation.
    pub fn clear_changes(&mut self) {
        self.changes = Changes::default();
    }

    /// What was touched since `clear_changes`.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Everything there is, as if all of it had been touched.
    pub fn everything(&self) -> Changes {
        let of = |kind: Kind| self.shelf(kind).names(kind).into_iter().map(move |name| ObjectRef { kind, name });
        let declared = Kind::ALL.iter().copied().filter(|kind| *kind != Kind::EndpointSlice).flat_map(of);
        Changes {
            objects: declared.chain(self.refused.keys().cloned()).collect(),
            endpoints: self.slices_by_service.keys().cloned().collect(),
            unlabelled_slices: self.unlabelled_slices.iter().map(|slice| slice.namespace.clone()).collect(),
            last_good: true,
        }
    }

    fn put(&mut self, object: Object) {
        let (kind, name) = match object {
            Object::EndpointSlice(object) => return self.put_slice(object),
            Object::RouteOption(object) => (Kind::RouteOption, self.put_option(object)),
            Object::AffinityPolicy(object) => {
                (Kind::AffinityPolicy, store(&mut self.affinity_policies, object_name(&object.metadata), *object))
            }
            Object::AffinitySlots(object) => (Kind::AffinitySlots, store(&mut self.affinity_slots, object_name(&object.metadata), object)),
            Object::BackendTlsPolicy(object) => {
                (Kind::BackendTlsPolicy, store(&mut self.backend_tls_policies, object_name(&object.metadata), object))
            }
            Object::BackendTrafficPolicy(object) => {
                (Kind::BackendTrafficPolicy, store(&mut self.backend_traffic_policies, object_name(&object.metadata), object))
            }
            Object::ConfigMap(object) => (Kind::ConfigMap, store(&mut self.config_maps, object_name(&object.metadata), object)),
            Object::Gateway(object) => (Kind::Gateway, self.put_gateway(object)),
            Object::GatewayClass(object) => (Kind::GatewayClass, self.put_class(object)),
            Object::GatewayParameters(object) => {
                (Kind::GatewayParameters, store(&mut self.gateway_parameters, object_name(&object.metadata), object))
            }
            Object::GatewayOption(object) => (object.kind, self.put_gateway_option(object)),
            Object::ListenerSet(object) => (Kind::ListenerSet, store(&mut self.listener_sets, object_name(&object.metadata), object)),
            Object::Namespace(object) => (Kind::Namespace, store(&mut self.namespaces, object_name(&object.metadata), object)),
            Object::Route(object) => return PackedRoute::new(&object).map_or((), |route| self.put_packed(route)),
            Object::ReferenceGrant(object) => (Kind::ReferenceGrant, store(&mut self.grants, object_name(&object.metadata), object)),
            Object::Secret(object) => (Kind::Secret, store(&mut self.secrets, object_name(&object.metadata), object)),
            Object::Service(object) => (Kind::Service, store(&mut self.services, object_name(&object.metadata), object)),
            Object::Upstream(object) => (Kind::Upstream, store(&mut self.upstreams, object_name(&object.metadata), object)),
        };
        self.touch(kind, &name);
    }

    fn put_gateway(&mut self, gateway: Gateway) -> ObjectName {
        let (name, class) = (object_name(&gateway.metadata), &*gateway.spec.gateway_class_name);
        let is_valid = self.gateway_class(class).is_some_and(|class| parameters_ref::class_refusal(class).is_none());
        if is_valid {
            self.admitted.insert(name.clone(), class.into());
        } else if self.admitted.get(&name).is_some_and(|admitted| **admitted != *class) {
            self.admitted.remove(&name);
        }
        store(&mut self.gateways, name, gateway)
    }

    fn put_class(&mut self, class: GatewayClass) -> ObjectName {
        let name = object_name(&class.metadata);
        if parameters_ref::class_refusal(&class).is_none() {
            let of_class = self.gateways.iter().filter(|(_, gateway)| *gateway.spec.gateway_class_name == *name.name);
            self.admitted.extend(of_class.map(|(gateway, _)| (gateway.clone(), name.name.clone())));
        }
        store(&mut self.gateway_classes, name, class)
    }

    fn put_gateway_option(&mut self, option: GatewayOption) -> ObjectName {
        let object = ObjectRef { kind: option.kind, name: object_name(&option.metadata) };
        let name = object.name.clone();
        self.gateway_options.insert(object, Arc::new(option));
        name
    }

    fn put_slice(&mut self, slice: EndpointSlice) {
        let name = object_name(&slice.metadata);
        self.forget_slice(&name);
        self.accept_slice(&name);
        match service_of(&slice.metadata) {
            Some(service) => {
                add_to_index(&mut self.slices_by_service, service.clone(), &name);
                self.changes.endpoints.insert(service);
            }
            None => {
                self.changes.unlabelled_slices.insert(name.namespace.clone());
                self.unlabelled_slices.insert(name.clone());
            }
        }
        self.slices.insert(name, Arc::new(slice));
    }

    fn put_packed(&mut self, route: PackedRoute) {
        let object = route.object;
        self.routes.insert(object.clone(), route.packed);
        self.touch(object.kind, &object.name);
    }

    fn put_option(&mut self, option: RouteOption) -> ObjectName {
        let name = object_name(&option.metadata);
        self.forget_option(&name);
        for route in targets::targets(&option).map(|target| target.object) {
            add_to_index(&mut self.options_by_route, route, &name);
        }
        store(&mut self.route_options, name, option)
    }

    fn delete(&mut self, object: &ObjectRef) {
        let name = &object.name;
        match object.kind {
            Kind::EndpointSlice => {
                self.forget_slice(name);
                return self.accept_slice(name);
            }
            Kind::RouteOption => self.forget_option(name),
            Kind::Gateway => drop(self.admitted.remove(name)),
            Kind::GatewayClass => self.admitted.retain(|_, class| *class != name.name),
            _ => {}
        }
        self.shelf_mut(object.kind).remove(object);
        self.touch(object.kind, name);
    }

    fn refuse(&mut self, error: DecodeError) {
        // Without kind and name there is no object to speak of: the source of the document reports it.
        let Some(object) = error.object.clone() else { return };
        if let Some(kept) = self.wake(&error, &object) {
            self.put(kept);
        }
        let message = format!("field {}: {}", error.field, error.message).into();
        let outline = error.outline.filter(|_| !self.contains(&object));
        let refused = Refused { generation: error.generation, message, outline: outline.is_some() };
        match outline {
            Some(outline) => self.put(*outline),
            None if self.is_outline(&object) => self.delete(&object),
            None => {}
        }
        self.changes.objects.insert(object.clone());
        self.changes.last_good = true;
        self.refused.insert(object, refused);
    }

    fn touch(&mut self, kind: Kind, name: &ObjectName) {
        let object = ObjectRef { kind, name: name.clone() };
        self.hear_of(&object);
        self.changes.objects.insert(object);
    }

    /// EndpointSlices come and go often: one is named among the touched objects only where it was refused before.
    fn accept_slice(&mut self, name: &ObjectName) {
        let object = ObjectRef { kind: Kind::EndpointSlice, name: name.clone() };
        if self.hear_of(&object) {
            self.changes.objects.insert(object);
        }
    }

    /// A version of the object can be read, or it is gone; whether its newest version could not be read before.
    fn hear_of(&mut self, object: &ObjectRef) -> bool {
        self.dormant.remove(object);
        let was_refused = self.refused.remove(object).is_some();
        self.changes.last_good |= was_refused || self.is_unparsed(object);
        was_refused
    }

    fn forget_slice(&mut self, name: &ObjectName) {
        if self.unlabelled_slices.remove(name) {
            self.changes.unlabelled_slices.insert(name.namespace.clone());
        }
        let Some(service) = self.slices.remove(name).and_then(|slice| service_of(&slice.metadata)) else { return };
        remove_from_index(&mut self.slices_by_service, &service, name);
        self.changes.endpoints.insert(service);
    }

    fn forget_option(&mut self, name: &ObjectName) {
        let Some(option) = self.route_options.remove(name) else { return };
        for route in targets::targets(&option).map(|target| target.object) {
            remove_from_index(&mut self.options_by_route, &route, name);
            // The routes that the old version named lose it.
            self.changes.objects.insert(route);
        }
    }
}

fn store<T>(store: &mut Store<T>, name: ObjectName, object: T) -> ObjectName {
    store.insert(name.clone(), Arc::new(object));
    name
}

fn add_to_index<K: Ord>(index: &mut Index<K>, key: K, member: &ObjectName) {
    let members = index.entry(key).or_default();
    if let Err(place) = members.binary_search(member) {
        members.insert(place, member.clone());
    }
}

fn remove_from_index<K: Ord>(index: &mut Index<K>, key: &K, member: &ObjectName) {
    if let Some(members) = index.get_mut(key) {
        members.retain(|other| other != member);
        if members.is_empty() {
            index.remove(key);
        }
    }
}

fn service_of(metadata: &ObjectMeta) -> Option<ObjectName> {
    let service = metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some(ObjectName::new(metadata.namespace.as_deref().unwrap_or_default(), service.as_str()))
}

// === impl Resources: where each kind is ===

impl Resources {
    fn shelf(&self, kind: Kind) -> &dyn Shelf {
        match kind {
            Kind::AffinityPolicy => &self.affinity_policies,
            Kind::AffinitySlots => &self.affinity_slots,
            Kind::BackendTlsPolicy => &self.backend_tls_policies,
            Kind::BackendTrafficPolicy => &self.backend_traffic_policies,
            Kind::ConfigMap => &self.config_maps,
            Kind::EndpointSlice => &self.slices,
            Kind::Gateway => &self.gateways,
            Kind::GatewayClass => &self.gateway_classes,
            Kind::GatewayParameters => &self.gateway_parameters,
            Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption => &self.gateway_options,
            Kind::GrpcRoute | Kind::HttpRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute => &self.routes,
            Kind::ListenerSet => &self.listener_sets,
            Kind::Namespace => &self.namespaces,
            Kind::ReferenceGrant => &self.grants,
            Kind::RouteOption => &self.route_options,
            Kind::Secret => &self.secrets,
            Kind::Service => &self.services,
            Kind::Upstream => &self.upstreams,
        }
    }

    fn shelf_mut(&mut self, kind: Kind) -> &mut dyn Shelf {
        match kind {
            Kind::AffinityPolicy => &mut self.affinity_policies,
            Kind::AffinitySlots => &mut self.affinity_slots,
            Kind::BackendTlsPolicy => &mut self.backend_tls_policies,
            Kind::BackendTrafficPolicy => &mut self.backend_traffic_policies,
            Kind::ConfigMap => &mut self.config_maps,
            Kind::EndpointSlice => &mut self.slices,
            Kind::Gateway => &mut self.gateways,
            Kind::GatewayClass => &mut self.gateway_classes,
            Kind::GatewayParameters => &mut self.gateway_parameters,
            Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption => &mut self.gateway_options,
            Kind::GrpcRoute | Kind::HttpRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute => &mut self.routes,
            Kind::ListenerSet => &mut self.listener_sets,
            Kind::Namespace => &mut self.namespaces,
            Kind::ReferenceGrant => &mut self.grants,
            Kind::RouteOption => &mut self.route_options,
            Kind::Secret => &mut self.secrets,
            Kind::Service => &mut self.services,
            Kind::Upstream => &mut self.upstreams,
        }
    }
}
