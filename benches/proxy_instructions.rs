//! User-space instructions per proxied request: a small GET with a hash cookie over three backends, counted by callgrind as the difference
//! of two runs. Needs `valgrind`; without it nothing is measured.
//!
//! `cargo bench --bench proxy_instructions` measures the data plane alone, with one route, beside 5,000 others, and with a session that is held
//! on its host by a tag. To measure any command that listens on ADDRESS and forwards to
//! the given BACKENDS: `cargo bench --bench proxy_instructions -- ADDRESS BACKEND,BACKEND,... COMMAND ARGUMENT...`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its figures")]

use std::{
    borrow::Cow,
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use clingfish::{
    base::{AffinityKeys, Kind, ObjectName, Published},
    lb::{Balancer, BalancerConfig, LbHost, MaglevConfig, Policy, WeightedSplit},
    proxy::{ProxyConfig, start},
    snapshot::{
        Action, Affinity, Backend, BackendName, Bind, BindAddress, BindProtocol, CircuitBreakers, ClientProfile, Cluster, ClusterId,
        ClusterState, ConnectionOptions, CookiePolicy, Forward, HashPolicy, HashSource, HeldHosts, Hold, Host, HostMapBuilder, HostRoutes,
        Hostname, Listener, Matcher, MissingKey, PathMatch, RouteEntry, RouteName, RoutePolicy, Rule, Snapshot, Split, TableState,
        TagCarrier, Target,
    },
    telemetry::Metrics,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const WARM_UP: usize = 2_000;
const SHORT: usize = 2_000;
const LONG: usize = 12_000;
const CONNECTIONS: usize = 8;
const OTHER_ROUTES: usize = 5_000;

const REQUEST: &[u8] = b"GET /headers HTTP/1.1\r\nHost: httpbin.example\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept-Language: en\r\nX-Custom: some-value\r\nCookie: a=b; hashbasedcookie=298b1ac340fdea97\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: be\r\n\
    Content-Length: 65\r\n\r\n{\"headers\":{\"Host\":\"httpbin.example\",\"Accept\":\"*/*\",\"X\":\"01234\"}}";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.as_slice() {
        [mode, backends, others, held] if mode == "--serve" => serve(&parse(backends)?, others.parse()?, held == "held"),
        [] => measure_data_plane(),
        [address, backends, command @ ..] if !command.is_empty() => measure_command(address.parse()?, &parse(backends)?, command),
        _ => Err("expected no arguments, or ADDRESS BACKEND,BACKEND,... COMMAND ARGUMENT...".into()),
    }
}

fn parse(list: &str) -> Outcome<Vec<SocketAddr>> {
    list.split(',').map(|address| address.parse().map_err(|_| format!("{address}: expected IP:PORT").into())).collect()
}

fn measure_data_plane() -> Outcome<()> {
    let backends = [backend("127.0.0.1:0")?, backend("127.0.0.1:0")?, backend("127.0.0.1:0")?];
    let list = backends.map(|address| address.to_string()).join(",");
    for (others, held) in [(0, false), (OTHER_ROUTES, false), (0, true)] {
        print!("beside {others} other routes{}: ", if held { ", session held by its tag" } else { "" });
        let program = std::env::current_exe()?.display().to_string();
        let command = [program, "--serve".into(), list.clone(), others.to_string(), if held { "held" } else { "hashed" }.into()];
        report(None, &command, if held { held_request(backends[0])? } else { REQUEST })?;
    }
    Ok(())
}

/// The same request, of a session that is bound to a host.
fn held_request(host: SocketAddr) -> Outcome<&'static [u8]> {
    let tag = tag_keys()?.tags(host.to_string().as_bytes()).0.text();
    let request =
        String::from_utf8(REQUEST.to_vec())?.replace("298b1ac340fdea97", &format!("298b1ac340fdea97.{}", std::str::from_utf8(&tag)?));
    Ok(Box::leak(request.into_boxed_str()).as_bytes())
}

fn tag_keys() -> Outcome<AffinityKeys> {
    Ok(AffinityKeys::parse(&"5a".repeat(32))?)
}

fn measure_command(address: SocketAddr, backends: &[SocketAddr], command: &[String]) -> Outcome<()> {
    for address in backends {
        backend(address)?;
    }
    report(Some(address), command, REQUEST)
}

fn report(address: Option<SocketAddr>, command: &[String], request: &'static [u8]) -> Outcome<()> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("valgrind is not installed: nothing measured");
        return Ok(());
    }
    let short = run(address, command, request, SHORT)?;
    let long = run(address, command, request, LONG)?;
    println!("{} instructions per request ({} requests: {short}, {}: {long})", (long - short) / (LONG - SHORT) as u64, SHORT, LONG);
    Ok(())
}

/// Instructions that the command spent on this many requests, start and end included.
fn run(address: Option<SocketAddr>, command: &[String], request: &'static [u8], requests: usize) -> Outcome<u64> {
    let mut child = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let result = drive(&mut child, address, request, requests);
    drop(child.stdin.take());
    // SIGTERM, which lets callgrind write its totals; the standard library only knows SIGKILL.
    Command::new("kill").arg(child.id().to_string()).status()?;
    let mut words = String::new();
    child.stderr.take().ok_or("stderr is piped")?.read_to_string(&mut words)?;
    child.wait()?;
    result?;
    let total = words.lines().find_map(|line| line.split("Collected :").nth(1)).ok_or_else(|| format!("no totals in:\n{words}"))?;
    Ok(total.trim().parse()?)
}

fn drive(child: &mut Child, address: Option<SocketAddr>, request: &'static [u8], requests: usize) -> Outcome<()> {
    let address = match address {
        Some(address) => address,
        None => {
            let mut line = String::new();
            BufReader::new(child.stdout.take().ok_or("stdout is piped")?).read_line(&mut line)?;
            line.trim().parse()?
        }
    };
    let mut patience = 300;
    while TcpStream::connect(address).is_err() {
        patience -= 1;
        if patience == 0 {
            return Err(format!("{address}: nobody listens there").into());
        }
        thread::sleep(Duration::from_millis(100));
    }
    load(address, request, WARM_UP + requests)
}

fn load(address: SocketAddr, request: &'static [u8], requests: usize) -> Outcome<()> {
    let clients: Vec<_> =
        (0..CONNECTIONS).map(|_| thread::spawn(move || ask(address, request, requests / CONNECTIONS).map_err(|e| e.to_string()))).collect();
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    Ok(())
}

fn ask(address: SocketAddr, request: &[u8], requests: usize) -> Outcome<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::new();
    for _ in 0..requests {
        stream.write_all(request)?;
        buffer.clear();
        while !buffer.ends_with(b"}}") {
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk)?;
            if length == 0 {
                return Err("closed".into());
            }
            buffer.extend(chunk.iter().take(length));
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&buffer).into_owned().into());
        }
    }
    Ok(())
}

/// A backend that answers every head with the same words.
fn backend(address: impl std::net::ToSocketAddrs) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer: Vec<u8> = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        buffer.extend(chunk.iter().take(length));
        while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            stream.write_all(ANSWER)?;
        }
    }
}

/// The proxy under measurement: prints its address, and ends with its standard input.
fn serve(backends: &[SocketAddr], others: usize, held: bool) -> Outcome<()> {
    let published = Arc::new(Published::new(Arc::new(snapshot(backends, others, held)?)));
    let metrics = Metrics::new(1);
    let running = start(ProxyConfig::default(), &published, &metrics, None)?;
    let mut bound = running.bound();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = runtime.block_on(async {
        let bound = bound.wait_for(|bound| bound.generation() > 0).await?;
        bound.local(BindAddress::tcp(bind_address())).ok_or_else(|| Box::<dyn Error>::from("not bound"))
    })?;
    println!("{local}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    runtime.block_on(running.drain(Duration::ZERO, Duration::from_secs(1)));
    Ok(())
}

fn bind_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn snapshot(backends: &[SocketAddr], others: usize, held: bool) -> Outcome<Snapshot> {
    let name = BackendName {
        kind: Kind::Upstream,
        name: ObjectName::new("gloo-system", "httpbin"),
        port: None,
        policy: None,
        is_persistent: false,
    };
    let keys: Vec<LbHost> = backends.iter().map(|address| LbHost::new(address.to_string())).collect();
    let config = BalancerConfig { policy: Policy::Maglev(MaglevConfig::default()), ..BalancerConfig::default() };
    let cookie = CookiePolicy {
        name: "hashbasedcookie".into(),
        ttl_seconds: Some(60),
        set_cookie_suffix: "; Max-Age=60; Path=/; HttpOnly".into(),
        secure_over_https: false,
    };
    let tag_keys = Arc::new(tag_keys()?);
    let known_by = backends.iter().map(|address| Cow::Owned(address.to_string().into_bytes()));
    let affinity = Affinity {
        policy: ObjectName::new("gloo-system", "policy"),
        keys: None,
        missing: MissingKey::Random,
        split: Split::Random,
        hold: Some(Hold { carrier: TagCarrier::KeyCookie(cookie.clone()), persistence: None }),
        ends_moved: None,
    };
    let cluster = Cluster {
        id: ClusterId(0),
        name: name.clone(),
        state: ClusterState::Ready,
        no_hosts: None,
        hosts: backends
            .iter()
            .map(|address| Host {
                address: *address,
                text: address.to_string().into(),
                hash_key: None,
                pod: None,
                weight: 1,
                slot: None,
                placed_since: None,
                admits: Default::default(),
                live: None,
            })
            .collect(),
        vacant: Box::default(),
        balancer: Arc::new(Balancer::build(&keys, &config)?),
        balancer_config: config,
        held: held.then(|| Arc::new(HeldHosts::of_hosts(&tag_keys, known_by, 0, None))),
        affinity: held.then(|| Arc::new(affinity)),
        table_state: TableState::Built,
        connection: ConnectionOptions::default(),
        close_connections_on_host_set_change: false,
        circuit_breakers: CircuitBreakers::default(),
        live: Arc::default(),
    };
    let source = if held { HashSource::TaggedCookie(cookie) } else { HashSource::Cookie(cookie) };
    let policy = RoutePolicy { hash: Box::new([HashPolicy { source, terminal: true }]), ..RoutePolicy::default() };
    let rule = Rule {
        route: Arc::new(RouteName { kind: Kind::HttpRoute, name: ObjectName::new("gloo-system", "httpbin") }),
        index: 0,
        action: Action::Forward(Forward {
            split: WeightedSplit::new(&[1]),
            hash_split: None,
            backends: Arc::new([Backend { name: Arc::new(name), target: Target::Cluster(ClusterId(0)), filters: None }]),
        }),
        filters: None,
        policy: Arc::new(policy),
    };
    let rule = Arc::new(rule);
    let mut hosts = HostMapBuilder::new();
    for name in (0..others).map(|number| format!("host-{number}.example")).chain(["httpbin.example".to_owned()]) {
        let entry = RouteEntry { path: PathMatch::Prefix("".into()), matcher: Matcher::default(), rule: Arc::clone(&rule), match_index: 0 };
        let hostname = Hostname::parse(&name);
        hosts.insert(hostname.clone(), Arc::new(HostRoutes::build(hostname, vec![entry])));
    }
    let mut listeners = HostMapBuilder::new();
    listeners
        .insert(Hostname::Any, Arc::new(Listener { name: "http".into(), hostname: Hostname::Any, refusal: None, hosts: hosts.build() }));
    let profile = ClientProfile {
        use_remote_address: true,
        xff_num_trusted_hops: 0,
        server_header: http::HeaderValue::from_static("clingfish"),
        path: Default::default(),
        headers_with_underscores: Default::default(),
    };
    let bind = Bind {
        address: bind_address(),
        gateway: Arc::new(ObjectName::new("gloo-system", "http")),
        port: 8080,
        protocol: BindProtocol::Http,
        profile: Arc::new(profile),
        host_identity: None,
        listeners: listeners.build(),
    };
    Ok(Snapshot { binds: [(bind.bound_to(), Arc::new(bind))].into(), clusters: Arc::new([Some(Arc::new(cluster))]) })
}
