//! What a RouteOption amounts to.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderValue;

use crate::base::{ObjectName, ObjectRef};
use crate::snapshot::{HashPolicy, HeaderOps, PathRewrite, RetryPolicy};
use crate::translate::gloo::findings::Findings;

/// A compiled RouteOption.
#[derive(Clone, Debug, Default)]
pub struct CompiledRouteOption {
    /// Namespace and name.
    pub name: ObjectName,
    /// Routes of its own namespace that are targets, whether they exist or not. Sorted.
    pub targets: Vec<ObjectRef>,
    /// The options that are set, by the name under which they are merged. Boxed: mostly one is set, and a map makes room for eleven.
    pub options: BTreeMap<Box<str>, Box<OptionValue>>,
    /// For the status.
    pub findings: Findings,
}

/// One top-level field of `spec.options`.
#[derive(Clone, Debug)]
pub enum OptionValue {
    /// `lbHash`.
    LbHash(Box<[HashPolicy]>),
    /// `timeout`; `None` is unlimited.
    Timeout(Option<Duration>),
    /// `idleTimeout`; `None` is unlimited.
    IdleTimeout(Option<Duration>),
    /// `retries`.
    Retries {
        /// When to try again; `None`: never on an answer.
        policy: Option<RetryPolicy>,
        /// Time for one attempt.
        per_try_timeout: Option<Duration>,
    },
    /// `prefixRewrite` or `regexRewrite`; `None` changes nothing.
    Path(Option<PathRewrite>),
    /// `hostRewrite`; `None` changes nothing.
    Host(Option<HeaderValue>),
    /// `headerManipulation`.
    Headers {
        /// Changes to request headers.
        request: HeaderOps,
        /// Changes to response headers.
        response: HeaderOps,
    },
    /// Set, but without effect; later RouteOptions' values of it have none either.
    NotApplied,
    /// Wrong or not supported: rules that get it answer 500. Why.
    Refused(Box<str>),
}
