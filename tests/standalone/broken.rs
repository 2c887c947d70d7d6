use serde_json::Value;

use crate::support::{COOKIE, Gateway, Pod, guide, route, route_option, upstream};

const HOST: (&str, &str) = ("host", "httpbin.example");
const ROUTE: &str = "HTTPRoute gloo-system/httpbin-upstream";

/// A second route, which nothing of this may touch.
fn other_route() -> String {
    route().replace("httpbin-upstream", "other").replace("httpbin.example", "other.example")
}

async fn start(pods: &[Pod]) -> Gateway {
    let mut files = guide("gloo-gateway", pods, "{ringHash: {}}");
    files.push(("other.yaml", other_route()));
    Gateway::start(&files).await
}

async fn other_is_untouched(gateway: &Gateway) {
    assert_eq!(gateway.client().await.get("/", &[("host", "other.example")]).await.status, 200);
}

fn notices(config: &Value) -> String {
    config["notices"].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_decoded_keeps_its_last_version() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    gateway.put("route.yaml", &route().replace("[httpbin.example]", "7"));
    let config = gateway.until_config(|config| notices(config).contains("spec.hostnames")).await;
    let text = notices(&config);
    assert!(text.contains("route.yaml:") && text.contains(ROUTE), "{text}");
    let status = config["statuses"][ROUTE].to_string();
    assert!(status.contains("UnsupportedValue") && status.contains("keeps serving"), "{status}");
    assert_eq!(gateway.client().await.get("/", &[HOST]).await.status, 200);
    other_is_untouched(&gateway).await;
    gateway.put("route.yaml", &route().replace("httpbin.example", "mended.example"));
    gateway.until("/", &[("host", "mended.example")], |answer| answer.status == 200).await;
    gateway.until_config(|config| notices(config) == "[]" && !config["statuses"][ROUTE].to_string().contains("UnsupportedValue")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_parsed_keeps_its_last_version() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    gateway.put("route.yaml", "kind: [\n");
    let config = gateway.until_config(|config| notices(config).contains("cannot be parsed")).await;
    assert!(notices(&config).contains("route.yaml:"), "{}", notices(&config));
    assert_eq!(gateway.client().await.get("/", &[HOST]).await.status, 200);
    other_is_untouched(&gateway).await;
    gateway.put("route.yaml", &route());
    gateway.until_config(|config| notices(config) == "[]").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_wrong_answers_500_alone() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    let matches = "  - matches: [{path: {type: RegularExpression, value: '('}}]\n    backendRefs:";
    gateway.put("route.yaml", &route().replace("  - backendRefs:", matches));
    let config =
        gateway.until_config(|config| config["statuses"][ROUTE]["parents"][0]["conditions"].to_string().contains("\"False\"")).await;
    assert!(config["statuses"][ROUTE].to_string().contains("path"), "{}", config["statuses"][ROUTE]);
    assert_ne!(gateway.client().await.get("/", &[HOST]).await.status, 200);
    other_is_untouched(&gateway).await;
    gateway.put("route.yaml", &route());
    gateway.until("/", &[HOST], |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_wrong_answers_500_and_heals() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    gateway.put("upstream.yaml", &upstream("{ringHash: {ringHashConfig: {minimumRingSize: 20, maximumRingSize: 10}}}"));
    gateway.until("/", &[HOST], |answer| answer.status == 500).await;
    let config = gateway.config().await;
    let status = config["statuses"]["Upstream gloo-system/httpbin"].to_string();
    assert!(status.contains("Rejected") && status.contains("imumRingSize"), "{status}");
    gateway.put("upstream.yaml", &upstream("{ringHash: {}}"));
    gateway.until("/", &[HOST], |answer| answer.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_listener_alone_is_not_programmed() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    let text = std::fs::read_to_string(gateway.directory.path().join("gateway.yaml")).unwrap();
    let tls = "  - {name: tls, protocol: HTTPS, port: 8443, tls: {certificateRefs: [{name: cert}]}}\n";
    gateway.put("gateway.yaml", &(text + tls));
    let wanted = |config: &Value, name: &str, programmed: &str| {
        let listeners = config["statuses"]["Gateway gloo-system/http"]["listeners"].as_array().cloned().unwrap_or_default();
        listeners.iter().any(|listener| {
            let conditions = listener["conditions"].as_array().unwrap();
            listener["name"] == name && conditions.iter().any(|c| c["type"] == "Programmed" && c["status"] == programmed)
        })
    };
    gateway.until_config(|config| wanted(config, "tls", "False") && wanted(config, "http", "True")).await;
    assert_eq!(gateway.client().await.get("/", &[HOST]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_ready_endpoint_is_503_and_no_route_404() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    gateway.directory.remove("endpoints.yaml");
    gateway.until("/", &[HOST], |answer| answer.status == 503).await;
    assert_eq!(gateway.client().await.get("/", &[("host", "nobody.example")]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostname_that_two_namespaces_claim_is_counted_and_named() {
    let pods = Pod::several(1).await;
    let mut files = guide("gloo-gateway", &pods, "{ringHash: {}}");
    let gateway = files.iter_mut().find(|(name, _)| *name == "gateway.yaml").map(|(_, text)| text).unwrap();
    assert!(gateway.contains("from: All"), "the guide's listener takes routes of all namespaces: {gateway}");
    files.push((
        "other.yaml",
        other_route().replacen("namespace: gloo-system", "namespace: team", 1).replace("other.example", "httpbin.example"),
    ));
    let gateway = Gateway::start(&files).await;
    let config = gateway.config().await;
    let text = notices(&config);
    assert!(text.contains("httpbin.example") && text.contains("of namespace gloo-system and of team"), "{text}");
    let metrics = gateway.admin().await.get("/metrics", &[]).await.body;
    assert!(metrics.contains("\nclingfish_hostname_conflicts 1\n"), "{metrics}");
    gateway.directory.remove("other.yaml");
    gateway.until_config(|config| !notices(config).contains("is claimed by")).await;
}

/// The same files before and after a restart: the last version that could be read serves, then there is none, and the route is refused by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_option_that_can_no_longer_be_read_is_never_skipped() {
    let pods = Pod::several(1).await;
    let gateway = start(&pods).await;
    let broken = route_option("7");
    gateway.put("option.yaml", &broken);
    let config = gateway.until_config(|config| notices(config).contains("spec.options.lbHash.hashPolicies")).await;
    let status = config["statuses"]["RouteOption gloo-system/lbhash"].to_string();
    assert!(status.contains("the last version that could be read keeps serving"), "{status}");
    assert!(gateway.client().await.get("/", &[HOST]).await.header("set-cookie").is_some());
    let mut files = guide("gloo-gateway", &pods, "{ringHash: {}}");
    files.push(("other.yaml", other_route()));
    files.iter_mut().filter(|(name, _)| *name == "option.yaml").for_each(|(_, text)| text.clone_from(&broken));
    let restarted = Gateway::start(&files).await;
    assert_eq!(restarted.client().await.get("/", &[HOST]).await.status, 500);
    let status = restarted.config().await["statuses"]["RouteOption gloo-system/lbhash"].to_string();
    assert!(status.contains("no version of it could be read, so rules of its targetRefs answer 500"), "{status}");
    other_is_untouched(&restarted).await;
    restarted.put("option.yaml", &route_option(COOKIE));
    restarted.until("/", &[HOST], |answer| answer.header("set-cookie").is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_guards_a_gateway_closes_its_listener_until_it_is_gone() {
    const TARGET: &str = "[{group: gateway.networking.k8s.io, kind: Gateway, name: http, sectionName: http}]";
    let option = |options: &str| {
        let head = "apiVersion: gateway.solo.io/v1\nkind: VirtualHostOption\nmetadata: {name: auth, namespace: gloo-system}\n";
        format!("{head}spec: {{targetRefs: {TARGET}, options: {options}}}\n")
    };
    let pods = Pod::several(1).await;
    let mut files = guide("gloo-gateway", &pods, "{ringHash: {}}");
    files.push(("guard.yaml", option("{extauth: {configRef: {name: basic}}}")));
    let gateway = Gateway::start(&files).await;
    assert_eq!(gateway.client().await.get("/", &[HOST]).await.status, 500, "from the first request on");
    let config = gateway.config().await;
    for object in ["Gateway gloo-system/http", ROUTE] {
        let status = config["statuses"][object].to_string();
        assert!(status.contains("VirtualHostOption gloo-system/auth: field spec.options.extauth"), "{status}");
    }
    gateway.put("guard.yaml", &option("{stats: {}}"));
    gateway.until("/", &[HOST], |answer| answer.status == 200).await;
    assert!(notices(&gateway.config().await).contains("VirtualHostOption gloo-system/auth: field spec.options.stats"));
    gateway.put("guard.yaml", &option("{ext_auth: {}}"));
    gateway.until("/", &[HOST], |answer| answer.status == 500).await;
    gateway.directory.remove("guard.yaml");
    gateway.until("/", &[HOST], |answer| answer.status == 200).await;
}
