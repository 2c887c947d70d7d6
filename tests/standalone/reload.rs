use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Directory, Gateway, Load, PATIENCE, Pod, Process, guide, slices};

const HOST: (&str, &str) = ("host", "httpbin.example");

/// Requests without a pause on a few connections; every answer must be 200.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_change_under_load_without_a_failed_request() {
    let pods = Pod::several(4).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods[..2], "{ringHash: {}}")).await;
    let load = Load::start(gateway.address, HOST.1);
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        let (old, new) = if round % 2 == 0 { (&pods[..2], &pods[2..]) } else { (&pods[2..], &pods[..2]) };
        let begin = Instant::now();
        gateway.directory.put("endpoints.yaml", &slices(new));
        let names: Vec<String> = old.iter().map(Pod::name).collect();
        gateway.until("/", &[HOST], |answer| answer.pod().is_some_and(|pod| !names.iter().any(|name| name == pod))).await;
        slowest = slowest.max(begin.elapsed());
    }
    let served = load.end().await;
    println!("{served} requests served, slowest change live after {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_comes_and_goes() {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "")).await;
    let text = std::fs::read_to_string(gateway.directory.path().join("gateway.yaml")).unwrap();
    let second = std::net::SocketAddr::from((gateway.address.ip(), crate::support::free_address().port()));
    let line = format!("  - {{name: second, protocol: HTTP, port: {}, allowedRoutes: {{namespaces: {{from: All}}}}}}\n", second.port());
    gateway.put("gateway.yaml", &(text.clone() + &line));
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(second).await.is_err() {
        assert!(Instant::now() < deadline, "the second listener does not come");
        tokio::task::yield_now().await;
    }
    let answer = crate::support::Client::connect(second).await.get("/", &[HOST]).await;
    assert_eq!(answer.status, 200);
    let programmed = |config: &serde_json::Value| {
        let listeners = config["statuses"]["Gateway gloo-system/http"]["listeners"].as_array().unwrap().clone();
        listeners.len() == 2
            && listeners.iter().all(|listener| {
                let conditions = listener["conditions"].as_array().unwrap();
                conditions.iter().any(|condition| condition["type"] == "Programmed" && condition["status"] == "True")
            })
    };
    gateway.until_config(programmed).await;
    gateway.put("gateway.yaml", &text);
    while tokio::net::TcpStream::connect(second).await.is_ok() {
        assert!(Instant::now() < deadline + PATIENCE, "the second listener does not go");
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.client().await.get("/", &[HOST]).await.status, 200);
}

/// A client, once the listener is bound.
async fn connected(address: std::net::SocketAddr) -> crate::support::Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match crate::support::Client::try_connect(address).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A link to itself: it cannot be read, and nobody says that it is not there.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_never_read_holds_readiness_back() {
    let pods = Pod::several(1).await;
    let files = guide("gloo-gateway", &pods, "");
    let directory = Directory::new();
    let address = crate::support::free_address();
    for (name, text) in &files {
        directory.put(name, &text.replace("{port}", &address.port().to_string()));
    }
    let route = directory.path().join("route.yaml");
    let text = std::fs::read_to_string(&route).unwrap();
    let unreadable = || {
        let link = route.with_extension("link");
        std::os::unix::fs::symlink("route.yaml", &link).unwrap();
        std::fs::rename(link, &route).unwrap();
    };
    unreadable();
    let process = Process::start_in(directory, address, 1024, 1);
    process.until("/readyz", |status, body| status == 503 && body.contains("files of manifests that could not be read yet")).await;
    let answer = connected(address).await.get("/", &[HOST]).await;
    assert_eq!(answer.status, 404, "what can be served is served");
    assert_eq!(process.admin("/readyz").await.0, 503);
    process.directory.put("route.yaml", &text);
    process.until("/readyz", |status, _| status == 200).await;
    assert_eq!(crate::support::Client::connect(address).await.get("/", &[HOST]).await.status, 200, "ready, and served");
    unreadable();
    process.until("/config", |_, config| config.contains("cannot be read")).await;
    assert_eq!(process.admin("/readyz").await.0, 200);
    assert_eq!(crate::support::Client::connect(address).await.get("/", &[HOST]).await.status, 200, "its last version serves");
}
