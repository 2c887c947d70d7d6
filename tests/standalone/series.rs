use std::collections::BTreeSet;

use crate::support::{Gateway, Pod, guide, route};

/// The series of a scrape, without values.
async fn series(gateway: &Gateway) -> BTreeSet<String> {
    let text = gateway.admin().await.get("/metrics", &[]).await.body;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_number_does_not_grow_with_routes_hosts_paths_or_clients() {
    let pods = Pod::several(2).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "{ringHash: {}}")).await;
    let send = async |host: &str, path: &str| {
        for method in ["GET", "POST", "X-ODD"] {
            gateway.client().await.send(method, path, &[("host", host), ("x-forwarded-for", host)], "").await.unwrap();
        }
    };
    send("httpbin.example", "/").await;
    send("nobody.example", "/").await;
    let before = series(&gateway).await;
    let routes: String = (0..50)
        .map(|n| route().replace("httpbin-upstream", &format!("r{n}")).replace("httpbin.example", &format!("h{n}.example")) + "---\n")
        .collect();
    gateway.put("routes.yaml", &routes);
    gateway.until("/", &[("host", "h49.example")], |answer| answer.status == 200).await;
    for n in 0..50 {
        send(&format!("h{n}.example"), &format!("/path/{n}")).await;
        send(&format!("n{n}.example"), &format!("/path/{n}")).await;
    }
    assert_eq!(series(&gateway).await, before);
}
