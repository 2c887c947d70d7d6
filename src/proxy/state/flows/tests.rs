use std::collections::BTreeMap;

use proptest::prelude::*;
use tokio::time::advance;

use crate::{
    base::{Kind, ObjectName},
    lb::BalancerConfig,
    snapshot::{BackendName, CircuitBreakers, ClusterId, ConnectionOptions, TableState},
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn host(number: u8) -> Host {
    let address = SocketAddr::from(([127, 0, 0, number], 53));
    Host {
        address,
        text: address.to_string().into(),
        hash_key: None,
        pod: None,
        weight: 1,
        slot: None,
        placed_since: None,
        admits: Default::default(),
        live: Some(Arc::default()),
    }
}

fn cluster(hosts: &[Host]) -> Arc<Cluster> {
    Arc::new(Cluster {
        id: ClusterId(0),
        name: BackendName {
            kind: Kind::Upstream,
            name: ObjectName::new("test", "upstream"),
            port: None,
            policy: None,
            is_persistent: false,
        },
        state: ClusterState::Ready,
        no_hosts: None,
        hosts: hosts.into(),
        vacant: Box::default(),
        balancer: Arc::default(),
        balancer_config: BalancerConfig::default(),
        held: None,
        affinity: None,
        table_state: TableState::Built,
        connection: ConnectionOptions::default(),
        close_connections_on_host_set_change: false,
        circuit_breakers: CircuitBreakers::default(),
        live: Arc::default(),
    })
}

fn snapshot(cluster: Arc<Cluster>) -> Snapshot {
    Snapshot { clusters: [Some(cluster)].into(), ..Snapshot::default() }
}

async fn begun(table: &FlowTable, port: u16, host: &Host, cluster: &Arc<Cluster>) -> Rc<Flow> {
    let key = FlowKey { remote: SocketAddr::from(([127, 0, 0, 1], port)), local: IpAddr::from([127, 0, 0, 2]) };
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let beginning = Beginning { key, upstream, idle: Some(60 * SECOND), host, cluster, generation: 1, opened: None };
    let flow = Rc::new(Flow::new(beginning, FlightOutcome::default(), Instant::now()));
    table.insert(&flow);
    flow
}

fn port_of(flow: &Rc<Flow>) -> u16 {
    flow.key.remote.port()
}

#[tokio::test(start_paused = true)]
async fn a_flow_ends_when_it_was_idle_and_not_before() {
    let (table, host) = (FlowTable::default(), host(9));
    let cluster = cluster(std::slice::from_ref(&host));
    let seen = snapshot(Arc::clone(&cluster));
    let (quiet, asking, answered) =
        (begun(&table, 1, &host, &cluster).await, begun(&table, 2, &host, &cluster).await, begun(&table, 3, &host, &cluster).await);
    advance(59 * SECOND).await;
    table.touch(&asking, Instant::now());
    answered.answered(Instant::now());
    assert_eq!(table.sweep(&seen, 1, Instant::now(), None).len(), 0);
    advance(SECOND).await;
    let swept = table.sweep(&seen, 1, Instant::now(), None);
    assert_eq!(swept.iter().map(|(flow, why)| (port_of(flow), *why)).collect::<Vec<_>>(), [(1, Swept::Idle)]);
    assert_eq!(table.sweep(&seen, 1, Instant::now(), Some(SECOND)).len(), 3, "a gateway that ends waits less long");
    assert!(table.remove(&quiet) && !table.remove(&quiet), "it ends once");
    quiet.stopped().await;
    assert_eq!((table.len(), table.find(&quiet.key).is_none()), (2, true));
}

#[tokio::test(start_paused = true)]
async fn new_flows_make_room_before_those_that_are_in_use() {
    let (table, host) = (FlowTable::default(), host(9));
    let cluster = cluster(std::slice::from_ref(&host));
    let known = begun(&table, 1, &host, &cluster).await;
    table.touch(&known, Instant::now());
    let first = begun(&table, 2, &host, &cluster).await;
    advance(SECOND / 2).await;
    let second = begun(&table, 3, &host, &cluster).await;
    let expendable = || table.expendable(Instant::now()).as_ref().map(port_of);
    assert_eq!(expendable(), None, "none was quiet for a second");
    advance(SECOND / 2).await;
    assert_eq!(expendable(), Some(2));
    table.remove(&first);
    assert_eq!(expendable(), None);
    table.remove(&second);
    advance(8 * SECOND).await;
    assert_eq!(expendable(), None, "whoever sent several datagrams stays for longer");
    advance(SECOND).await;
    assert_eq!(expendable(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_flow_whose_host_talks_on_does_not_hide_those_that_are_quiet() {
    let (table, host) = (FlowTable::default(), host(9));
    let cluster = cluster(std::slice::from_ref(&host));
    let [heard, quiet] = [begun(&table, 1, &host, &cluster).await, begun(&table, 2, &host, &cluster).await];
    let expendable = || table.expendable(Instant::now()).as_ref().map(port_of);
    advance(SECOND).await;
    heard.answered(Instant::now());
    assert_eq!(expendable(), Some(2));
    for flow in [&heard, &quiet] {
        table.touch(flow, Instant::now());
    }
    for _ in 0..4 {
        advance(3 * SECOND).await;
        heard.answered(Instant::now());
    }
    assert_eq!(expendable(), Some(2));
    table.remove(&quiet);
    assert_eq!(expendable(), None);
    advance(10 * SECOND).await;
    assert_eq!(expendable(), Some(1));
}

#[tokio::test]
async fn flows_of_hosts_that_are_gone_end_and_the_others_stay() {
    let table = FlowTable::default();
    let hosts = [host(8), host(9)];
    let before = cluster(&hosts);
    let (_stays, leaves) = (begun(&table, 1, &hosts[0], &before).await, begun(&table, 2, &hosts[1], &before).await);
    assert_eq!(hosts[1].live.as_ref().unwrap().active.load(Relaxed), 1);
    let now = Instant::now();
    let after = cluster(&hosts[..1]);
    let swept = table.sweep(&snapshot(Arc::clone(&after)), 2, now, None);
    assert_eq!(swept.iter().map(|(flow, why)| (port_of(flow), *why)).collect::<Vec<_>>(), [(2, Swept::HostGone)]);
    assert_eq!(Arc::strong_count(&before), 1, "the old table is let go");
    table.remove(&leaves);
    drop((leaves, swept));
    assert_eq!(hosts[1].live.as_ref().unwrap().active.load(Relaxed), 0);
    assert_eq!(table.sweep(&Snapshot::default(), 3, now, None).len(), 1, "the backend is no route's any more");
}

/// What happens to a table.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client's datagram; a new flow's host is this one.
    Arrive(u16, usize),
    /// The host of a client's flow answers.
    Answer(u16),
    Pass(Duration),
    /// From now on these of the hosts are the cluster's.
    Hosts(u8),
    /// One flow more would be too many.
    MakeRoom,
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u16, 0..3_usize).prop_map(|(client, host)| Step::Arrive(client, host)),
        2 => (0..6_u16).prop_map(Step::Answer),
        2 => (1..70_u32).prop_map(|tenths| Step::Pass(tenths * SECOND)),
        2 => (1..20_u32).prop_map(|tenths| Step::Pass(tenths * SECOND / 10)),
        1 => (0..8_u8).prop_map(Step::Hosts),
        2 => Just(Step::MakeRoom),
        2 => Just(Step::Sweep),
    ]
}

/// What is known of a flow: its host, and when a datagram last passed; `known`: several came from its client.
#[derive(Clone, Copy, Debug)]
struct Expected {
    host: usize,
    last: Instant,
    known: bool,
}

/// A table beside what is expected of it.
struct Scene {
    table: FlowTable,
    hosts: [Host; 3],
    seen: Snapshot,
    cluster: Arc<Cluster>,
    generation: u64,
    expected: BTreeMap<u16, Expected>,
}

impl Scene {
    fn new() -> Self {
        let hosts = [host(7), host(8), host(9)];
        let cluster = cluster(&hosts);
        let seen = snapshot(Arc::clone(&cluster));
        Self { table: FlowTable::default(), hosts, seen, cluster, generation: 1, expected: BTreeMap::new() }
    }

    fn key(client: u16) -> FlowKey {
        FlowKey { remote: SocketAddr::from(([127, 0, 0, 1], client)), local: IpAddr::from([127, 0, 0, 2]) }
    }

    fn is_served(&self, host: usize) -> bool {
        self.cluster.hosts.iter().any(|served| served.address == self.hosts[host].address)
    }

    async fn take(&mut self, step: Step) {
        let now = Instant::now();
        match step {
            Step::Arrive(client, host) => self.arrive(client, host, now).await,
            Step::Answer(client) => {
                if let (Some(flow), Some(expected)) = (self.table.find(&Self::key(client)), self.expected.get_mut(&client)) {
                    flow.answered(now);
                    expected.last = now;
                }
            }
            Step::Pass(time) => advance(time).await,
            Step::Hosts(which) => {
                let hosts: Vec<Host> =
                    self.hosts.iter().enumerate().filter(|(index, _)| which >> index & 1 > 0).map(|(_, host)| host.clone()).collect();
                self.cluster = cluster(&hosts);
                self.seen = snapshot(Arc::clone(&self.cluster));
                self.generation += 1;
            }
            Step::MakeRoom => self.make_room(now),
            Step::Sweep => self.sweep(now),
        }
    }

    /// As the port does it: a flow without its host ends, and another one begins.
    async fn arrive(&mut self, client: u16, host: usize, now: Instant) {
        let found = self.table.find(&Self::key(client));
        assert_eq!(found.is_some(), self.expected.contains_key(&client));
        if let (Some(flow), Some(expected)) = (found, self.expected.get(&client).copied()) {
            let keeps = flow.keeps_host(&self.seen, self.generation);
            assert_eq!(keeps, self.is_served(expected.host), "{expected:?}");
            if keeps {
                self.table.touch(&flow, now);
                self.expected.insert(client, Expected { last: now, known: true, ..expected });
                return;
            }
            assert!(self.table.remove(&flow));
            self.expected.remove(&client);
        }
        if self.is_served(host) {
            let flow = begun(&self.table, client, &self.hosts[host], &self.cluster).await;
            flow.generation.set(self.generation);
            self.expected.insert(client, Expected { host, last: now, known: false });
        }
    }

    /// Who makes room was quiet for long enough, and has not sent several datagrams while there are others. Nobody who was quiet for twice as
    /// long is overlooked, whoever else is heard of.
    fn make_room(&mut self, now: Instant) {
        let quiet =
            |known: bool, least: Duration| self.expected.values().any(|expected| expected.known == known && now - expected.last >= least);
        let expendable = self.table.expendable(now);
        let is_known = expendable.as_ref().map(|flow| {
            let expected = self.expected[&port_of(flow)];
            assert!(now - expected.last >= if expected.known { KNOWN_QUIET } else { NEW_QUIET }, "{expected:?}");
            expected.known
        });
        assert!(is_known == Some(false) || !quiet(false, 2 * NEW_QUIET), "a new one is overlooked");
        assert!(is_known.is_some() || !quiet(true, 2 * KNOWN_QUIET), "one is overlooked");
        if let Some(flow) = expendable {
            assert!(self.table.remove(&flow) && !self.table.remove(&flow), "it ends once");
            self.expected.remove(&port_of(&flow));
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut swept: Vec<_> = self.table.sweep(&self.seen, self.generation, now, None);
        swept.sort_by_key(|(flow, _)| port_of(flow));
        let due = self.expected.iter().filter_map(|(client, expected)| {
            let idle = now - expected.last >= 60 * SECOND;
            let why = if idle { Swept::Idle } else { Swept::HostGone };
            (idle || !self.is_served(expected.host)).then_some((*client, why))
        });
        let due: Vec<(u16, Swept)> = due.collect();
        assert_eq!(swept.iter().map(|(flow, why)| (port_of(flow), *why)).collect::<Vec<_>>(), due);
        for (flow, _) in swept {
            self.table.remove(&flow);
            self.expected.remove(&port_of(&flow));
        }
    }

    /// As many flows as expected, and each counted at its host.
    fn check(&self) {
        let number = self.expected.len();
        assert_eq!((self.table.len(), self.table.all().len(), self.table.flows.borrow().len()), (number, number, number));
        for (index, host) in self.hosts.iter().enumerate() {
            let active = host.live.as_ref().unwrap().active.load(Relaxed);
            assert_eq!(active as usize, self.expected.values().filter(|expected| expected.host == index).count(), "host {index}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_flows_are_those_that_should_be_and_are_counted_once(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut scene = Scene::new();
            for step in steps {
                scene.take(step).await;
                scene.check();
            }
            scene.take(Step::Hosts(0)).await;
            scene.take(Step::Sweep).await;
            scene.check();
            assert_eq!(scene.table.len(), 0);
        });
    }
}
