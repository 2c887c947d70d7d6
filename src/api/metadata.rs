//! What every object has: namespace, name and age.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::base::ObjectName;

/// Namespace and name in a `metadata`.
pub fn object_name(metadata: &ObjectMeta) -> ObjectName {
    ObjectName::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

/// `metadata.creationTimestamp`; `None` counts as the oldest and sorts first.
pub fn creation_timestamp(metadata: &ObjectMeta) -> Option<jiff::Timestamp> {
    metadata.creation_timestamp.as_ref().map(|time| time.0)
}
