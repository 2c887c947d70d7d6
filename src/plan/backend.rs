//! From a rule to a backend, and from a backend to a host.

use std::sync::{Arc, atomic::Ordering};

use http::StatusCode;
use smallvec::SmallVec;

use crate::base::head::request;
use crate::lb::Choice;
use crate::snapshot::{
    Backend, Bind, Cluster, ClusterId, ClusterState, Forward, HostTls, MissingKey, RoutePolicy, Snapshot, Target, UpstreamProtocol,
};

use super::{
    affinity::{self, KeyResult, Trace},
    chooser::Chooser,
    connection::Connection,
    decision::{ForwardPlan, KeySource, Reply, ReplyReason},
    session,
};

/// Draws a backend of the rule, by weight.
pub(super) fn draw<'f>(forward: &'f Forward, chooser: &mut Chooser) -> Result<(usize, &'f Backend), Reply> {
    let index = forward.split.pick(chooser.random.u64(..));
    let backend = index.and_then(|index| Some((index, forward.backends.get(index)?)));
    backend.ok_or_else(|| refuse(ReplyReason::InvalidBackend("no backend of the rule has a weight above 0".into())))
}

/// The cluster of a backend, if it takes requests.
pub(super) fn cluster<'s>(backend: &Backend, snapshot: &'s Snapshot) -> Result<&'s Arc<Cluster>, Reply> {
    let id = match &backend.target {
        Target::Cluster(id) => *id,
        // Whoever asks about requests has answered them before.
        Target::Redirect(_) => return Err(refuse(ReplyReason::Redirect)),
        Target::Invalid(reply) => {
            return Err(Reply { status: reply.status, location: None, reason: ReplyReason::InvalidBackend(reply.reason.clone()) });
        }
    };
    let cluster = snapshot.cluster(id).ok_or_else(|| refuse(ReplyReason::InvalidBackend("the backend is unknown".into())))?;
    match &cluster.state {
        ClusterState::Ready => Ok(cluster),
        ClusterState::Refused(why) => Err(refuse(ReplyReason::BackendRefused(why.clone()))),
    }
}

/// What choosing a host reads of a request.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) parts: &'a request::Parts,
    pub(super) connection: &'a Connection<'a>,
    pub(super) client: std::net::IpAddr,
    pub(super) policy: &'a RoutePolicy,
    pub(super) protocol: UpstreamProtocol,
    /// The host of the cluster that the request's session leads to.
    pub(super) bound: Option<session::Found>,
}

/// How TLS is spoken to the hosts of a cluster for what comes in on this socket.
pub(super) fn host_tls(cluster: &Cluster, bind: &Bind) -> Option<HostTls> {
    let tls = Arc::clone(cluster.connection.tls.as_ref()?);
    Some(HostTls { tls, identity: bind.host_identity.clone() })
}

/// Chooses the host: by the request's hash where the cluster hashes, at random among its table without a key, else by its policy.
pub(super) fn choose_host(
    cluster: &Arc<Cluster>,
    asked: &Asked<'_>,
    chooser: &mut Chooser,
    trace: Option<&mut Trace>,
) -> Result<ForwardPlan, Reply> {
    let no_host = || {
        let reason = ReplyReason::NoHealthyUpstream(cluster.no_hosts.clone());
        Reply { status: StatusCode::SERVICE_UNAVAILABLE, location: None, reason }
    };
    if asked.bound.is_none() && cluster.balanced().is_empty() {
        return Err(no_host());
    }
    let plan = |choice: Choice, selection| ForwardPlan {
        cluster: Arc::clone(cluster),
        hash: None,
        protocol: asked.protocol,
        tls: host_tls(cluster, asked.connection.bind),
        selection,
        host: choice.host,
        entry: choice.entry,
        key_source: KeySource::NotHashed,
        set_cookie: SmallVec::new(),
        session: None,
        follows: session::affinity(asked.policy, cluster).and_then(|affinity| affinity.ends_moved),
    };
    let random = chooser.random.u64(..);
    let bound = asked.bound.map(|bound| Choice { host: bound.host, entry: 0 });
    let session = session::session(cluster, asked.policy, asked.parts, asked.connection, asked.bound);
    if !cluster.balancer.uses_hash() {
        if let Some(bound) = bound {
            return Ok(ForwardPlan { key_source: KeySource::Bound, session, ..plan(bound, random) });
        }
        let turn = chooser.next_turn(cluster.id);
        let choice = cluster.balancer.choose(random, turn, |host| active(cluster, host)).ok_or_else(no_host)?;
        return Ok(ForwardPlan { session, ..plan(choice, random) });
    }
    let key = key(cluster, asked, trace)?;
    let selection = key.hash.unwrap_or(random);
    let (choice, key_source) = match (bound, key.hash) {
        (Some(bound), _) => (Some(bound), KeySource::Bound),
        (None, Some(hash)) => (by_hash(cluster, hash), key.source),
        (None, None) if cluster.balancer.is_bounded() => (by_hash(cluster, random), key.source),
        (None, None) => (cluster.balancer.choose_keyless(random), key.source),
    };
    let choice = choice.ok_or_else(no_host)?;
    Ok(ForwardPlan { hash: key.hash, key_source, set_cookie: key.set_cookie, session, ..plan(choice, selection) })
}

/// The key of a request: by the policies of its rule, else by those of an AffinityPolicy for the backend.
fn key(cluster: &Cluster, asked: &Asked<'_>, trace: Option<&mut Trace>) -> Result<KeyResult, Reply> {
    let Connection { remote, local, .. } = *asked.connection;
    let affinity = session::affinity(asked.policy, cluster);
    let of_backend = || cluster.affinity.as_ref().and_then(|affinity| affinity.keys.as_deref()).unwrap_or_default();
    let policies = if asked.policy.hash.is_empty() { of_backend() } else { &asked.policy.hash };
    let key = affinity::evaluate(policies, asked.parts, asked.client, remote, local, trace.map(|trace| &mut trace.policies));
    let (None, Some(affinity)) = (key.hash, affinity) else { return Ok(key) };
    match affinity.missing {
        MissingKey::Random => Ok(key),
        MissingKey::Connection => {
            let hash = affinity::connection_hash(remote, local);
            Ok(KeyResult { hash: Some(hash), source: KeySource::Connection, ..key })
        }
        MissingKey::Reject => {
            let reason = ReplyReason::NoAffinityKey(affinity.policy.clone());
            Err(Reply { status: StatusCode::BAD_REQUEST, location: None, reason })
        }
    }
}

/// Chooses a host for a copy of a request that goes to `first`: by the key of that one, if it has one.
pub(super) fn choose_alike(cluster: &Arc<Cluster>, first: &ForwardPlan, asked: &Asked<'_>, chooser: &mut Chooser) -> Option<ForwardPlan> {
    let Some(hash) = first.hash.filter(|_| cluster.balancer.uses_hash()) else {
        let chosen = choose_host(cluster, asked, chooser, None).ok()?;
        return Some(ForwardPlan { set_cookie: SmallVec::new(), session: None, ..chosen });
    };
    let Choice { host, entry } = by_hash(cluster, hash)?;
    Some(ForwardPlan {
        cluster: Arc::clone(cluster),
        hash: first.hash,
        protocol: asked.protocol,
        tls: host_tls(cluster, asked.connection.bind),
        selection: hash,
        host,
        entry,
        key_source: first.key_source,
        set_cookie: SmallVec::new(),
        session: None,
        follows: None,
    })
}

fn by_hash(cluster: &Cluster, selection: u64) -> Option<Choice> {
    if cluster.balancer.is_bounded() {
        let all = (0..cluster.balanced().len()).map(|host| active(cluster, host)).fold(0, u32::saturating_add);
        return cluster.balancer.choose_bounded(selection, 0, all, |host| active(cluster, host));
    }
    cluster.balancer.choose_by_hash(selection, 0)
}

fn active(cluster: &Cluster, host: usize) -> u32 {
    let live = cluster.hosts.get(host).and_then(|host| host.live.as_ref());
    live.map_or(0, |live| live.active.load(Ordering::Relaxed))
}

fn refuse(reason: ReplyReason) -> Reply {
    Reply { status: StatusCode::INTERNAL_SERVER_ERROR, location: None, reason }
}

impl Chooser {
    /// A worker's chooser. Its random numbers should be its own.
    pub fn new(random: fastrand::Rng) -> Self {
        Self { random, turns: Vec::new() }
    }

    /// The next turn of a cluster. Turns begin anywhere, so that the workers do not go in step.
    fn next_turn(&mut self, cluster: ClusterId) -> u64 {
        let index = cluster.index();
        if index >= self.turns.len() {
            let random = &mut self.random;
            self.turns.resize_with(index + 1, || random.u64(..));
        }
        match self.turns.get_mut(index) {
            Some(turn) => {
                *turn = turn.wrapping_add(1);
                *turn
            }
            None => 0,
        }
    }
}
