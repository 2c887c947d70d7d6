//! Connections that are not looked at: TCP, and TLS that is passed through or was terminated by its server name.

use std::{rc::Rc, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    plan::{self, StreamConnection, StreamPlan},
    proxy::{
        state::{
            breaker::{Ceilings, Opened},
            conn::Conn,
            error::ProxyError,
            peer::Peer,
            timing::Protocol,
        },
        up::{self, HostStream},
        worker::Worker,
    },
    telemetry::OverflowKind,
};

use super::{
    guard::FlightGuard,
    reply,
    upgrade::{self, Copying, Speaks},
};

/// Either side may close and go on listening for as long as the other one has something to say.
const COPYING: Copying = Copying { behind: 0, patience: None, speaks: Speaks::Bytes };

/// Sends a connection to its host and copies both ways until both sides have ended, or nothing moves any more.
pub(in crate::proxy) async fn serve<C>(worker: &Rc<Worker>, conn: &Rc<Conn>, peer: &Peer, client: C, server_name: Option<&str>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    // Whatever the client says is the host's: there is no head that could be late.
    conn.speaks(Protocol::Http1);
    let mut guard = FlightGuard::begin_stream(worker, conn);
    if guard.log().is_some() {
        guard.record().begin_stream(peer, server_name);
    }
    let (plan, gateway) = {
        let mut cached = worker.snapshot.borrow_mut();
        let versioned = cached.get();
        let Some(bind) = versioned.value.binds.get(&peer.bind) else { return refuse(&guard, &ProxyError::BindGone) };
        let connection = StreamConnection { bind, remote: peer.remote, local: peer.local, server_name, is_terminated: peer.tls.is_some() };
        let plan = plan::plan_stream(&connection, &versioned.value, &mut worker.chooser.borrow_mut());
        (plan, Arc::clone(&bind.gateway))
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason) => {
            guard.record().note_reason(reply::why(&reason));
            return guard.aborted(reply::flag(&reason));
        }
    };
    guard.record().note_stream(&plan, &gateway);
    match connect(worker, &mut guard, &plan).await {
        Ok((host, _opened)) => upgrade::copy(worker, &guard, client, host, &[], COPYING).await,
        Err(error) => refuse(&guard, &error),
    }
}

fn refuse(guard: &FlightGuard, error: &ProxyError) {
    guard.record().note_reason(error.reason());
    guard.aborted(error.verdict().flag);
}

/// Connects to the host of the plan; where it cannot be reached, to the next one, as for requests.
async fn connect(worker: &Rc<Worker>, guard: &mut FlightGuard, plan: &StreamPlan) -> Result<(HostStream, Opened), ProxyError> {
    let cluster = &plan.forward.cluster;
    let share = worker.hosts.share(cluster);
    let ceilings = Ceilings::new(cluster, &worker.config.backends);
    guard.flight().arm(&plan.rule.policy.timeouts);
    let mut failed = ProxyError::NoHost;
    for index in plan.forward.hosts() {
        let Some(host) = cluster.hosts.get(index as usize) else { continue };
        let Some(opened) = share.open(host.address, ceilings, false) else {
            worker.metrics.overflow(OverflowKind::Connections);
            return Err(ProxyError::Overflow(OverflowKind::Connections));
        };
        let attempts = &guard.flight().outcome.attempts;
        attempts.set(attempts.get() + 1);
        guard.record().note_stream_host(host);
        let secure = plan.forward.tls.as_ref().map(|tls| up::Secure { tls, alpn: None });
        match up::dial(&worker.hosts, host.address, &cluster.connection, secure, guard.flight().conn.ends()).await {
            Ok(stream) => {
                guard.occupy(host.live.as_ref());
                guard.follow(&plan.forward, index);
                return Ok((stream, opened));
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
