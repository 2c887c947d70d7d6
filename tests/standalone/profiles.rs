use crate::support::{Gateway, Pod, guide};

const SENT: &[(&str, &str)] =
    &[("host", "httpbin.example"), ("x-forwarded-for", "203.0.113.7, 198.51.100.2"), ("x-envoy-retry-on", "5xx"), ("x-request-id", "mine")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_gloo_gateway_leaves_forwarding_headers_alone() {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "")).await;
    let answer = gateway.client().await.get("/headers", SENT).await;
    assert_eq!(answer.header("server"), Some("envoy"));
    assert_eq!(answer.seen("x-forwarded-for"), ["203.0.113.7, 198.51.100.2"]);
    assert_eq!(answer.seen("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.seen("x-envoy-expected-rq-timeout-ms"), ["15000"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_class_believes_the_connection() {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("clingfish", &pods, "")).await;
    let mut client = gateway.client().await;
    let answer = client.get("/headers", SENT).await;
    assert_eq!(answer.header("server"), Some("clingfish"));
    let forwarded = answer.seen("x-forwarded-for").join(", ");
    let peer = client.local.ip().to_string();
    assert!(forwarded.starts_with("203.0.113.7") && forwarded.replace(", ", ",").ends_with(&format!(",{peer}")), "{forwarded}");
    assert_eq!(answer.seen("x-envoy-retry-on"), Vec::<String>::new(), "foreign x-envoy-* are stripped");
    assert_ne!(answer.seen("x-request-id"), ["mine"], "an outsider's id is replaced");
}
