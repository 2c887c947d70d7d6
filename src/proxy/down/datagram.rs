//! Datagrams of clients: each belongs to a flow, and each flow to a host, as a connection does.

use std::{
    io,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use tokio::{io::Interest, net::UdpSocket, sync::oneshot, time::Instant};

use crate::{
    base::{OverloadLevel, is_out_of_descriptors},
    plan::{self, StreamConnection, StreamPlan},
    proxy::{
        flow::reply,
        state::{
            access::FlightOutcome,
            breaker::{Ceilings, Opened},
            error::ProxyError,
            flows::{Beginning, Flow, FlowKey, FlowTable, Swept},
            slots::SlotKey,
        },
        worker::Worker,
    },
    snapshot::{Bind, BindAddress, Host},
    telemetry::{DatagramDirection, DescriptorUse, Downstream, FlowRefusal, OverflowKind, ResponseFlag},
};

use super::datagram_socket::{DatagramSocket, Received, receive_connected, send_connected, was_too_large};

/// Time until a socket is read again that the system could not read.
const REST: Duration = Duration::from_millis(50);

/// A worker's socket for a port, with the flows of its clients.
struct Port {
    worker: Rc<Worker>,
    bind: BindAddress,
    socket: DatagramSocket,
    flows: Rc<FlowTable>,
    slot: SlotKey,
}

/// What was decided on a flow.
struct Planned {
    plan: StreamPlan,
    bind: Arc<Bind>,
    generation: u64,
}

/// Ends a flow when its task does, also by a panic.
struct Answering {
    port: Rc<Port>,
    flow: Rc<Flow>,
}

/// Takes datagrams until told to stop; then all flows of the port end.
pub(in crate::proxy) async fn serve(worker: Rc<Worker>, socket: DatagramSocket, bind: BindAddress, mut stopped: oneshot::Receiver<()>) {
    let port = Rc::new(Port::new(worker, socket, bind));
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            received = port.socket.receive(|| port.receive()) => if let Err(error) = received {
                rest_after(&error).await;
            },
        }
    }
    for flow in port.flows.all() {
        end(&port.worker, &port.flows, &flow, ResponseFlag::None, None);
    }
}

async fn rest_after(error: &io::Error) {
    if error.kind() != io::ErrorKind::Interrupted {
        tracing::warn!(%error, "cannot receive datagrams; trying again in 50 ms");
        tokio::time::sleep(REST).await;
    }
}

/// Looks for flows that have to end.
pub(in crate::proxy) fn sweep(worker: &Worker, now: Instant) {
    let (generation, snapshot) = {
        let mut cached = worker.snapshot.borrow_mut();
        let versioned = cached.get();
        (versioned.generation, Arc::clone(&versioned.value))
    };
    // A gateway that ends waits for answers, not for clients that have what they wanted.
    let most = worker.is_closing().then_some(worker.config.limits.farewell);
    worker.flows.tables.for_each(|table| {
        for (flow, why) in table.sweep(&snapshot, generation, now, most) {
            match why {
                Swept::Idle => end(worker, table, &flow, ResponseFlag::None, None),
                Swept::HostGone => end(worker, table, &flow, ResponseFlag::UpstreamConnectionTermination, Some(HOST_GONE)),
            }
        }
    });
}

/// A host has sent something, or the system says that nothing reaches it.
const SAID: Interest = Interest::READABLE.add(Interest::ERROR);

/// Why a flow has ended, for the log.
const HOST_GONE: &str = "host removed";
const HOST_REFUSED: &str = "upstream connect error";
const MADE_ROOM: &str = "overload";

/// Ends a flow; nothing happens where it has ended.
fn end(worker: &Worker, table: &FlowTable, flow: &Flow, flag: ResponseFlag, reason: Option<&'static str>) {
    if !table.remove(flow) {
        return;
    }
    worker.flows.open.set(worker.flows.open.get().saturating_sub(1));
    worker.admissions.flow_ended();
    if let Some(reason) = reason {
        flow.outcome.record.note_reason(reason);
    }
    finish(worker, &flow.outcome, flag, flow.started);
    worker.something_ended();
}

/// Counts and logs what has ended.
fn finish(worker: &Worker, outcome: &FlightOutcome, flag: ResponseFlag, started: Instant) {
    outcome.flag.set(flag);
    worker.metrics.datagrams.flow_ended(flag);
    if let Some(mut record) = outcome.record.end(started.elapsed()) {
        outcome.tell(&mut record);
        worker.submit(record);
    }
}

// === impl Port ===

impl Port {
    fn new(worker: Rc<Worker>, socket: DatagramSocket, bind: BindAddress) -> Self {
        let flows = Rc::new(FlowTable::default());
        let slot = worker.flows.tables.insert(Rc::clone(&flows));
        Self { worker, bind, socket, flows, slot }
    }

    /// Takes a datagram that may have come.
    fn receive(self: &Rc<Self>) -> io::Result<()> {
        self.worker.flows.with_buffer(|buffer| {
            let received = self.socket.try_receive(buffer)?;
            let datagram = buffer.get(..received.length).unwrap_or_default();
            // The port must outlive whatever one datagram does.
            if catch_unwind(AssertUnwindSafe(|| self.take(datagram, &received))).is_err() {
                self.worker.metrics.panicked();
                tracing::error!("a datagram led to a panic; it is lost, the others go on");
            }
            Ok(())
        })
    }

    /// A client's datagram: it goes to the host of its flow, which begins where there is none.
    fn take(self: &Rc<Self>, datagram: &[u8], received: &Received) {
        let now = Instant::now();
        let key = FlowKey { remote: received.remote, local: received.local.ip() };
        if let Some(flow) = self.flows.find(&key) {
            if self.keeps_host(&flow) {
                self.flows.touch(&flow, now);
                self.pass(&flow, datagram);
                return;
            }
            end(&self.worker, &self.flows, &flow, ResponseFlag::UpstreamConnectionTermination, Some(HOST_GONE));
        }
        if let Some(flow) = self.begin(received, now) {
            self.pass(&flow, datagram);
        }
    }

    fn keeps_host(&self, flow: &Flow) -> bool {
        let mut cached = self.worker.snapshot.borrow_mut();
        let versioned = cached.get();
        flow.keeps_host(&versioned.value, versioned.generation)
    }

    /// Sends a client's datagram to its host.
    fn pass(&self, flow: &Flow, datagram: &[u8]) {
        let metrics = &self.worker.metrics.datagrams;
        let sent = match send_connected(&flow.upstream, datagram) {
            // The system may say so of an earlier one, and has not looked at this one.
            Err(error) if was_too_large(&error) => send_connected(&flow.upstream, datagram),
            sent => sent,
        };
        match sent {
            Ok(()) => {
                metrics.passed(DatagramDirection::ToHost);
                let received = &flow.outcome.received;
                received.set(received.get() + datagram.len() as u64);
            }
            // What the system says of an earlier datagram: nobody listens there.
            Err(error) if is_refused(&error) => self.refused(flow),
            Err(_) => metrics.dropped(DatagramDirection::ToHost),
        }
    }

    /// Sends a host's datagram to its client.
    fn answer(&self, flow: &Flow, datagram: &[u8]) {
        let metrics = &self.worker.metrics.datagrams;
        flow.answered(Instant::now());
        match self.socket.reply(datagram, flow.key.remote, flow.key.local) {
            Ok(()) => {
                metrics.passed(DatagramDirection::ToClient);
                let sent = &flow.outcome.sent;
                sent.set(sent.get() + datagram.len() as u64);
            }
            Err(_) => metrics.dropped(DatagramDirection::ToClient),
        }
    }

    fn refused(&self, flow: &Flow) {
        end(&self.worker, &self.flows, flow, ResponseFlag::UpstreamConnectionFailure, Some(HOST_REFUSED));
    }

    /// Chooses a host for a client; `None`: the datagram goes nowhere, which is counted.
    fn begin(self: &Rc<Self>, received: &Received, now: Instant) -> Option<Rc<Flow>> {
        if let Err(reason) = self.admit(now) {
            self.worker.metrics.datagrams.flow_refused(reason);
            return None;
        }
        let outcome = FlightOutcome::default();
        if self.worker.access_log.is_some() {
            outcome.record.begin_flow(Downstream { peer: received.remote, local: received.local, tls: None });
        }
        let begun = self.try_begin(received, &outcome);
        self.worker.metrics.datagrams.flow_began();
        match begun {
            Ok((beginning, generation)) => {
                let Begun { upstream, opened, planned, host } = beginning;
                let forward = &planned.plan.forward;
                let key = FlowKey { remote: received.remote, local: received.local.ip() };
                let idle = planned.plan.rule.policy.timeouts.idle;
                let beginning = Beginning { key, upstream, idle, host: &host, cluster: &forward.cluster, generation, opened };
                let flow = Rc::new(Flow::new(beginning, outcome, now));
                self.flows.insert(&flow);
                self.worker.flows.open.set(self.worker.flows.open.get() + 1);
                self.worker.admissions.flow_began();
                self.worker.spawn(answers(Answering { port: Rc::clone(self), flow: Rc::clone(&flow) }));
                Some(flow)
            }
            Err((flag, reason)) => {
                outcome.record.note_reason(reason);
                finish(&self.worker, &outcome, flag, now);
                None
            }
        }
    }

    /// Whether there may be one more flow. Where there are as many as there may be, one that was quiet makes room.
    fn admit(&self, now: Instant) -> Result<(), FlowRefusal> {
        let worker = &self.worker;
        if worker.is_closing() {
            return Err(FlowRefusal::Draining);
        }
        if worker.config.overload.level() >= OverloadLevel::RejectIncomingConnections {
            return Err(FlowRefusal::Overload);
        }
        let (ceilings, workers) = (&worker.config.ceilings, worker.config.workers);
        let full = if self.flows.len() >= ceilings.flows_per_listener.div_ceil(workers) {
            FlowRefusal::MaxFlowsPerListener
        } else if worker.flows.open.get() >= ceilings.flows.div_ceil(workers) {
            FlowRefusal::MaxFlows
        } else {
            return Ok(());
        };
        let expendable = self.flows.expendable(now).ok_or(full)?;
        end(worker, &self.flows, &expendable, ResponseFlag::Overload, Some(MADE_ROOM));
        Ok(())
    }

    fn try_begin(&self, received: &Received, outcome: &FlightOutcome) -> Result<(Begun, u64), (ResponseFlag, &'static str)> {
        let worker = &self.worker;
        let planned = self.plan(received)?;
        outcome.record.note_stream(&planned.plan, &planned.bind.gateway);
        let forward = &planned.plan.forward;
        let cluster = &forward.cluster;
        let mut failed = ProxyError::NoHost;
        for index in forward.hosts() {
            let Some(host) = cluster.hosts.get(index as usize) else { continue };
            outcome.attempts.set(outcome.attempts.get() + 1);
            outcome.record.note_stream_host(host);
            // Flows stay for as long as they are idle, so that the number which is right for connections is not for them: only one that was
            // asked for counts.
            let opened = if cluster.circuit_breakers.max_connections.is_some() {
                let share = worker.hosts.share(cluster);
                let opened = share.open(host.address, Ceilings::new(cluster, &worker.config.backends), false);
                if opened.is_none() {
                    worker.metrics.overflow(OverflowKind::Connections);
                    failed = ProxyError::Overflow(OverflowKind::Connections);
                    break;
                }
                opened
            } else {
                None
            };
            match connect(worker, host.address) {
                Ok(upstream) => {
                    let (generation, host) = (planned.generation, host.clone());
                    return Ok((Begun { upstream, opened, host, planned }, generation));
                }
                Err(error) => failed = error,
            }
        }
        Err((failed.verdict().flag, failed.reason()))
    }

    fn plan(&self, received: &Received) -> Result<Planned, (ResponseFlag, &'static str)> {
        let worker = &self.worker;
        let mut cached = worker.snapshot.borrow_mut();
        let versioned = cached.get();
        let gone = ProxyError::BindGone;
        let bind = versioned.value.binds.get(&self.bind).ok_or_else(|| (gone.verdict().flag, gone.reason()))?;
        let flow = StreamConnection { bind, remote: received.remote, local: received.local, server_name: None, is_terminated: false };
        let plan = plan::plan_stream(&flow, &versioned.value, &mut worker.chooser.borrow_mut());
        let plan = plan.map_err(|reason| (reply::flag(&reason), reply::why(&reason)))?;
        Ok(Planned { plan, bind: Arc::clone(bind), generation: versioned.generation })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.worker.flows.tables.remove(self.slot);
    }
}

/// What a flow begins with.
struct Begun {
    upstream: UdpSocket,
    opened: Option<Opened>,
    host: Host,
    planned: Planned,
}

/// A socket that sends to a host, and takes what that host alone sends.
fn connect(worker: &Worker, host: SocketAddr) -> Result<UdpSocket, ProxyError> {
    let socket = Socket::new(Domain::for_address(host), Type::DGRAM, None);
    let socket = socket.map_err(|error| {
        if is_out_of_descriptors(&error) {
            worker.descriptors.count(DescriptorUse::Host);
            ProxyError::NoDescriptor
        } else {
            ProxyError::Connect(error)
        }
    })?;
    if !worker.descriptors.admits(&socket, DescriptorUse::Host) {
        return Err(ProxyError::NoDescriptor);
    }
    let connected = socket.set_nonblocking(true).and_then(|()| socket.connect(&host.into()));
    connected.and_then(|()| UdpSocket::from_std(socket.into())).map_err(ProxyError::Connect)
}

/// Sends what the host says to the client, until the flow ends.
async fn answers(answering: Answering) {
    let Answering { port, flow } = &answering;
    loop {
        let answered = flow.upstream.async_io(SAID, || {
            port.worker.flows.with_buffer(|buffer| {
                let length = receive_connected(&flow.upstream, buffer)?;
                port.answer(flow, buffer.get(..length).unwrap_or_default());
                Ok(())
            })
        });
        tokio::select! {
            biased;
            () = flow.stopped() => return,
            outcome = answered => match outcome {
                Ok(()) => {}
                // Of what was sent to the host: only that is lost.
                Err(error) if was_too_large(&error) => port.worker.metrics.datagrams.dropped(DatagramDirection::ToHost),
                Err(_) => return port.refused(flow),
            },
        }
    }
}

/// Whether the host, or something on the way to it, says that datagrams do not arrive.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
}

// === impl Answering ===

impl Drop for Answering {
    fn drop(&mut self) {
        end(&self.port.worker, &self.port.flows, &self.flow, ResponseFlag::UpstreamConnectionTermination, None);
    }
}
