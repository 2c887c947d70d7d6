//! The proxy and `/explain` run the same plan: a thousand random requests must agree.

use serde_json::{Value, json};

use crate::support::{COOKIE, Gateway, Pod, guide, route_option, slice};

/// More routes beside the guide's, so that every kind of decision occurs.
const MORE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: more, namespace: gloo-system}
spec:
  parentRefs: [{name: http, namespace: gloo-system}]
  hostnames: ['*.example', more.example]
  rules:
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: keyed, kind: Upstream, group: gloo.solo.io}]
  - matches: [{path: {type: PathPrefix, value: /prefix}, headers: [{name: x-version, value: '2'}]}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: keyed, kind: Upstream, group: gloo.solo.io}]
  - matches: [{path: {type: RegularExpression, value: '/re/[a-z]+'}}]
    backendRefs: [{name: keyed, kind: Upstream, group: gloo.solo.io}]
  - matches: [{path: {type: PathPrefix, value: /gone}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere.example, statusCode: 302}}]
  - matches: [{path: {type: PathPrefix, value: /invalid}}]
    backendRefs: [{name: nothing, kind: Upstream, group: gloo.solo.io}]
  - matches: [{path: {type: PathPrefix, value: /empty}}]
    backendRefs: [{name: empty, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: gloo-system}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: keyed, namespace: gloo-system}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gloo.solo.io/v1
kind: Upstream
metadata: {name: keyed, namespace: gloo-system}
spec:
  kube: {serviceName: keyed, serviceNamespace: gloo-system, servicePort: 80}
  loadBalancerConfig: {maglev: {}}
---
apiVersion: gateway.solo.io/v1
kind: RouteOption
metadata: {name: keyed, namespace: gloo-system}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: more}]
  options:
    lbHash:
      hashPolicies:
      - {header: x-user, terminal: true}
      - {sourceIp: true}
";

struct Request {
    method: &'static str,
    host: String,
    target: String,
    headers: Vec<(&'static str, String)>,
}

fn request(random: &mut fastrand::Rng) -> Request {
    let pick = |random: &mut fastrand::Rng, of: &[&str]| of[random.usize(..of.len())].to_owned();
    let host = pick(random, &["httpbin.example", "httpbin.example", "more.example", "a.b.example", "example", "HTTPBIN.example", "x.test"]);
    let mut target =
        pick(random, &["/", "/exact", "/exact/", "/prefix", "/prefix/x", "/prefixed", "/re/abc", "/re/A", "/gone/x", "/invalid", "/empty"]);
    if random.u8(..4) == 0 {
        target = format!("{target}?q={}", random.u16(..));
    }
    if random.u8(..10) == 0 {
        target = format!("/x/..{target}");
    }
    let mut headers = Vec::new();
    if random.bool() {
        let value = format!("{:016x}", random.u64(..));
        headers.push((
            "cookie",
            pick(random, &["hashbasedcookie=V", "hashbasedcookie=\"V\"", "a=b; hashbasedcookie=V", "c=V"]).replace('V', &value),
        ));
    }
    if random.bool() {
        headers.push(("x-user", format!("user-{}", random.u16(..500))));
    }
    if random.bool() {
        headers.push(("x-version", random.u8(1..4).to_string()));
    }
    if random.bool() {
        headers.push(("x-forwarded-for", format!("203.0.113.{}, 198.51.100.{}", random.u8(..), random.u8(..))));
    }
    Request { method: ["GET", "POST", "DELETE"][random.usize(..3)], host, target, headers }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_and_proxy_agree_on_a_thousand_requests() {
    for class in ["gloo-gateway", "clingfish"] {
        agree(class, 500).await;
    }
}

async fn agree(class: &str, requests: usize) {
    let pods = Pod::several(4).await;
    let mut files = guide(class, &pods[..3], "{ringHash: {}}");
    files.retain(|(name, _)| *name != "option.yaml");
    files.push(("option.yaml", route_option(COOKIE)));
    files.push(("more.yaml", MORE.into()));
    files.push(("keyed.yaml", pods.iter().map(|pod| slice(pod, "gloo-system", "keyed").replace(", {name: tcp, port: 9}", "")).collect()));
    let gateway = Gateway::start(&files).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut admin = gateway.admin().await;
    let mut client = gateway.client().await;
    let (mut chosen, mut replied) = (0, 0);
    for number in 0..requests {
        if number % 50 == 0 {
            client = gateway.client().await;
        }
        let Request { method, host, target, headers } = request(&mut random);
        let question = json!({
            "method": method, "url": format!("http://{host}:{}{target}", gateway.address.port()), "headers": headers,
            "source": client.local.to_string(), "local": gateway.address.to_string(),
        });
        let told = admin.send("POST", "/explain", &[], &question.to_string()).await.unwrap();
        let told: Value = serde_json::from_str(&told.body).unwrap();
        let mut sent: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let authority = format!("{host}:{}", gateway.address.port());
        sent.push(("host", &authority));
        let served = client.send(method, &target, &sent, "").await.unwrap();
        let context = format!("seed {seed}, request {number}: {question}\n{told:#}\n{served:?}");
        if let Some(status) = told["status"].as_u64() {
            assert_eq!(u64::from(served.status), status, "{context}");
            replied += 1;
            continue;
        }
        assert_eq!(served.status, 200, "{context}");
        if let Some(host) = told["host"].as_str() {
            assert_eq!(served.pod(), Some(host), "{context}");
            chosen += 1;
        }
        assert_eq!(served.header("set-cookie"), told["set_cookie"].as_str(), "{context}");
    }
    assert!(chosen > requests / 5 && replied > requests / 20, "{chosen} hosts, {replied} answers of the gateway's own");
}

/// What `next` is for: to know where a session goes when its pod ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_pods_that_ended_are_served_by_the_next_ones_told() {
    for (balancer, dead) in [("{ringHash: {}}", 1), ("{ringHash: {}}", 2), ("{maglev: {}}", 1), ("{maglev: {}}", 2)] {
        let mut pods = Pod::several(5).await;
        let gateway = Gateway::start(&guide("clingfish", &pods, balancer)).await;
        let mut admin = gateway.admin().await;
        let mut told: Vec<(String, Vec<String>)> = Vec::new();
        for number in 0..150 {
            let cookie = format!("hashbasedcookie=session-{number}");
            let url = format!("http://httpbin.example:{}/", gateway.address.port());
            let question = json!({"method": "GET", "url": url, "headers": [["cookie", cookie]]});
            let answer = admin.send("POST", "/explain", &[], &question.to_string()).await.unwrap();
            let answer: Value = serde_json::from_str(&answer.body).unwrap();
            let next = answer["next"].as_array().unwrap().iter();
            let hosts: Vec<String> = [&answer["host"]].into_iter().chain(next).map(|host| host.as_str().unwrap().to_owned()).collect();
            assert_eq!(hosts.len(), pods.len(), "{balancer}: every pod once: {answer}");
            told.push((cookie, hosts));
        }
        let ended: Vec<String> = told[0].1[..dead].to_vec();
        pods.retain(|pod| !ended.contains(&pod.name()));
        let mut client = gateway.client().await;
        let mut moved = 0;
        for (cookie, hosts) in told.iter().filter(|(_, hosts)| hosts[..dead].iter().all(|host| ended.contains(host))) {
            let served = client.get("/", &[("host", "httpbin.example"), ("cookie", cookie)]).await;
            assert_eq!((served.status, served.pod()), (200, Some(&*hosts[dead])), "{balancer}, {cookie} of {hosts:?} without {ended:?}");
            moved += 1;
        }
        assert!(moved >= 3, "{balancer}: {moved} sessions of {ended:?}");
    }
}

/// A backend without endpoints: `/explain`, the log's notice and the status of the Upstream have the same sentence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_503_says_why() {
    let pods = Pod::several(1).await;
    let mut files = guide("gloo-gateway", &pods, "");
    files.iter_mut().filter(|(name, _)| *name == "endpoints.yaml").for_each(|(_, text)| *text = text.replace("name: http,", "name: web,"));
    let gateway = Gateway::start(&files).await;
    let sentence =
        "no EndpointSlice of Service httpbin/httpbin has a port named http; they have a port named tcp, a port named web".to_owned();
    let host = ("host", "httpbin.example");
    assert_eq!(gateway.client().await.get("/", &[host]).await.status, 503);
    let question = json!({"method": "GET", "url": format!("http://httpbin.example:{}/", gateway.address.port())});
    let answer = gateway.admin().await.send("POST", "/explain", &[], &question.to_string()).await.unwrap();
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&answer["status"], &answer["reason"]), (&json!(503), &json!(format!("the backend has no host: {sentence}"))));
    let config = gateway.config().await;
    assert!(config["notices"].to_string().contains(&sentence), "{}", config["notices"]);
    let status = config["statuses"]["Upstream gloo-system/httpbin"].to_string();
    assert!(status.contains(&sentence) && status.contains("Warning"), "{status}");
    // A pod that is not ready: a notice, and no word in the status, which would be written with every restart.
    gateway.put("endpoints.yaml", &slice(&pods[0], "httpbin", "httpbin").replace("ready: true", "ready: false"));
    let config =
        gateway.until_config(|config| config["notices"].to_string().contains("no endpoint of Service httpbin/httpbin is ready")).await;
    assert!(config["statuses"]["Upstream gloo-system/httpbin"].to_string().contains("Accepted"), "{config:#}");
    gateway.put("endpoints.yaml", &slice(&pods[0], "httpbin", "httpbin"));
    gateway.until("/", &[host], |answer| answer.status == 200).await;
    gateway.until_config(|config| config["notices"] == json!([])).await;
}
