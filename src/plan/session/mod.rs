//! Sessions that stay on their host while it serves: which host a request's tag leads to, and what a client gets for its next request.

use std::sync::Arc;

use http::{HeaderValue, header::SET_COOKIE};
use smallvec::SmallVec;

use crate::base::Tag;
use crate::base::head::{HeaderMap, request};
use crate::lb;
use crate::snapshot::{Affinity, Backend, Cluster, ClusterState, Forward, Hold, RoutePolicy, Snapshot, TagCarrier, TagMeaning, Target};

use super::{
    connection::Connection,
    cookie,
    scheme::scheme,
    tag::{key_and_tag, tag},
};

/// Most bytes of a key that are written into a cookie anew. Clients send longer ones without a tag.
const MOST_KEY_BYTES: usize = 1024;

/// What a request to a backend that holds sessions says of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Nothing: it has none yet.
    New,
    /// It is bound to a host that serves.
    Bound,
    /// Its host is gone.
    Lost,
    /// Its tag is unknown: of a host that this process has not heard of yet, or made up.
    Unknown,
}

/// The session of a request to a backend that holds sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What the request says.
    pub state: SessionState,
    /// The tag that it came with.
    tag: Option<Tag>,
    /// The host that the tag leads to, an index into `Cluster::hosts`.
    host: Option<u32>,
    /// What stands before the tag, where the cookie of the key carries it.
    value: SmallVec<[u8; 24]>,
    /// That was made for this request.
    is_generated: bool,
    is_https: bool,
}

/// Where a tag leads, before a backend is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Index of the backend within the rule's.
    pub(super) backend: usize,
    /// Index of the host within the cluster's.
    pub(super) host: u32,
}

/// The AffinityPolicy that counts for requests of a rule to a cluster.
pub(super) fn affinity<'a>(policy: &'a RoutePolicy, cluster: &'a Cluster) -> Option<&'a Arc<Affinity>> {
    policy.affinity.as_ref().or(cluster.affinity.as_ref())
}

fn hold<'a>(policy: &'a RoutePolicy, cluster: &'a Cluster) -> Option<&'a Hold> {
    affinity(policy, cluster)?.hold.as_ref()
}

/// The backend and host that a request's tag leads to, whatever their weight.
pub(super) fn find(forward: &Forward, policy: &RoutePolicy, headers: &HeaderMap, snapshot: &Snapshot) -> Option<Found> {
    forward.backends.iter().enumerate().find_map(|(index, backend)| {
        let cluster = ready_cluster(backend, snapshot)?;
        let tag = tag(&hold(policy, cluster)?.carrier, headers)?;
        match cluster.held.as_ref()?.meaning(tag) {
            TagMeaning::Host(host) => Some(Found { backend: index, host }),
            TagMeaning::Departed | TagMeaning::Unknown => None,
        }
    })
}

fn ready_cluster<'s>(backend: &Backend, snapshot: &'s Snapshot) -> Option<&'s Arc<Cluster>> {
    match &backend.target {
        Target::Cluster(id) => snapshot.cluster(*id).filter(|cluster| cluster.state == ClusterState::Ready),
        Target::Redirect(_) | Target::Invalid(_) => None,
    }
}

/// The session of a request to a cluster; `None`: it holds none. `bound`: the host that its tag leads to.
pub(super) fn session(
    cluster: &Cluster,
    policy: &RoutePolicy,
    parts: &request::Parts,
    connection: &Connection<'_>,
    bound: Option<u32>,
) -> Option<Session> {
    let carrier = &hold(policy, cluster)?.carrier;
    let (key, tag) = match carrier {
        TagCarrier::KeyCookie(cookie) => key_and_tag(&parts.headers, &cookie.name),
        TagCarrier::Cookie(_) | TagCarrier::Header(_) => (None, tag(carrier, &parts.headers)),
    };
    let state = match (bound, tag.and_then(|tag| Some(cluster.held.as_ref()?.meaning(tag)))) {
        (Some(_), _) => SessionState::Bound,
        (None, None) => SessionState::New,
        (None, Some(TagMeaning::Departed)) => SessionState::Lost,
        (None, Some(TagMeaning::Host(_) | TagMeaning::Unknown)) => SessionState::Unknown,
    };
    let (value, is_generated) = match (carrier, key) {
        (TagCarrier::KeyCookie(_), Some(key)) => (SmallVec::from_slice(key), false),
        (TagCarrier::KeyCookie(_), None) => (SmallVec::from_slice(&lb::generated_cookie_value(connection.remote, connection.local)), true),
        (TagCarrier::Cookie(_) | TagCarrier::Header(_), _) => (SmallVec::new(), false),
    };
    Some(Session { state, tag, host: bound, value, is_generated, is_https: scheme(parts) == "https" })
}

// === impl Session ===

impl Session {
    /// The backend and host that the tag leads to by now, if this is another snapshot.
    pub(super) fn find_again(&self, forward: &Forward, policy: &RoutePolicy, snapshot: &Snapshot) -> Option<Found> {
        let tag = self.tag?;
        forward.backends.iter().enumerate().find_map(|(index, backend)| {
            let cluster = ready_cluster(backend, snapshot)?;
            hold(policy, cluster)?;
            match cluster.held.as_ref()?.meaning(tag) {
                TagMeaning::Host(host) => Some(Found { backend: index, host }),
                TagMeaning::Departed | TagMeaning::Unknown => None,
            }
        })
    }

    /// The session, bound to this host.
    pub(super) fn bound_to(self, host: u32) -> Self {
        Self { state: SessionState::Bound, host: Some(host), ..self }
    }

    /// Whether another host has answered than the one that it is bound to.
    pub fn has_left(&self, answered: Option<u32>) -> bool {
        self.host.is_some() && answered.is_some() && self.host != answered
    }

    /// Gives the client the tag of the host that has answered, unless that is what it came with.
    pub(in crate::plan) fn keep(&self, cluster: &Cluster, policy: &RoutePolicy, answered: Option<u32>, headers: &mut HeaderMap) {
        if answered.is_none() || self.host == answered {
            return;
        }
        let Some(hold) = hold(policy, cluster) else { return };
        // Without keys there are no tags, and the key alone holds the session as well as it can.
        let tag = answered.and_then(|host| cluster.held.as_ref()?.tag(host)).map(Tag::text);
        match (&hold.carrier, tag) {
            (TagCarrier::KeyCookie(cookie), Some(tag)) if self.value.len() <= MOST_KEY_BYTES => {
                let value = [&*self.value, b".", &tag].concat();
                append(headers, cookie::set_cookie(cookie, &value, self.is_https));
            }
            (TagCarrier::KeyCookie(cookie), None) if self.is_generated => {
                append(headers, cookie::set_cookie(cookie, &self.value, self.is_https));
            }
            (TagCarrier::Cookie(cookie), Some(tag)) => append(headers, cookie::set_cookie(cookie, &tag, self.is_https)),
            (TagCarrier::Header(name), Some(tag)) => {
                if let Ok(value) = HeaderValue::from_bytes(&tag) {
                    headers.insert(name, value);
                }
            }
            (TagCarrier::KeyCookie(_), _) | (TagCarrier::Cookie(_) | TagCarrier::Header(_), None) => {}
        }
    }
}

fn append(headers: &mut HeaderMap, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests;
