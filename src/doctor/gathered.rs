//! What is gathered of a cluster: answers of the API server and of the pods, as they came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::{Kind, Message};

use super::{install::Install, objects::text};

/// Everything that was gathered of one install.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gathered {
    /// The install.
    pub install: Install,
    /// Version of the API server.
    pub kubernetes: Option<String>,
    /// The API server's time, seconds since the epoch.
    pub now: i64,
    /// Lists of objects.
    pub lists: BTreeMap<Asked, Listed>,
    /// What the service account of the pods may do.
    pub rights: Vec<RightAnswer>,
    /// What each pod of the install says, by its name.
    pub pods: BTreeMap<String, PodAnswer>,
}

/// A list of objects, as far as it could be had.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listed {
    /// The objects.
    pub items: Vec<Value>,
    /// Why they could not be listed.
    pub refused: Option<String>,
    /// The API server does not know the kind.
    pub is_unknown: bool,
}

/// What a pod says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodAnswer {
    /// Its metrics, one text for each time it was asked.
    pub metrics: Vec<String>,
    /// Its hash tables, where the pods do not agree; absent in versions that do not tell.
    pub tables: Option<String>,
    /// Why it could not be asked, the last time.
    pub refused: Option<String>,
}

/// A right, in the words of RBAC.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Right {
    /// Verb.
    pub verb: String,
    /// Group; empty: the core's.
    pub group: String,
    /// Plural, with its subresource: `gateways/status`.
    pub resource: String,
    /// The namespace; empty: in all of them.
    pub namespace: String,
    /// The only object that it is for; empty: for all.
    pub name: String,
}

/// Whether the service account has a right.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RightAnswer {
    /// The right.
    pub right: Right,
    /// It has it.
    pub allowed: bool,
    /// Why that could not be asked.
    pub refused: Option<String>,
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    /// CustomResourceDefinitions.
    CustomResourceDefinitions,
    /// Deployments.
    Deployments,
    /// EndpointSlices.
    EndpointSlices,
    /// GatewayClasses.
    GatewayClasses,
    /// Gateways.
    Gateways,
    /// GRPCRoutes.
    GrpcRoutes,
    /// HTTPRoutes.
    HttpRoutes,
    /// Leases of the install's namespace.
    Leases,
    /// Namespaces.
    Namespaces,
    /// Pods of the install's namespace.
    Pods,
    /// RouteOptions.
    RouteOptions,
    /// Services.
    Services,
    /// TCPRoutes.
    TcpRoutes,
    /// TLSRoutes.
    TlsRoutes,
    /// UDPRoutes.
    UdpRoutes,
    /// Upstreams.
    Upstreams,
}

/// Of which namespaces it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of all, or it has none.
    Everywhere,
    /// Of the install's namespace only.
    Install,
}

/// Why a check could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unasked(pub(super) Message);

// === impl Asked ===

impl Asked {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::CustomResourceDefinitions,
        Self::Deployments,
        Self::EndpointSlices,
        Self::GatewayClasses,
        Self::Gateways,
        Self::GrpcRoutes,
        Self::HttpRoutes,
        Self::Leases,
        Self::Namespaces,
        Self::Pods,
        Self::RouteOptions,
        Self::Services,
        Self::TcpRoutes,
        Self::TlsRoutes,
        Self::UdpRoutes,
        Self::Upstreams,
    ];

    /// Routes, with the names of their kinds.
    pub const ROUTES: [(Self, Kind); 5] = [
        (Self::GrpcRoutes, Kind::GrpcRoute),
        (Self::HttpRoutes, Kind::HttpRoute),
        (Self::TcpRoutes, Kind::TcpRoute),
        (Self::TlsRoutes, Kind::TlsRoute),
        (Self::UdpRoutes, Kind::UdpRoute),
    ];

    /// Its plural, as in a path of the API server.
    pub fn plural(self) -> &'static str {
        match self {
            Self::CustomResourceDefinitions => "customresourcedefinitions",
            Self::Deployments => "deployments",
            Self::EndpointSlices => "endpointslices",
            Self::GatewayClasses => "gatewayclasses",
            Self::Gateways => "gateways",
            Self::GrpcRoutes => "grpcroutes",
            Self::HttpRoutes => "httproutes",
            Self::Leases => "leases",
            Self::Namespaces => "namespaces",
            Self::Pods => "pods",
            Self::RouteOptions => "routeoptions",
            Self::Services => "services",
            Self::TcpRoutes => "tcproutes",
            Self::TlsRoutes => "tlsroutes",
            Self::UdpRoutes => "udproutes",
            Self::Upstreams => "upstreams",
        }
    }

    /// Its group (empty: the core's) and version.
    pub fn group_version(self) -> (&'static str, &'static str) {
        match self {
            Self::CustomResourceDefinitions => ("apiextensions.k8s.io", "v1"),
            Self::Deployments => ("apps", "v1"),
            Self::EndpointSlices => ("discovery.k8s.io", "v1"),
            Self::GatewayClasses
            | Self::Gateways
            | Self::GrpcRoutes
            | Self::HttpRoutes
            | Self::TcpRoutes
            | Self::TlsRoutes
            | Self::UdpRoutes => ("gateway.networking.k8s.io", "v1"),
            Self::Leases => ("coordination.k8s.io", "v1"),
            Self::Namespaces | Self::Pods | Self::Services => ("", "v1"),
            Self::RouteOptions => ("gateway.solo.io", "v1"),
            Self::Upstreams => ("gloo.solo.io", "v1"),
        }
    }

    /// Of which namespaces it is listed.
    pub fn place(self) -> Place {
        match self {
            Self::Leases | Self::Pods => Place::Install,
            Self::CustomResourceDefinitions
            | Self::Deployments
            | Self::EndpointSlices
            | Self::GatewayClasses
            | Self::Gateways
            | Self::GrpcRoutes
            | Self::HttpRoutes
            | Self::Namespaces
            | Self::RouteOptions
            | Self::Services
            | Self::TcpRoutes
            | Self::TlsRoutes
            | Self::UdpRoutes
            | Self::Upstreams => Place::Everywhere,
        }
    }
}

// === impl Gathered ===

impl Gathered {
    /// The objects of a kind; none where the kind is unknown, which is a finding of its own.
    pub(super) fn list(&self, asked: Asked) -> Result<&[Value], Unasked> {
        let Some(listed) = self.lists.get(&asked) else { return Ok(&[]) };
        match &listed.refused {
            Some(why) => Err(Unasked(format!("{} cannot be listed: {why}", asked.plural()).into())),
            None => Ok(&listed.items),
        }
    }

    /// The object of a kind with this namespace and name.
    pub(super) fn find(&self, asked: Asked, namespace: &str, name: &str) -> Result<Option<&Value>, Unasked> {
        let is_it = |object: &&Value| text(object, "/metadata/name") == name && text(object, "/metadata/namespace") == namespace;
        Ok(self.list(asked)?.iter().find(is_it))
    }
}
