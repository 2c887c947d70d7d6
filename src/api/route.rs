//! Routes of all kinds, read into one type: parents, hostnames, and rules with their matches, filters and backends.
//!
//! The kinds of routes share the shape of most of their fields. What they share has HTTPRoute's generated types here, whichever kind it was
//! read from.

use gateway_api::experimental::httproutes as http;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::{Kind, ObjectRef};

use super::object_name;

/// A reference to a parent of a route.
pub type RouteParentRef = http::HttpRouteParentRefs;

/// A filter of a rule.
pub type RouteFilter = http::HttpRouteRulesFilters;

/// A backend of a rule, with its weight and filters.
pub type RouteBackendRef = http::HttpRouteRulesBackendRefs;

/// What an HTTPRoute's rule asks of a request.
pub type HttpMatch = http::HttpRouteRulesMatches;

/// A route of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Which kind it was read from.
    pub kind: Kind,
    /// `metadata` and `spec`.
    pub body: RouteBody,
}

/// `spec` of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Hostnames of requests or, of a TLSRoute, server names of connections; a TCPRoute and a UDPRoute have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostnames: Option<Vec<String>>,
    /// The Gateways, or single listeners of them, that it wants to be attached to.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "parentRefs")]
    pub parent_refs: Option<Vec<RouteParentRef>>,
    /// The rules, in the order written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<RouteRule>>,
}

/// A rule of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteRule {
    /// Where its requests or connections go.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "backendRefs")]
    pub backend_refs: Option<Vec<RouteBackendRef>>,
    /// What is done to its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<RouteFilter>>,
    /// What an HTTPRoute asks of a request: one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<HttpMatch>>,
    /// Unique within its route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// HTTPRoute only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<http::HttpRouteRulesRetry>,
    /// Not served yet.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sessionPersistence")]
    pub session_persistence: Option<http::HttpRouteRulesSessionPersistence>,
    /// HTTPRoute only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<http::HttpRouteRulesTimeouts>,
}

/// A route without its kind: what is written of it, and what is kept of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteBody {
    /// The object's `metadata`.
    pub metadata: ObjectMeta,
    /// The object's `spec`.
    pub spec: RouteSpec,
}

// === impl Route ===

impl Route {
    /// The rules, in the order written.
    pub fn rules(&self) -> &[RouteRule] {
        self.body.spec.rules.as_deref().unwrap_or_default()
    }

    /// The object's `metadata`.
    pub fn metadata(&self) -> &ObjectMeta {
        &self.body.metadata
    }

    /// Kind, namespace and name.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { kind: self.kind, name: object_name(&self.body.metadata) }
    }

    /// The object as its kind writes it.
    pub fn document(&self) -> Value {
        let facts = self.kind.facts();
        let version = facts.versions.first().copied().unwrap_or_default();
        json!({"apiVersion": format!("{}/{version}", facts.group), "kind": facts.name, "metadata": self.body.metadata, "spec": self.body.spec})
    }
}

// === impl RouteBody ===

impl RouteBody {
    /// As a route of this kind.
    pub fn of_kind(self, kind: Kind) -> Route {
        Route { kind, body: self }
    }
}
