//! Sessions that stay on their host while it serves: which host a request's tag leads to, and what a client gets for its next request.

mod persistence;

use std::sync::Arc;

use http::{HeaderValue, header::SET_COOKIE};
use smallvec::SmallVec;

use crate::base::head::{HeaderMap, request};
use crate::base::{SessionToken, Tag};
use crate::lb;
use crate::snapshot::{
    Affinity, Backend, Cluster, ClusterState, Forward, Hold, Persistence, RouteEntry, RoutePolicy, Snapshot, TagCarrier, TagMeaning, Target,
};

use super::{
    connection::Connection,
    cookie,
    scheme::scheme,
    tag::{key_and_tag, tag},
};

use persistence::Opened;

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
    /// The persistent session that the request came with.
    opened: Option<Opened>,
}

/// Where a tag leads, before a backend is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Index of the backend within the rule's.
    pub(super) backend: usize,
    /// Index of the host within the cluster's.
    pub(super) host: u32,
    /// The persistent session that says so.
    opened: Option<Opened>,
}

/// The AffinityPolicy that counts for requests of a rule to a cluster.
pub(super) fn affinity<'a>(policy: &'a RoutePolicy, cluster: &'a Cluster) -> Option<&'a Arc<Affinity>> {
    policy.affinity.as_ref().or(cluster.affinity.as_ref())
}

fn hold<'a>(policy: &'a RoutePolicy, cluster: &'a Cluster) -> Option<&'a Hold> {
    policy.persistence.as_deref().or_else(|| affinity(policy, cluster)?.hold.as_ref())
}

/// The persistent session that a request carries.
fn open(hold: &Hold, persistence: &Persistence, cluster: &Cluster, headers: &HeaderMap) -> Option<Opened> {
    persistence::open(persistence, &hold.carrier, cluster.held.as_ref()?.keys()?, headers, persistence::now())
}

/// The backend and host that a request's tag leads to, whatever their weight.
pub(super) fn find(forward: &Forward, policy: &RoutePolicy, headers: &HeaderMap, snapshot: &Snapshot) -> Option<Found> {
    // It is the rule's, so one look is good for all backends.
    let mut looked = None;
    forward.backends.iter().enumerate().find_map(|(index, backend)| {
        let cluster = ready_cluster(backend, snapshot)?;
        let hold = hold(policy, cluster)?;
        let opened = hold.persistence.as_ref().map(|persistence| *looked.get_or_insert_with(|| open(hold, persistence, cluster, headers)));
        let (tag, opened) = match opened {
            None => (tag(&hold.carrier, headers)?, None),
            Some(opened) => (opened?.token.tag, opened),
        };
        match cluster.held.as_ref()?.meaning(tag) {
            TagMeaning::Host(host) => Some(Found { backend: index, host, opened }),
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
    bound: Option<Found>,
) -> Option<Session> {
    let hold = hold(policy, cluster)?;
    let carrier = &hold.carrier;
    let opened = hold.persistence.as_ref().and_then(|persistence| {
        let found = bound.and_then(|bound| bound.opened);
        found.or_else(|| open(hold, persistence, cluster, &parts.headers))
    });
    let (key, tag) = match carrier {
        _ if hold.persistence.is_some() => (None, opened.map(|opened| opened.token.tag)),
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
    let host = bound.map(|bound| bound.host);
    Some(Session { state, tag, host, value, is_generated, is_https: scheme(parts) == "https", opened })
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
                TagMeaning::Host(host) => Some(Found { backend: index, host, opened: self.opened }),
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

    /// Gives the client the tag of the host that has answered, unless that is what it came with. `entry`: by which the request came.
    pub(in crate::plan) fn keep(&self, cluster: &Cluster, entry: &RouteEntry, answered: Option<u32>, headers: &mut HeaderMap) {
        let is_due = self.opened.is_some_and(|opened| opened.is_due);
        if answered.is_none() || self.host == answered && !is_due {
            return;
        }
        let Some(hold) = hold(&entry.rule.policy, cluster) else { return };
        if let Some(persistence) = &hold.persistence {
            self.persist(hold, persistence, cluster, entry, answered, headers);
            return;
        }
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

    /// Gives the client what it keeps of a persistent session: a new one where another host has answered.
    fn persist(
        &self,
        hold: &Hold,
        persistence: &Persistence,
        cluster: &Cluster,
        entry: &RouteEntry,
        answered: Option<u32>,
        headers: &mut HeaderMap,
    ) {
        let Some((held, tag)) = cluster.held.as_ref().and_then(|held| Some((held, held.tag(answered?)?))) else { return };
        let Some(keys) = held.keys() else { return };
        let now = persistence::now();
        let started = self.opened.filter(|_| self.host == answered).map_or(now, |opened| opened.token.started);
        let token = SessionToken { tag, started, used: now };
        let text = token.seal(keys, &persistence.scope);
        match &hold.carrier {
            TagCarrier::KeyCookie(cookie) | TagCarrier::Cookie(cookie) => {
                append(headers, persistence::set_cookie(persistence, cookie, &token, &text, now, &entry.path, self.is_https));
            }
            TagCarrier::Header(name) => {
                if let Ok(value) = HeaderValue::from_bytes(&text) {
                    headers.insert(name, value);
                }
            }
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
