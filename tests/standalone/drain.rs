use std::time::Duration;

use crate::support::{Client, Gateway, PATIENCE, Pod, guide};

const HOST: (&str, &str) = ("host", "httpbin.example");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_finished() {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "")).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let mut client = gateway.client().await;
        waiting.push(tokio::spawn(async move { client.send("GET", "/wait", &[HOST], "").await }));
    }
    let arrived = pods[0].waiting.acquire_many(4);
    tokio::time::timeout(PATIENCE, arrived).await.expect("all requests are at the pod").unwrap().forget();
    let admin_address = gateway.app.admin_address();
    let Gateway { app, directory: _directory, address, .. } = gateway;
    let drained = tokio::spawn(app.drain());
    // The listener closes while the requests are still in flight.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the listener is still open");
        tokio::task::yield_now().await;
    }
    assert!(!drained.is_finished(), "four requests are in flight");
    let readyz = Client::connect(admin_address).await.get("/readyz", &[]).await;
    assert_eq!((readyz.status, readyz.body.as_str()), (503, "draining\n"));
    let servingz = Client::connect(admin_address).await.get("/servingz", &[]).await;
    assert_eq!((servingz.status, servingz.body.as_str()), (200, "ok\n"), "Kubernetes may send what has nowhere else to go");
    pods[0].gate.add_permits(4);
    for request in waiting {
        let answer = request.await.unwrap().expect("an answer");
        assert_eq!(answer.status, 200);
    }
    assert!(tokio::time::timeout(PATIENCE, drained).await.expect("drained").unwrap(), "everything was finished in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_gateway_ends_promptly() {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "")).await;
    let mut idle = gateway.client().await;
    assert_eq!(idle.get("/", &[HOST]).await.status, 200);
    let Gateway { app, directory: _directory, .. } = gateway;
    let finished = tokio::time::timeout(Duration::from_secs(5), app.drain()).await.expect("ends long before the limit of 10 s");
    assert!(finished);
}
