//! A process whose file descriptors run out goes on.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::support::{Client, PATIENCE, Pod, Process, guide, route};

const HOST: (&str, &str) = ("host", "httpbin.example");

/// Whether the gateway has closed the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(Duration::from_millis(1), stream.read_u8()).await;
    matches!(read, Ok(Err(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_take_what_is_theirs_and_neither_changes_nor_probes_suffer() {
    let pods = Pod::several(1).await;
    let gateway = Process::start(&guide("gloo-gateway", &pods, ""), 256, 1).await;
    let mut kept = Client::connect(gateway.address).await;
    assert_eq!(kept.get("/", &[HOST]).await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    let refused = "clingfish_file_descriptors_refused_total{use=\"client\"}";
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric(refused).await < 300.0 - 128.0 {
        assert!(Instant::now() < deadline, "{} are refused", gateway.metric(refused).await);
        sleep(Duration::from_millis(10)).await;
    }
    assert!(gateway.metric("clingfish_file_descriptors_open").await <= 256.0 - 100.0, "the reserve is free");
    // The connection to the host is there already.
    assert_eq!(kept.get("/", &[HOST]).await.status, 200);
    gateway.directory.put("route.yaml", &route().replace("[httpbin.example]", "[changed.example]"));
    gateway.until("/config", |_, config| config.contains("changed.example")).await;
    assert_eq!(kept.get("/", &[("host", "changed.example")]).await.status, 200);
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.admin(path).await.0, 200, "{path}");
    }
    assert_eq!(gateway.metric("clingfish_file_descriptors_refused_total{use=\"file\"}").await, 0.0);
    let mut closed = 0;
    for stream in &mut crowd {
        closed += u32::from(is_closed(stream).await);
    }
    assert!((150..290).contains(&closed), "{closed} of 300 were closed at once, the others are served");
    drop(crowd);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut client = Client::connect(gateway.address).await;
        match client.send("GET", "/", &[("host", "changed.example")], "").await {
            Ok(answer) => break assert_eq!(answer.status, 200),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_a_descriptor_for_its_host_is_503_and_idle_connections_make_room() {
    let pods = Pod::several(2).await;
    let gateway = Process::start(&guide("gloo-gateway", &pods[..1], ""), 256, 1).await;
    let mut kept = Client::connect(gateway.address).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    let refused = "clingfish_file_descriptors_refused_total{use=\"client\"}";
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric(refused).await < 100.0 {
        assert!(Instant::now() < deadline, "{} are refused", gateway.metric(refused).await);
        sleep(Duration::from_millis(10)).await;
    }
    let answer = kept.get("/", &[HOST]).await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "overload"));
    // Room for one connection to a host.
    let mut first = crowd.remove(0);
    assert!(!is_closed(&mut first).await);
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    while kept.get("/", &[HOST]).await.status != 200 {
        assert!(Instant::now() < deadline, "there is room for a connection to the host");
        sleep(Duration::from_millis(10)).await;
    }
    // The other pod gets the descriptor of the connection to the first one, which is idle.
    gateway.directory.put("endpoints.yaml", &crate::support::slices(&pods));
    let deadline = Instant::now() + PATIENCE;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let answer = kept.get("/", &[HOST]).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        seen.extend(answer.pod().map(str::to_owned));
        assert!(Instant::now() < deadline, "only {seen:?} answered");
    }
}

/// Gateways with 64 listeners each on the ports that begin here.
fn gateways(count: u16, first_port: u16) -> String {
    let gateway = |number: u16| {
        let listeners = (0..64).map(|listener| {
            let port = first_port + number * 64 + listener;
            format!("  - {{name: l{listener}, protocol: HTTP, port: {port}, allowedRoutes: {{namespaces: {{from: All}}}}}}\n")
        });
        let head = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n";
        let listeners: String = listeners.collect();
        format!(
            "{head}metadata: {{name: many-{number}, namespace: gloo-system}}\nspec:\n  gatewayClassName: gloo-gateway\n  listeners:\n{listeners}"
        )
    };
    (0..count).map(gateway).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_listeners_than_descriptors_are_refused_and_leave_no_trace() {
    let pods = Pod::several(1).await;
    let gateway = Process::start(&guide("gloo-gateway", &pods, ""), 512, 2).await;
    let open_before = gateway.metric("clingfish_file_descriptors_open").await;
    // Above the ephemeral ports, where nobody else is on this address.
    gateway.directory.put("many.yaml", &gateways(20, 61_000));
    gateway.until("/config", |_, config| config.contains("are the most that the limit of 512 open files allows")).await;
    assert!(gateway.metric("clingfish_file_descriptors_refused_total{use=\"listener\"}").await >= 1_000.0);
    let answer = Client::connect(gateway.address).await.get("/", &[HOST]).await;
    assert_eq!(answer.status, 200, "the listener that was there first is untouched");
    for path in ["/livez", "/readyz"] {
        assert_eq!(gateway.admin(path).await.0, 200, "{path}");
    }
    gateway.directory.remove("many.yaml");
    gateway.until("/config", |_, config| !config.contains("many-")).await;
    let deadline = Instant::now() + PATIENCE;
    while gateway.metric("clingfish_file_descriptors_open").await > open_before + 4.0 {
        assert!(Instant::now() < deadline, "{open_before} descriptors were open before");
        sleep(Duration::from_millis(10)).await;
    }
    gateway.directory.put("many.yaml", &gateways(1, 62_500).replace("many-0", "few"));
    let late = SocketAddr::new(gateway.address.ip(), 62_500);
    while TcpStream::connect(late).await.is_err() {
        assert!(Instant::now() < deadline, "a listener that comes later is bound");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(Client::connect(gateway.address).await.get("/", &[HOST]).await.status, 200);
}

#[test]
fn a_limit_under_which_nothing_could_be_served_is_an_error() {
    let script = "ulimit -n 64 && exec \"$@\"";
    let directory = crate::support::Directory::new();
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_clingfish"),
            "standalone",
            "--admin",
            "127.0.0.1:0",
            "--workers",
            "2",
            "--manifests",
        ])
        .arg(directory.path())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("the limit on open files is 64, and 2 workers need at least 112"), "{error}");
}
