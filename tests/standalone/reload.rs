use std::time::Duration;

use tokio::time::Instant;

use crate::support::{Gateway, Load, PATIENCE, Pod, guide, slices};

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
