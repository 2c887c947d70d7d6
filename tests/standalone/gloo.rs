//! What a route of class `gloo-gateway` does as in Gloo, from YAML to the answers of real servers.

use crate::support::{Gateway, Pod, guide, upstream};

/// A route to the guide's Upstream with these rules.
fn route(rules: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: httpbin-upstream, namespace: gloo-system}}
spec:
  parentRefs: [{{name: http, namespace: gloo-system}}]
  rules: {rules}
"
    )
}

/// A rule that matches what is given, and whose `set` says its name to the backend.
fn marked(name: &str, matches: &str) -> String {
    format!(
        "{{matches: [{matches}], backendRefs: [{{name: httpbin, kind: Upstream, group: gloo.solo.io}}],
           filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]}}"
    )
}

async fn start(class: &str, pods: &[Pod], route: String, upstream: String) -> Gateway {
    let mut files = guide(class, pods, "");
    for (name, text) in &mut files {
        match *name {
            "route.yaml" => text.clone_from(&route),
            "upstream.yaml" => text.clone_from(&upstream),
            _ => {}
        }
    }
    Gateway::start(&files).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regular_expressions_are_equals_for_the_class_gloo_gateway_alone() {
    let pods = Pod::several(1).await;
    let regex = |value: &str, more: &str| format!("{{path: {{type: RegularExpression, value: \"{value}\"}}{more}}}");
    let long = marked("long", &regex("/api/v[0-9]+/users/.*", ""));
    let with_method = marked("method", &regex("/api/.*", ", method: GET"));
    let rules = format!("[{long}, {with_method}]");
    for (class, expected) in [("gloo-gateway", "method"), ("clingfish", "long")] {
        let gateway = start(class, &pods, route(&rules), upstream("")).await;
        let mut client = gateway.client().await;
        assert_eq!(client.get("/api/v1/users/7", &[]).await.seen("x-rule"), [expected], "{class}");
        let posted = client.send("POST", "/api/v1/users/7", &[], "").await.unwrap();
        assert_eq!(posted.seen("x-rule"), ["long"], "{class}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_changes_its_class_orders_its_routes_anew() {
    let pods = Pod::several(1).await;
    let regex = |value: &str, more: &str| format!("{{path: {{type: RegularExpression, value: \"{value}\"}}{more}}}");
    let rules = format!("[{}, {}]", marked("long", &regex("/api/users.*", "")), marked("method", &regex("/api.*", ", method: GET")));
    let gateway = start("gloo-gateway", &pods, route(&rules), upstream("")).await;
    assert_eq!(gateway.client().await.get("/api/users", &[]).await.seen("x-rule"), ["method"]);
    let clingfish = guide("clingfish", &pods, "").swap_remove(0).1;
    gateway.put("gateway.yaml", &clingfish);
    gateway.until("/api/users", &[], |answer| answer.status == 200 && answer.seen("x-rule") == ["long"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_path_before_a_rewrite_is_told_to_the_backend_whatever_the_client_says_of_it() {
    let pods = Pod::several(1).await;
    let backend = "backendRefs: [{name: httpbin, kind: Upstream, group: gloo.solo.io}]";
    let rewrite = "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]";
    let rules =
        format!("[{{matches: [{{path: {{value: /old}}}}], {backend}, {rewrite}}}, {{matches: [{{path: {{value: /plain}}}}], {backend}}}]");
    // Who is behind another proxy leaves what that one says, where there is nothing of its own to say.
    for (class, kept) in [("gloo-gateway", &["/mine"][..]), ("clingfish", &[])] {
        let gateway = start(class, &pods, route(&rules), upstream("")).await;
        let mut client = gateway.client().await;
        let sent = [("x-envoy-original-path", "/mine")];
        for headers in [&[][..], &sent] {
            let answer = client.get("/old/./a?q=1", headers).await;
            assert_eq!(answer.seen("x-envoy-original-path"), ["/old/a?q=1"], "{class}");
            assert!(answer.body.contains("\"target\":\"/new/a?q=1\""), "{class}: {}", answer.body);
        }
        assert_eq!(client.get("/plain", &[]).await.seen("x-envoy-original-path"), Vec::<String>::new(), "{class}");
        assert_eq!(client.get("/plain", &sent).await.seen("x-envoy-original-path"), kept, "{class}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn framing_headers_that_options_remove_stay_and_the_rest_goes() {
    let pods = Pod::several(1).await;
    let rules = "[{backendRefs: [{name: httpbin, kind: Upstream, group: gloo.solo.io}]}]";
    let gateway = start("gloo-gateway", &pods, route(rules), upstream("")).await;
    let option = "
apiVersion: gateway.solo.io/v1
kind: RouteOption
metadata: {name: framing, namespace: gloo-system}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: httpbin-upstream}]
  options:
    headerManipulation:
      requestHeadersToRemove: [content-length, transfer-encoding, x-a]
      responseHeadersToRemove: [content-length, x-pod]
";
    gateway.put("option.yaml", option);
    gateway.until("/", &[], |answer| answer.status == 200 && answer.header("x-pod").is_none()).await;
    let answer = gateway.client().await.send("POST", "/", &[("x-a", "1"), ("x-b", "2")], "body").await.unwrap();
    assert_eq!((answer.status, answer.seen("x-a").len(), answer.seen("x-b").len()), (200, 0, 1));
    assert_eq!(answer.seen("content-length"), ["4"]);
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_of_function_discovery_forwards_plainly() {
    let pods = Pod::several(1).await;
    let functions = "serviceSpec: {rest: {transformations: {getPet: {headers: {':path': {text: /pets}}}}}}";
    let upstream = upstream("").replace("servicePort: 8000}", &format!("servicePort: 8000, {functions}}}"));
    assert!(upstream.contains("serviceSpec"));
    let rules = "[{backendRefs: [{name: httpbin, kind: Upstream, group: gloo.solo.io}]}]";
    let gateway = start("gloo-gateway", &pods, route(rules), upstream).await;
    let answer = gateway.client().await.get("/as/it/is", &[]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"target\":\"/as/it/is\""), "{}", answer.body);
}
