//! What policies are for, and in which order those come that are for the same.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{creation_timestamp, object_name};
use crate::base::{ObjectName, ObjectRef};

/// What a policy is for: an object, or one section of it, such as a port of a Service or a rule of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::translate) struct Target {
    pub(in crate::translate) object: ObjectRef,
    /// `None`: the object as a whole.
    pub(in crate::translate) section: Option<Box<str>>,
}

/// In which order policies come that are for the same target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::translate) struct Precedence {
    /// `None` counts as the oldest.
    pub(in crate::translate) age: Option<jiff::Timestamp>,
    pub(in crate::translate) name: ObjectName,
}

/// How much of an object a target takes in. The narrower comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Section,
    Whole,
}

// === impl Target ===

impl Target {
    /// A reference as it is written; an empty name of a section is none.
    pub(in crate::translate) fn new(object: ObjectRef, section: Option<&str>) -> Self {
        Self { object, section: section.filter(|section| !section.is_empty()).map(Into::into) }
    }

    /// The targets that take in a section of an object, the narrower first.
    pub(super) fn around(object: &ObjectRef, section: Option<&str>) -> impl Iterator<Item = Self> {
        let narrow = Some(Self::new(object.clone(), section)).filter(|target| target.section.is_some());
        narrow.into_iter().chain([Self::new(object.clone(), None)])
    }

    /// How much of an object it takes in, where it takes in this section of it.
    fn scope(&self, object: &ObjectRef, section: Option<&str>) -> Option<Scope> {
        let scope = if self.section.is_some() { Scope::Section } else { Scope::Whole };
        let takes_in = self.object == *object && self.section.as_deref().is_none_or(|own| Some(own) == section);
        takes_in.then_some(scope)
    }
}

// === impl Precedence ===

impl Precedence {
    /// Of an object.
    pub(in crate::translate) fn of(metadata: &ObjectMeta) -> Self {
        Self { age: creation_timestamp(metadata), name: object_name(metadata) }
    }
}

/// All policies that are for a section of an object, where each of them adds to the others: those for the section, then those for the object as
/// a whole, and of these the oldest first, then by namespace and name.
pub(in crate::translate) fn in_order<'a>(
    policies: impl IntoIterator<Item = (&'a Precedence, &'a [Target])>,
    object: &ObjectRef,
    section: Option<&str>,
) -> impl Iterator<Item = &'a ObjectName> {
    let ranked = policies.into_iter().filter_map(|(precedence, targets)| {
        let scope = targets.iter().filter_map(|target| target.scope(object, section)).min()?;
        Some((scope, precedence))
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort();
    ranked.into_iter().map(|(_, precedence)| &precedence.name)
}
