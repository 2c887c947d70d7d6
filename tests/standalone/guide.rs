use std::collections::BTreeSet;

use crate::support::{COOKIE, Gateway, Pod, guide, route_option, upstream};

const HOST: (&str, &str) = ("host", "httpbin.example:8080");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_hash_requests_spread() {
    let pods = Pod::several(3).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "")).await;
    let mut client = gateway.client().await;
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        let answer = client.get("/headers", &[HOST]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("set-cookie"), None);
        seen.insert(answer.pod().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ring_hash_holds_the_session() {
    holds_the_session("{ringHash: {ringHashConfig: {maximumRingSize: 200, minimumRingSize: 10}}}").await;
}

/// As people keep it under version control: the class comes with the chart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_without_a_class_is_served() {
    let pods = Pod::several(2).await;
    let mut files = guide("gloo-gateway", &pods, "{maglev: {}}");
    for (_, text) in &mut files {
        let kept: Vec<_> = text.split("---\n").filter(|document| !document.contains("kind: GatewayClass")).collect();
        *text = kept.join("---\n");
    }
    assert!(files.iter().all(|(_, text)| !text.contains("kind: GatewayClass")));
    let gateway = Gateway::start(&files).await;
    let answer = gateway.client().await.get("/headers", &[HOST]).await;
    assert_eq!((answer.status, answer.header("server")), (200, Some("envoy")), "{answer:?}");
    assert!(
        gateway.config().await["notices"]
            .to_string()
            .contains("there is no GatewayClass gloo-gateway here; the Gateway is served as one of")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maglev_holds_the_session() {
    holds_the_session("{maglev: {}}").await;
}

async fn holds_the_session(balancer: &str) {
    let pods = Pod::several(3).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, balancer)).await;
    let mut used = BTreeSet::new();
    for _ in 0..8 {
        let first = gateway.client().await.get("/headers", &[HOST]).await;
        assert_eq!(first.status, 200, "{first:?}");
        let cookie = first.header("set-cookie").unwrap().to_owned();
        let value = cookie
            .strip_prefix("hashbasedcookie=\"")
            .and_then(|rest| rest.strip_suffix("\"; Max-Age=60; Path=/; HttpOnly"))
            .unwrap_or_else(|| panic!("{cookie}"));
        assert!(value.len() == 16 && value.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{cookie}");
        let pod = first.pod().unwrap().to_owned();
        // As curl's cookie jar sends it, and as a shell that lost the quotes does.
        for sent in [format!("hashbasedcookie=\"{value}\""), format!("a=b; hashbasedcookie={value}")] {
            for _ in 0..5 {
                let again = gateway.client().await.get("/headers", &[HOST, ("cookie", &sent)]).await;
                assert_eq!(again.pod(), Some(pod.as_str()), "{sent}");
                assert_eq!(again.header("set-cookie"), None, "the client has its cookie");
                assert_eq!(again.seen("cookie"), [sent.as_str()]);
            }
        }
        used.insert(pod);
    }
    assert!(used.len() > 1, "eight sessions on one of three pods: {used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_step_by_step_on_a_running_gateway() {
    let pods = Pod::several(2).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "")).await;
    let plain = gateway.client().await.get("/headers", &[HOST]).await;
    assert_eq!((plain.status, plain.header("server")), (200, Some("envoy")));
    assert!(plain.header("x-envoy-upstream-service-time").unwrap().parse::<u64>().is_ok());
    assert_eq!(plain.seen("host"), ["httpbin.example:8080"]);
    assert_eq!(plain.seen("x-envoy-expected-rq-timeout-ms"), ["15000"]);
    assert_eq!(plain.seen("x-forwarded-proto"), ["http"]);
    assert_eq!(plain.seen("x-forwarded-for"), Vec::<String>::new());
    assert_eq!(plain.seen("x-request-id")[0].len(), 36);
    gateway.put("upstream.yaml", &upstream("{maglev: {}}"));
    gateway.put("option.yaml", &route_option(COOKIE));
    let first = gateway.until("/headers", &[HOST], |answer| answer.header("set-cookie").is_some()).await;
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..10 {
        let again = gateway.client().await.get("/headers", &[HOST, ("cookie", &cookie)]).await;
        assert_eq!(again.pod(), first.pod());
    }
    // The guide's clean-up, in its order.
    gateway.directory.remove("option.yaml");
    gateway.until("/headers", &[HOST], |answer| answer.status == 200 && answer.header("set-cookie").is_none()).await;
    gateway.directory.remove("route.yaml");
    gateway.until("/headers", &[HOST], |answer| answer.status == 404).await;
    gateway.directory.remove("upstream.yaml");
    gateway.until_config(|config| config["statuses"].get("Upstream gloo-system/httpbin").is_none()).await;
}
