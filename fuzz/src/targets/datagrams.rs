//! Datagrams of clients that come and go, to hosts that come and go: each answer reaches who asked, there are never more flows than there may
//! be, and once all have ended nothing is counted for them any more.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use clingfish::{
    base::{Kind, Published},
    proxy::{self, Ceilings, ProxyConfig, Running},
    snapshot::{Bind, BindAddress, BindProtocol, Host, HostLive, Snapshot, Timeouts},
    telemetry::Metrics,
};

use super::support::{World, any_port, eventually};

const HOSTS: usize = 3;
const CLIENTS: usize = 8;

/// Fewer than there are clients.
const MOST_FLOWS: usize = 5;

/// Flows end while a run lasts, and make room.
const IDLE: Duration = Duration::from_millis(40);
const TICK: Duration = Duration::from_millis(2);

/// How long a client waits before it looks whether its datagram was refused.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 500;

/// Most steps of a run.
const MOST_STEPS: usize = 64;

thread_local! {
    static SCENE: Scene = Scene::start();
}

struct Scene {
    hosts: [SocketAddr; HOSTS],
    live: [Arc<HostLive>; HOSTS],
    published: Arc<Published<Snapshot>>,
    metrics: Arc<Metrics>,
    running: Running,
}

/// A step for each byte: its lower bits tell what, the others which.
pub fn run(data: &[u8]) {
    SCENE.with(|scene| {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(scene.address())).collect();
        scene.serve(0b111);
        let mut hosts = 0b111;
        for (number, step) in data.iter().take(MOST_STEPS).enumerate() {
            let which = usize::from(step >> 2);
            match step & 3 {
                0 | 1 => {
                    let mut datagram = vec![*step; which * 31 + 1];
                    datagram[0] = number as u8;
                    scene.ask(&mut clients[which % CLIENTS], datagram, hosts);
                }
                2 => {
                    hosts = which % 8;
                    scene.serve(hosts);
                }
                _ => clients[which % CLIENTS] = Client::new(scene.address()),
            }
            let open = scene.metric("clingfish_udp_flows_open");
            assert!(open <= MOST_FLOWS as u64, "{open} flows");
        }
        scene.serve(0);
        eventually("all flows to end", || scene.metric("clingfish_udp_flows_open") == 0);
        eventually("nothing to be counted for them", || scene.live.iter().all(|live| live.active.load(Relaxed) == 0));
    });
}

/// A client, and what it sent while nobody served: the gateway may come to read it when somebody does.
struct Client {
    socket: UdpSocket,
    early: Vec<Vec<u8>>,
}

impl Client {
    fn new(proxy: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.connect(proxy).expect("connected");
        socket.set_read_timeout(Some(LOOK)).expect("a socket");
        Self { socket, early: Vec::new() }
    }
}

/// A host that says which one it is before what it hears.
fn host(number: u8) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
            let _ = socket.send_to(&[&[number], &buffer[..length]].concat(), client);
        }
    });
    address
}

impl Scene {
    fn start() -> Self {
        let hosts = [host(0), host(1), host(2)];
        let live: [Arc<HostLive>; HOSTS] = Default::default();
        let published = Arc::new(Published::new(Arc::new(snapshot(&hosts, &live, 0b111))));
        let ceilings = Ceilings { flows_per_listener: MOST_FLOWS, ..ProxyConfig::default().ceilings };
        let config = ProxyConfig { tick: TICK, idle_tick: TICK, workers: 1, ceilings, ..ProxyConfig::default() };
        let metrics = Metrics::new(config.workers);
        let running = proxy::start(config, &published, &metrics, None).expect("started");
        let scene = Self { hosts, live, published, metrics, running };
        scene.follow(1);
        scene
    }

    fn address(&self) -> SocketAddr {
        self.running.bound().borrow().local(BindAddress::udp(any_port())).expect("bound")
    }

    fn follow(&self, generation: u64) {
        let bound = self.running.bound();
        eventually("the worker to follow", || bound.borrow().generation() >= generation);
    }

    /// From now on these hosts are the backend's.
    fn serve(&self, which: usize) {
        self.follow(self.published.publish(Arc::new(snapshot(&self.hosts, &self.live, which))));
    }

    /// Sends a datagram, whose answer comes from one of these hosts; or it was refused.
    fn ask(&self, client: &mut Client, datagram: Vec<u8>, hosts: usize) {
        let refused = || self.metric("clingfish_udp_flows_refused_total{reason=\"max_flows_per_listener\"}");
        let before = refused();
        client.socket.send(&datagram).expect("sent");
        if hosts == 0 {
            client.early.push(datagram);
            return;
        }
        let mut buffer = [0; 4096];
        for _ in 0..LOOKS {
            match client.socket.recv(&mut buffer) {
                Ok(length) => {
                    let (number, answer) = buffer[..length].split_first().expect("a number");
                    assert!(hosts >> number & 1 > 0, "host {number} is none of {hosts:b}");
                    if answer == datagram {
                        return;
                    }
                    let early = client.early.iter().position(|early| answer == early);
                    client.early.swap_remove(early.unwrap_or_else(|| panic!("somebody else's answer: {answer:?}")));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    if refused() > before {
                        return;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("a datagram was neither answered nor refused");
    }

    fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0)
    }
}

fn snapshot(hosts: &[SocketAddr; HOSTS], live: &[Arc<HostLive>; HOSTS], which: usize) -> Snapshot {
    let chosen: Vec<SocketAddr> = hosts.iter().enumerate().filter(|(number, _)| which >> number & 1 > 0).map(|(_, host)| *host).collect();
    let world = World::to(&chosen).with(|served| {
        served.kind = Kind::UdpRoute;
        served.policy.timeouts = Timeouts { request: None, idle: Some(IDLE), ..Timeouts::default() };
    });
    let Snapshot { binds, mut clusters } = world.snapshot();
    let counted = |host: &Host| {
        let live = hosts.iter().position(|address| *address == host.address).map(|number| Arc::clone(&live[number]));
        Host { live, ..host.clone() }
    };
    // Nobody else has the snapshot yet.
    let clusters_now = Arc::get_mut(&mut clusters).expect("one holder").iter_mut().flatten();
    for cluster in clusters_now.map(|cluster| Arc::get_mut(cluster).expect("one holder")) {
        cluster.hosts = cluster.hosts.iter().map(counted).collect();
    }
    let binds = binds.values().map(|bind| Bind { protocol: BindProtocol::Udp, ..(**bind).clone() });
    Snapshot { binds: binds.map(|bind| (bind.bound_to(), Arc::new(bind))).collect(), clusters }
}
