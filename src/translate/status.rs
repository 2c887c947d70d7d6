//! Statuses as values, in the form in which they are written. The writer adds times.

use serde::Serialize;

use crate::base::Message;

/// Status of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Status {
    /// GatewayClass.
    GatewayClass(GatewayClassStatus),
    /// Gateway.
    Gateway(GatewayStatus),
    /// ListenerSet.
    ListenerSet(ListenerSetStatus),
    /// HTTPRoute and the other routes.
    Route(RouteStatus),
    /// BackendTLSPolicy.
    Policy(PolicyStatus),
    /// Upstream and RouteOption: `status.statuses.<key>`.
    Gloo(GlooStatuses),
}

/// `status` of a GatewayClass.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassStatus {
    /// Accepted, SupportedVersion.
    pub conditions: Vec<Condition>,
    /// Sorted names of the features that pass conformance.
    pub supported_features: Vec<SupportedFeature>,
}

/// An entry of `supportedFeatures`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SupportedFeature {
    /// Name of the feature.
    pub name: &'static str,
}

/// `status` of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Addresses of the Gateway.
    pub addresses: Vec<GatewayAddress>,
    /// Accepted, Programmed and, where needed, ResolvedRefs.
    pub conditions: Vec<Condition>,
    /// Exactly the listeners of the spec.
    pub listeners: Vec<ListenerStatus>,
    /// How many ListenerSets add listeners; `None` where none names the Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_listener_sets: Option<i32>,
}

/// `status` of a ListenerSet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetStatus {
    /// Accepted, Programmed.
    pub conditions: Vec<Condition>,
    /// Exactly the listeners of the spec; none where the Gateway does not take it.
    pub listeners: Vec<ListenerStatus>,
}

/// An entry of `addresses`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayAddress {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub address_type: &'static str,
    /// The address.
    pub value: String,
}

/// Status of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: String,
    /// Kinds of routes that it takes.
    pub supported_kinds: Vec<RouteGroupKind>,
    /// Routes accepted on it.
    pub attached_routes: i32,
    /// Accepted, Programmed, ResolvedRefs, Conflicted.
    pub conditions: Vec<Condition>,
}

/// A kind of route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteGroupKind {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

/// `status` of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// One entry for each parentRef of the spec that is ours.
    pub parents: Vec<ParentStatus>,
}

/// Status of a route at one parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    /// The parentRef as in the spec, group and kind always present.
    pub parent_ref: ParentRef,
    /// Our controllerName.
    pub controller_name: String,
    /// Accepted, ResolvedRefs, PartiallyInvalid.
    pub conditions: Vec<Condition>,
}

/// `status` of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyStatus {
    /// One entry for each Gateway through which the policy has an effect.
    pub ancestors: Vec<AncestorStatus>,
}

/// Status of a policy at one ancestor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AncestorStatus {
    /// The Gateway.
    pub ancestor_ref: ParentRef,
    /// Our controllerName.
    pub controller_name: String,
    /// Accepted, ResolvedRefs.
    pub conditions: Vec<Condition>,
}

/// A parentRef as echoed in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// API group of the parent.
    pub group: String,
    /// Kind of the parent.
    pub kind: String,
    /// Namespace, if the spec gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Listener, if the spec gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Port, if the spec gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A condition without its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub condition_type: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Reason in CamelCase.
    pub reason: &'static str,
    /// For people.
    pub message: Message,
    /// Generation of the object that the condition speaks of; absent where the object has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// `status` of Gloo's kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GlooStatuses {
    /// By status key: the install namespace with the Gloo switch, else `clingfish`.
    pub statuses: std::collections::BTreeMap<String, GlooStatus>,
}

/// One controller's word on an Upstream or RouteOption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GlooStatus {
    /// State.
    pub state: GlooState,
    /// Errors or warnings; empty and absent if Accepted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `clingfish`.
    pub reported_by: String,
}

/// Gloo's states, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names are Gloo's")]
pub enum GlooState {
    Accepted,
    Warning,
    Rejected,
}
