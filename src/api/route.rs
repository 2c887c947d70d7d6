//! Routes of all kinds, read into one type: parents, hostnames, and rules with their matches, filters and backends.
//!
//! The kinds of routes share the shape of most of their fields. What they share has HTTPRoute's generated types here, whichever kind it was
//! read from.

use gateway_api::experimental::httproutes as http;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::{Kind, ObjectRef};

use super::{metadata::object_name, session_persistence::SessionPersistence};

/// A reference to a parent of a route.
pub type RouteParentRef = http::HttpRouteParentRefs;

/// A filter of a rule or of one of its backends.
pub type RouteFilter = http::HttpRouteRulesFilters;

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
    /// What a GRPCRoute asks of a call: one of these.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "grpcMatches")]
    pub grpc_matches: Option<Vec<GrpcMatch>>,
    /// Unique within its route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// HTTPRoute only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<http::HttpRouteRulesRetry>,
    /// How its sessions persist (GEP-1619).
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "sessionPersistence")]
    pub session_persistence: Option<SessionPersistence>,
    /// HTTPRoute only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<http::HttpRouteRulesTimeouts>,
}

/// A backend of a rule, with its weight and filters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteBackendRef {
    /// What is done to the requests that it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<RouteFilter>>,
    /// Absent: the core group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Absent: Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the object.
    pub name: String,
    /// Absent: the route's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Port of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Its share of the requests; absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

/// A route without its kind: what is written of it, and what is kept of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteBody {
    /// The object's `metadata`.
    pub metadata: ObjectMeta,
    /// The object's `spec`.
    pub spec: RouteSpec,
}

/// What a GRPCRoute's rule asks of a call (Gateway API, `GRPCRouteMatch`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrpcMatch {
    /// Absent: any method of any service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Headers of the call, which gRPC calls metadata: all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Vec<http::HttpRouteRulesMatchesHeaders>>,
}

/// Service and method of a call (Gateway API, `GRPCMethodMatch`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GrpcMethodMatch {
    /// How they are compared; absent: letter by letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<GrpcMethodMatchType>,
    /// The service with its package; absent or empty: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The method; absent or empty: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// How service and method of a call are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrpcMethodMatchType {
    /// Letter by letter.
    Exact,
    /// By regular expressions over the whole name.
    RegularExpression,
}

/// A GRPCRoute as it is written: its matches have the name of HTTPRoute's, and another shape.
#[derive(Debug, Deserialize)]
pub(super) struct GrpcRouteBody {
    metadata: ObjectMeta,
    spec: GrpcRouteSpec,
}

#[derive(Debug, Deserialize)]
struct GrpcRouteSpec {
    #[serde(default)]
    hostnames: Option<Vec<String>>,
    #[serde(default, rename = "parentRefs")]
    parent_refs: Option<Vec<RouteParentRef>>,
    #[serde(default)]
    rules: Option<Vec<GrpcRouteRule>>,
}

#[derive(Debug, Deserialize)]
struct GrpcRouteRule {
    #[serde(default, rename = "backendRefs")]
    backend_refs: Option<Vec<RouteBackendRef>>,
    #[serde(default)]
    filters: Option<Vec<RouteFilter>>,
    #[serde(default)]
    matches: Option<Vec<GrpcMatch>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "sessionPersistence")]
    session_persistence: Option<SessionPersistence>,
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
        let mut document = json!({
            "apiVersion": format!("{}/{version}", facts.group), "kind": facts.name, "metadata": self.body.metadata, "spec": self.body.spec,
        });
        let rules = document.pointer_mut("/spec/rules").and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
            if let Some(matches) = rule.remove("grpcMatches") {
                rule.insert("matches".to_owned(), matches);
            }
        }
        document
    }
}

// === impl RouteBody ===

impl RouteBody {
    /// As a route of this kind.
    pub fn of_kind(self, kind: Kind) -> Route {
        Route { kind, body: self }
    }
}

// === impl GrpcRouteBody ===

impl GrpcRouteBody {
    /// As a route.
    pub(super) fn into_route(self) -> Route {
        let GrpcRouteSpec { hostnames, parent_refs, rules } = self.spec;
        let rule = |rule: GrpcRouteRule| RouteRule {
            backend_refs: rule.backend_refs,
            filters: rule.filters,
            grpc_matches: rule.matches,
            name: rule.name,
            session_persistence: rule.session_persistence,
            ..RouteRule::default()
        };
        let rules = rules.map(|rules| rules.into_iter().map(rule).collect());
        RouteBody { metadata: self.metadata, spec: RouteSpec { hostnames, parent_refs, rules } }.of_kind(Kind::GrpcRoute)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::{Document, Object, decode};

    #[test]
    fn a_route_is_written_as_it_was_read() {
        let rules = |matches| json!([{"name": "r", "matches": [matches], "backendRefs": [{"name": "b", "port": 80, "weight": 2}]}]);
        let http = rules(json!({"path": {"type": "Exact", "value": "/a"}, "headers": [{"name": "x", "value": "1"}]}));
        let grpc = rules(json!({"method": {"type": "Exact", "service": "a.B", "method": "C"}, "headers": [{"name": "x", "value": "1"}]}));
        for (kind, rules) in [("HTTPRoute", http), ("GRPCRoute", grpc)] {
            let document = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind, "metadata": {"name": "a", "namespace": "n"},
                "spec": {"hostnames": ["a.example"], "parentRefs": [{"name": "g"}], "rules": rules}});
            let Document::Object(object) = decode(document.clone()).unwrap() else { panic!("no object") };
            let Object::Route(route) = *object else { panic!("no route") };
            assert_eq!(route.document(), document);
        }
    }
}
