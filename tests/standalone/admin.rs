use std::time::Duration;

use clingfish::telemetry::AdminClose;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{COOKIE, Client, Gateway, Pod, Process, gateway, guide, route_option, service, slice, slices, upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_of_the_admin_port() {
    let pods = Pod::several(2).await;
    let mut files = guide("gloo-gateway", &pods, "{ringHash: {}}");
    // An Upstream that no route uses, and a Service that hashes.
    files.push(("unused.yaml", upstream("{maglev: {}}").replace("name: httpbin, namespace", "name: unused, namespace")));
    let hashing = service().replace("name: httpbin, namespace: httpbin", "name: hashing, namespace: httpbin, annotations: {ANNOTATION}");
    let annotation = r#"gloo.solo.io/upstream_config: '{"loadBalancerConfig": {"maglev": {}}}'"#;
    files.push(("hashing.yaml", hashing.replace("ANNOTATION", annotation) + "---" + &slice(&pods[0], "httpbin", "hashing")));
    let gateway = Gateway::start(&files).await;
    gateway.client().await.get("/", &[("host", "httpbin.example")]).await;
    let mut admin = gateway.admin().await;
    for (method, path, headers, body, status, contains) in [
        ("GET", "/livez", &[][..], "", 200, "ok"),
        ("GET", "/readyz", &[], "", 200, "ok"),
        ("GET", "/servingz", &[], "", 200, "ok"),
        ("GET", "/metrics", &[], "", 200, "clingfish_requests_total{code=\"2xx\",flag=\"-\"} 1"),
        ("GET", "/metrics", &[], "", 200, "clingfish_table_builds_total{kind=\"ring\"} 1"),
        ("GET", "/config", &[], "", 200, "\"HTTPRoute gloo-system/httpbin-upstream\""),
        ("GET", "/config?shares", &[], "", 200, "\"shares\""),
        ("GET", "/", &[], "", 200, "<title>Clingfish"),
        ("GET", "/page/main.js", &[], "", 200, "import"),
        ("GET", "/page/style.css", &[], "", 200, "prefers-color-scheme"),
        ("GET", "/page/nothing.js", &[], "", 404, "/explain"),
        ("POST", "/page/main.js", &[], "", 405, "use GET"),
        ("GET", "/live", &[], "", 200, "\"Upstream gloo-system/httpbin\":{\"requests\":1,\"sessions\":1,\"moved\":0"),
        ("GET", "/live?backend=Upstream%20gloo-system/httpbin", &[], "", 200, "\"places\":["),
        ("GET", "/live?backend=nothing", &[], "", 200, "\"backends\""),
        ("POST", "/live", &[], "", 405, "use GET"),
        ("GET", "/live", &[("host", "evil.example")], "", 421, "localhost"),
        ("POST", "/explain", &[], "{", 400, "\"error\""),
        ("POST", "/simulate", &[], "{\"upstream\":\"gloo-system/httpbin\",\"scale\":3}", 200, "\"moved\""),
        ("POST", "/simulate", &[], "{\"upstream\":\"a/b\",\"scale\":3}", 400, "there is no Upstream a/b"),
        ("POST", "/simulate", &[], "{\"upstream\":\"gloo-system/httpbin\",\"scale\":3,\"keys\":1000001}", 400, "at most 1000000"),
        ("POST", "/simulate", &[], "{\"upstream\":\"gloo-system/unused\",\"scale\":3}", 200, "Upstream gloo-system/unused"),
        ("POST", "/simulate", &[], "{\"service\":\"httpbin/hashing:8000\",\"scale\":3}", 200, "Service httpbin/hashing:8000"),
        ("POST", "/simulate", &[], "{\"service\":\"httpbin/httpbin:8000\",\"scale\":3}", 400, "does not choose by hash"),
        ("POST", "/simulate", &[], "{\"service\":\"httpbin/httpbin:1\",\"scale\":3}", 400, "there is no Service httpbin/httpbin:1"),
        ("POST", "/simulate", &[], "{\"service\":\"httpbin/httpbin\",\"scale\":3}", 400, "expected NAMESPACE/NAME:PORT"),
        ("POST", "/explain", &[("origin", "http://evil.example")], "{}", 403, "other sites"),
        ("POST", "/simulate", &[("sec-fetch-site", "cross-site")], "{}", 403, "other sites"),
        ("POST", "/simulate", &[("content-type", "text/plain")], "{}", 403, "application/json"),
        ("POST", "/simulate", &[("content-type", "application/x-www-form-urlencoded")], "{}", 400, "expected one of upstream and service"),
        ("GET", "/metrics", &[], "", 200, "\nclingfish_snapshot_digest "),
        ("GET", "/logging", &[], "", 404, "not set up"),
        ("POST", "/logging?level=debug", &[("origin", "http://evil.example")], "", 403, "other sites"),
        ("PUT", "/logging", &[], "", 405, "use GET, POST"),
        ("GET", "/explain", &[], "", 405, "use POST"),
        ("POST", "/metrics", &[], "", 405, "use GET"),
        ("GET", "/nothing", &[], "", 404, "/explain"),
        ("GET", "/config", &[("host", "evil.example")], "", 421, "localhost"),
        ("GET", "/livez", &[("host", "evil.example")], "", 200, "ok"),
    ] {
        let answer = admin.send(method, path, headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(answer.body.contains(contains), "{method} {path}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_may_run_nothing_but_its_own_scripts() {
    let gateway = Gateway::start(&guide("gloo-gateway", &Pod::several(1).await, "{ringHash: {}}")).await;
    for path in ["/", "/page/main.js", "/page/style.css"] {
        let answer = gateway.admin().await.get(path, &[]).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_shows_where_sessions_are_and_which_moved() {
    let pods = Pod::several(3).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "{maglev: {}}")).await;
    let mut client = gateway.client().await;
    for session in 0..40 {
        let cookie = format!("hashbasedcookie={session:016x}");
        for _ in 0..2 {
            assert_eq!(client.get("/", &[("host", "httpbin.example"), ("cookie", &cookie)]).await.status, 200);
        }
    }
    let live = gateway.admin().await.get("/live?backend=Upstream%20gloo-system/httpbin", &[]).await.body;
    let live: serde_json::Value = serde_json::from_str(&live).unwrap();
    let recent = &live["backends"]["Upstream gloo-system/httpbin"];
    assert_eq!((&recent["requests"], &recent["sessions"], &recent["moved"]), (&80.into(), &40.into(), &0.into()), "{live}");
    let hosts = recent["hosts"].as_object().unwrap();
    let sum = |field: &str| hosts.values().map(|host| host[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((hosts.len(), sum("requests"), sum("sessions")), (3, 80, 40));
    // The table says where each of the keys is, as `explain` does.
    let hot = live["backend"]["hot"].as_array().unwrap();
    assert!(!hot.is_empty() && hot.iter().all(|key| key["requests"] == 2), "{live}");
    let places = live["backend"]["places"].as_array().unwrap();
    for host in 0..3_u64 {
        let part = places.iter().filter(|place| place.as_u64() == Some(host)).count() as f64 / places.len() as f64;
        assert!((0.2..0.5).contains(&part), "{part} of the places are those of host {host}");
    }
}

/// Two routes to one Service, each with a policy of its own.
const TWO_WAYS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: NAME, namespace: httpbin}
spec:
  parentRefs: [{name: http, namespace: gloo-system}]
  hostnames: [NAME.example]
  rules: [{backendRefs: [{name: httpbin, port: 8000}]}]
---
apiVersion: clingfish.dev/v1alpha1
kind: AffinityPolicy
metadata: {name: NAME, namespace: httpbin}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: NAME}]
  keys: [{header: {name: x-user}}]
  algorithm: {TYPE: {}}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_of_one_backend_are_told_apart() {
    let pods = Pod::several(3).await;
    let way = |name: &str, algorithm: &str| TWO_WAYS.replace("NAME", name).replace("TYPE", algorithm);
    let files = [
        ("gateway.yaml", gateway("clingfish")),
        ("service.yaml", service()),
        ("endpoints.yaml", slices(&pods)),
        ("a.yaml", way("a", "maglev")),
        ("b.yaml", way("b", "ringHash")),
    ];
    let gateway = Gateway::start(&files).await;
    let mut client = gateway.client().await;
    for (host, requests) in [("a.example", 3), ("b.example", 5)] {
        for user in 0..requests {
            assert_eq!(client.get("/", &[("host", host), ("x-user", &user.to_string())]).await.status, 200);
        }
    }
    let mut admin = gateway.admin().await;
    let read = |body: &str| serde_json::from_str::<serde_json::Value>(body).unwrap();
    let config = read(&admin.get("/config?shares", &[]).await.body);
    let live = read(&admin.get("/live?backend=Service%20httpbin/httpbin:8000%20by%20httpbin/b", &[]).await.body);
    for (policy, requests) in [("a", 3), ("b", 5)] {
        let name = format!("Service httpbin/httpbin:8000 by httpbin/{policy}");
        assert_eq!(config["shares"][&name].as_object().map(|hosts| hosts.len()), Some(3), "{}", config["shares"]);
        let clusters = config["snapshot"]["clusters"].as_array().unwrap();
        assert_eq!(clusters.iter().filter(|cluster| cluster["cluster"] == *name).count(), 1, "{clusters:?}");
        assert_eq!(live["backends"][&name]["requests"], requests, "{live}");
        let question =
            serde_json::json!({"url": format!("http://{policy}.example:{}/", gateway.address.port()), "headers": [["x-user", "1"]]});
        let answer = read(&admin.send("POST", "/explain", &[], &question.to_string()).await.unwrap().body);
        assert_eq!((&answer["backend"], &answer["cluster"]), (&"Service httpbin/httpbin:8000".into(), &name.into()), "{answer}");
    }
    assert_eq!(live["backend"]["name"], "Service httpbin/httpbin:8000 by httpbin/b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_answers_as_documented() {
    let pods = Pod::several(3).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "{ringHash: {}}")).await;
    let port = gateway.address.port();
    let question = serde_json::json!({
        "method": "GET", "url": format!("http://httpbin.example:{port}/headers"),
        "headers": [["cookie", "hashbasedcookie=298b1ac340fdea97"]], "source": "10.0.0.1",
    });
    let answer = gateway.admin().await.send("POST", "/explain", &[], &question.to_string()).await.unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    for (key, value) in [("gateway", "gloo-system/http"), ("listener", "http"), ("route", "HTTPRoute gloo-system/httpbin-upstream")] {
        assert_eq!(answer[key], value, "{answer:#}");
    }
    assert_eq!(answer["table"]["kind"], "ring");
    assert_eq!(answer["policies"][0]["policy"], "cookie hashbasedcookie");
    assert_eq!(answer["next"].as_array().unwrap().len(), 2, "{answer:#}");
    let sent = [("host", "httpbin.example"), ("cookie", "hashbasedcookie=298b1ac340fdea97")];
    let served = gateway.client().await.get("/headers", &sent).await;
    assert_eq!(answer["host"], served.pod().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remapped_keys_are_measured_at_each_change() {
    let pods = Pod::several(3).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods[..2], "{maglev: {}}")).await;
    gateway.directory.put("endpoints.yaml", &slices(&pods));
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let text = gateway.admin().await.get("/metrics", &[]).await.body;
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(0.0);
        if line("clingfish_remapped_keys_ratio_count ") >= 1.0 {
            let moved = line("clingfish_remapped_keys_ratio_sum ");
            assert!(moved > 0.2 && moved < 0.9, "a third pod took {moved} of the keys");
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_key_is_counted() {
    let pods = Pod::several(1).await;
    let mut files = guide("gloo-gateway", &pods, "{ringHash: {}}");
    files.retain(|(name, _)| *name != "option.yaml");
    files.push(("option.yaml", route_option("[{header: x-key}]")));
    assert_ne!(COOKIE, "[{header: x-key}]");
    let gateway = Gateway::start(&files).await;
    let mut client = gateway.client().await;
    client.get("/", &[("host", "httpbin.example")]).await;
    client.get("/", &[("host", "httpbin.example"), ("x-key", "a")]).await;
    let text = gateway.admin().await.get("/metrics", &[]).await.body;
    assert!(text.contains("clingfish_hash_key_missing_total 1\n"), "{text}");
}

/// Sends bytes on a connection of its own, and keeps it.
async fn begin(address: std::net::SocketAddr, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Where the gateway has closed it already there is nothing to send to.
    let _ = stream.write_all(sent).await;
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_answer_whatever_is_on_the_port() {
    let _ = clingfish::base::raise_descriptor_limit();
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "{ringHash: {}}")).await;
    let address = gateway.app.admin_address();
    let mut crowd = Vec::new();
    for number in 0..1_000 {
        let sent: &[u8] = match number % 4 {
            0 => b"",
            1 => b"GET /livez HTTP/1.1\r\nhost: local",
            2 => b"POST /explain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
            _ => b"GET /config?shares HTTP/1.1\r\nhost: localhost\r\n\r\n",
        };
        crowd.push(begin(address, sent).await);
        if number % 100 == 99 {
            // Far below a kubelet's patience of one second; before, it was the 80 seconds until the crowd gave up.
            for path in ["/livez", "/readyz", "/metrics"] {
                let answer = tokio::time::timeout(Duration::from_secs(1), async { gateway.admin().await.get(path, &[]).await }).await;
                assert_eq!(answer.expect("an answer within a second").status, 200, "{path} beside {number} connections");
            }
        }
    }
    assert!(gateway.app.metrics().process().closed(AdminClose::TooMany) >= 400);
    let alive = gateway.admin().await.get("/metrics", &[]).await.body;
    assert!(alive.contains("clingfish_admin_connections_closed_total{reason=\"too_many\"}"), "{alive}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_and_a_body_have_their_time() {
    let pods = Pod::several(1).await;
    let gateway = Gateway::start(&guide("gloo-gateway", &pods, "{ringHash: {}}")).await;
    let address = gateway.app.admin_address();
    let begun = tokio::time::Instant::now();
    let mut head = begin(address, b"GET /livez HTTP/1.1\r\n").await;
    let mut body = begin(address, b"POST /explain HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{").await;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    head.read_to_end(&mut first).await.unwrap();
    assert!(first.is_empty() && begun.elapsed() >= Duration::from_secs(5));
    body.read_to_end(&mut second).await.unwrap();
    let text = String::from_utf8_lossy(&second);
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("did not come within 10s"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// What a gateway says that it serves.
async fn digest(gateway: &Gateway) -> String {
    let text = gateway.admin().await.get("/metrics", &[]).await.body;
    text.lines().find_map(|line| line.strip_prefix("clingfish_snapshot_digest ")).expect("a digest").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_serve_the_same_have_one_digest_and_a_change_changes_it() {
    let pods = Pod::several(3).await;
    let files = guide("gloo-gateway", &pods[..2], "{maglev: {}}");
    let gateway = Gateway::start(&files).await;
    let before = digest(&gateway).await;
    gateway.directory.put("endpoints.yaml", &slices(&pods));
    let until = async |wanted: &dyn Fn(&str) -> bool| {
        let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
        loop {
            let found = digest(&gateway).await;
            if wanted(&found) {
                return found;
            }
            assert!(tokio::time::Instant::now() < deadline, "the digest is still {found}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let with_three = until(&|found| found != before).await;
    assert!(with_three.parse::<f64>().unwrap() < 2_f64.powi(48), "{with_three}");
    gateway.directory.put("endpoints.yaml", &slices(&pods[..2]));
    // Another way to the same configuration.
    until(&|found| found == before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_logged_changes_while_the_process_runs() {
    let pods = Pod::several(1).await;
    let gateway = Process::start(&guide("gloo-gateway", &pods, ""), 1024, 1).await;
    assert_eq!(gateway.admin("/logging").await, (200, "{\"format\":\"json\",\"level\":\"info\"}\n".to_owned()));
    let post = async |query: &str| {
        let answer = Client::connect(gateway.admin).await.send("POST", &format!("/logging{query}"), &[], "").await.unwrap();
        (answer.status, answer.body)
    };
    let changed = post("?level=info%2Cclingfish=debug&format=text").await;
    assert_eq!(changed, (200, "{\"format\":\"text\",\"level\":\"info,clingfish=debug\"}\n".to_owned()));
    for (query, contains) in [("", "nothing is to be changed"), ("?level=a=b=c", "expected a level"), ("?format=xml", "format is")] {
        let (status, body) = post(query).await;
        assert!(status == 400 && body.contains(contains), "{query}: {status} {body}");
    }
    assert_eq!(gateway.admin("/logging").await.1, changed.1, "what is refused changes nothing");
}
