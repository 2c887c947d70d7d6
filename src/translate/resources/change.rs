//! Changes of the declared resources, and what they touch.

use std::{collections::BTreeSet, sync::Arc};

use crate::api::{DecodeError, Object, Route, RouteBody};
use crate::base::{Kind, Message, ObjectName, ObjectRef};

use super::packed::Packed;

/// One change of the declared resources.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is now this. Routes are packed as soon as they are read: see `Change::apply`.
    Apply(Box<Object>),
    /// The route is now this.
    Route(PackedRoute),
    /// The object is gone.
    Delete(ObjectRef),
    /// A newer version of the object cannot be decoded: the last decoded one keeps serving, its status says so.
    Undecodable(DecodeError),
    /// Of a whole file the newest version cannot be parsed.
    Unparsed(Unparsed),
}

/// A file whose newest version cannot be parsed: what it declared before keeps serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsed {
    /// Its name.
    pub file: Arc<str>,
    /// What it declared before; nothing: it can be parsed again, or is gone.
    pub objects: Vec<ObjectRef>,
}

/// A route as it is kept.
pub(super) type PackedForm = Packed<RouteBody>;

/// A route in little space: a directory or a list may bring thousands at once.
#[derive(Clone, Debug)]
pub struct PackedRoute {
    pub(in crate::translate) object: ObjectRef,
    pub(in crate::translate) packed: PackedForm,
}

/// A version of an object that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `metadata.generation` of the refused version, if it has one.
    pub generation: Option<i64>,
    /// Field and expectation.
    pub message: Message,
    /// No version was ever decoded: all that is known of the object is an outline, which is never served. That of a RouteOption makes
    /// rules answer 500.
    pub outline: bool,
}

/// What was touched since the last translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects that were applied, deleted or refused; EndpointSlices are in `endpoints`.
    pub objects: BTreeSet<ObjectRef>,
    /// Services one of whose EndpointSlices came, changed or went.
    pub endpoints: BTreeSet<ObjectName>,
    /// Namespaces in which an EndpointSlice that names no Service came, changed or went.
    pub unlabelled_slices: BTreeSet<Box<str>>,
    /// Which objects have a last good version that only this process knows, or what it is, may have changed.
    pub last_good: bool,
}

// === impl Change ===

impl Change {
    /// The object is now this.
    pub fn apply(object: Box<Object>) -> Self {
        let packed = if let Object::Route(route) = &*object { PackedRoute::new(route) } else { None };
        packed.map_or_else(|| Self::Apply(object), Self::Route)
    }

    /// The object that it is about; `None` where kind or name of an undecodable one is not known, and for a whole file.
    pub fn object(&self) -> Option<ObjectRef> {
        match self {
            Self::Apply(object) => Some(object.object_ref()),
            Self::Route(route) => Some(route.object.clone()),
            Self::Delete(object) => Some(object.clone()),
            Self::Undecodable(error) => error.object.clone(),
            Self::Unparsed(_) => None,
        }
    }
}

// === impl PackedRoute ===

impl PackedRoute {
    /// The route, if this is anywhere in it.
    pub(in crate::translate) fn unpack_if(&self, mentions: &[u8]) -> Option<Route> {
        Some(self.packed.unpack_if(mentions)?.of_kind(self.object.kind))
    }

    pub(in crate::translate) fn new(route: &Route) -> Option<Self> {
        Some(Self { object: route.object_ref(), packed: Packed::pack(&route.body, route.metadata().generation)? })
    }

    /// Kind, namespace and name.
    pub fn object(&self) -> &ObjectRef {
        &self.object
    }
}

// === impl Changes ===

impl Changes {
    /// Whether nothing was touched.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.endpoints.is_empty() && self.unlabelled_slices.is_empty() && !self.last_good
    }

    /// The touched objects of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &ObjectName> {
        let first = ObjectRef { kind, name: ObjectName::default() };
        self.objects.range(first..).take_while(move |object| object.kind == kind).map(|object| &object.name)
    }
}
