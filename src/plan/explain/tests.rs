use super::*;
use crate::plan::fixture;
use crate::snapshot::{BindAddress, HashPolicy, HashSource};

fn explainer() -> Explainer {
    Explainer::new(fastrand::Rng::with_seed(3), 1 << 24)
}

fn ask(snapshot: &Snapshot, line: &str) -> String {
    explainer().explain_line(line, snapshot)
}

#[test]
fn a_cookie_is_explained_exactly() {
    let snapshot = fixture::guide();
    let line = r#"{"method":"GET","url":"http://httpbin.example:8080/headers","headers":[["cookie","hashbasedcookie=298b1ac340fdea97"]],"source":"10.0.0.1"}"#;
    let hash = crate::lb::xxh64(b"298b1ac340fdea97", 0);
    let cluster = snapshot.clusters[0].as_ref().unwrap();
    let choice = cluster.balancer.choose_by_hash(hash, 0).unwrap();
    let hosts: Vec<&str> = cluster.balancer.sequence(hash, 5).iter().map(|host| &*cluster.hosts[*host as usize].text).collect();
    assert_eq!(hosts.len(), 3);
    let expected = format!(
        concat!(
            r#"{{"gateway":"gloo-system/http","listener":"http","route":"HTTPRoute gloo-system/httpbin","rule":0,"match":0,"#,
            r#""backend":"Upstream gloo-system/httpbin","policies":[{{"policy":"cookie hashbasedcookie","value":"298b1ac340fdea97","hash":"{hash:016x}"}}],"#,
            r#""hash":"{hash:016x}","table":{{"kind":"ring","size":{size},"entry":{entry}}},"host":"{host}","next":["{second}","{third}"],"#,
            r#""set_cookie":null,"status":null,"reason":"the hash of cookie hashbasedcookie falls on entry {entry} of the ring"}}"#
        ),
        hash = hash,
        size = cluster.balancer.table().unwrap().size,
        entry = choice.entry,
        host = hosts[0],
        second = hosts[1],
        third = hosts[2],
    );
    assert_eq!(ask(&snapshot, line), expected);
}

fn decision(snapshot: &Snapshot, line: &str) -> Decision {
    let request: ExplainRequest = serde_json::from_str(line).unwrap();
    match explainer().explain(&request, snapshot) {
        ExplainAnswer::Decision(decision) => *decision,
        ExplainAnswer::Error { error } => panic!("{error}"),
    }
}

#[test]
fn a_cookie_to_be_generated_needs_both_ports() {
    let snapshot = fixture::guide();
    for source in [r#","source":"10.0.0.1""#, r#","source":"10.0.0.1:5""#, r#","local":"10.0.0.1:5""#, ""] {
        let answer = decision(&snapshot, &format!(r#"{{"url":"http://httpbin.example:8080/"{source}}}"#));
        assert_eq!((answer.hash, answer.host, answer.next), (None, None, vec![]));
        assert_eq!(answer.set_cookie.as_deref(), Some("hashbasedcookie=\"<generated>\"; Max-Age=60; Path=/; HttpOnly"));
        assert_eq!(
            answer.policies[0],
            PolicyAnswer { policy: "cookie hashbasedcookie".into(), value: Some("<generated>".into()), hash: None }
        );
        assert_eq!(answer.table.unwrap().entry, None);
    }
    let answer = decision(&snapshot, r#"{"url":"http://httpbin.example:8080/","source":"10.0.0.1:50412","local":"10.0.0.9:8080"}"#);
    let value = crate::lb::generated_cookie_value("10.0.0.1:50412".parse().unwrap(), "10.0.0.9:8080".parse().unwrap());
    let value = std::str::from_utf8(&value).unwrap();
    assert_eq!(answer.set_cookie.unwrap(), format!("hashbasedcookie=\"{value}\"; Max-Age=60; Path=/; HttpOnly"));
    let hash = crate::lb::xxh64(value.as_bytes(), 0);
    assert_eq!((answer.hash.unwrap(), answer.policies[0].value.as_deref()), (format!("{hash:016x}"), Some(value)));
    assert!(answer.host.is_some());
}

#[test]
fn what_is_not_there_is_null() {
    let snapshot = fixture::guide();
    let nothing = ask(&snapshot, r#"{"method":"GET","url":"http://httpbin.example:9999/"}"#);
    let rest = r#","policies":[],"hash":null,"table":null,"host":null,"next":[],"set_cookie":null,"status":null,"reason":"#;
    let start = r#"{"gateway":null,"listener":null,"route":null,"rule":null,"match":null,"backend":null"#;
    assert!(nothing.starts_with(&format!("{start}{rest}\"no listener on port 9999;")), "{nothing}");

    let no_route = decision(&snapshot, r#"{"url":"http://other.example:8080/"}"#);
    assert_eq!((no_route.status, no_route.listener.as_deref(), no_route.route, no_route.backend), (Some(404), Some("http"), None, None));
    assert_eq!((no_route.rule, no_route.match_index), (None, None));

    let bad = decision(&snapshot, r#"{"url":"http://httpbin.example:8080/","headers":[["host","a"],["Host","b"]]}"#);
    assert_eq!((bad.status, bad.listener), (Some(400), None));
}

#[test]
fn an_invalid_backend_shows_route_and_rule() {
    let rule = fixture::rule(0, fixture::forward(&[(1, fixture::invalid())]), vec![]);
    let bind = fixture::bind(80, "http", vec![("", vec![fixture::routes("", vec![("/", rule)])])]);
    let snapshot = fixture::snapshot(vec![bind], vec![]);
    let answer = decision(&snapshot, r#"{"url":"a.example/x"}"#);
    assert_eq!((answer.status, answer.rule, answer.match_index), (Some(500), Some(0), Some(0)));
    assert_eq!(answer.route.as_deref(), Some("HTTPRoute gloo-system/httpbin"));
    assert_eq!(answer.backend.as_deref(), Some("Upstream gloo-system/httpbin"));
}

#[test]
fn a_random_choice_names_no_host() {
    for (policy, hashes) in [(fixture::maglev(), vec![]), (crate::lb::Policy::RoundRobin, vec![fixture::cookie_policy()])] {
        let rule = fixture::rule(0, fixture::to_cluster(0), hashes);
        let bind = fixture::bind(80, "http", vec![("", vec![fixture::routes("", vec![("/", rule)])])]);
        let snapshot = fixture::snapshot(vec![bind], vec![fixture::cluster(0, "httpbin", &["10.0.0.1:80", "10.0.0.2:80"], policy)]);
        let answer = decision(&snapshot, r#"{"url":"http://a/"}"#);
        assert_eq!((answer.host, answer.hash, answer.status, answer.set_cookie), (None, None, None, None));
        assert!(answer.backend.is_some() && answer.next.is_empty());
    }
}

#[test]
fn a_host_header_wins_over_the_url() {
    let snapshot = fixture::guide();
    let answer = decision(&snapshot, r#"{"url":"http://127.0.0.1:8080/","headers":[["Host","httpbin.example"]]}"#);
    assert_eq!(answer.rule, Some(0));
}

#[test]
fn several_gateways_on_a_port_have_to_be_told_apart() {
    let rule = || fixture::routes("", vec![("/", fixture::rule(0, fixture::to_cluster(0), vec![]))]);
    let one = fixture::bind(8080, "one", vec![("", vec![rule()])]);
    let two = Bind { address: "0.0.0.0:16080".parse().unwrap(), ..fixture::bind(8080, "two", vec![("", vec![rule()])]) };
    let snapshot = fixture::snapshot(vec![one, two], vec![fixture::cluster(0, "httpbin", &["10.0.0.1:80"], fixture::ring())]);
    let error = ask(&snapshot, r#"{"url":"http://a:8080/"}"#);
    assert!(error.starts_with("{\"error\":") && error.contains("gloo-system/one, gloo-system/two"), "{error}");
    let answer = decision(&snapshot, r#"{"url":"http://a:8080/","gateway":"gloo-system/two"}"#);
    assert_eq!(answer.gateway.as_deref(), Some("gloo-system/two"));
    let none = decision(&snapshot, r#"{"url":"http://a:8080/","gateway":"gloo-system/three"}"#);
    assert!(none.gateway.is_none() && none.reason.contains("gloo-system/three"));
}

#[test]
fn a_line_that_cannot_be_read_is_answered_with_an_error() {
    let snapshot = fixture::guide();
    for (line, named) in [
        ("", "expected an object"),
        ("[]", "expected an object"),
        ("{}", "url"),
        (r#"{"url":"http://a/","colour":1}"#, "colour"),
        (r#"{"url":"http://a b/"}"#, "url"),
        (r#"{"url":"ftp://a/"}"#, "url"),
        (r#"{"url":"http://a/","source":"x"}"#, "source"),
        (r#"{"url":"http://a/","local":"10.0.0.1"}"#, "local"),
        (r#"{"url":"http://a/","method":"G T"}"#, "method"),
        (r#"{"url":"http://a/","headers":[["a b","c"]]}"#, "headers"),
        (r#"{"url":"http://a/","headers":[["a","c\nd"]]}"#, "headers"),
    ] {
        let answer = ask(&snapshot, line);
        let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert!(value["error"].as_str().unwrap().contains(named), "{line}: {answer}");
        assert_eq!(value.as_object().unwrap().len(), 1);
    }
}

#[test]
fn the_text_tells_what_is_not_null() {
    let snapshot = fixture::guide();
    let text = decision(&snapshot, r#"{"url":"http://httpbin.example:8080/","headers":[["cookie","hashbasedcookie=a"]]}"#).to_string();
    let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["gateway", "listener", "route", "backend", "policy", "hash", "table", "host", "next", "why"]);
    assert!(text.contains("policy     cookie hashbasedcookie: \"a\", hash "), "{text}");
    let nothing = decision(&snapshot, r#"{"url":"http://a:1/"}"#).to_string();
    assert!(nothing.starts_with("why        no listener on port 1"), "{nothing}");
}

#[test]
fn on_an_https_port_the_urls_host_opens_the_connection() {
    let routes = |hostname: &str| vec![fixture::routes(hostname, vec![("/", fixture::rule(0, fixture::to_cluster(0), vec![]))])];
    let listeners = vec![("a.example", routes("a.example")), ("b.example", routes("b.example"))];
    let tls = Arc::new(crate::snapshot::TlsTermination::new([]));
    let bind = Bind { protocol: BindProtocol::Https(tls), ..fixture::bind(443, "http", listeners) };
    let snapshot = fixture::snapshot(vec![bind], vec![fixture::cluster(0, "up", &["10.0.0.1:80"], fixture::ring())]);
    assert_eq!(decision(&snapshot, r#"{"method":"GET","url":"https://A.example/"}"#).status, None);
    let reused = decision(&snapshot, r#"{"method":"GET","url":"https://a.example/","headers":[["host","b.example"]]}"#);
    assert_eq!((reused.status, reused.listener.as_deref()), (Some(421), Some("http-1")));
    let unknown = decision(&snapshot, r#"{"method":"GET","url":"https://10.0.0.1/","headers":[["host","a.example"]]}"#);
    assert_eq!(unknown.status, Some(421));
}

/// Asks for many sessions, and what the cluster itself says of each.
fn next_of_sessions(pods: &[String], policy: crate::lb::Policy, sessions: usize) -> Vec<(Decision, Vec<String>)> {
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let routes = fixture::routes("", vec![("/", fixture::rule(0, fixture::to_cluster(0), vec![fixture::cookie_policy()]))]);
    let cluster = fixture::cluster(0, "httpbin", &pods, policy);
    let snapshot = fixture::snapshot(vec![fixture::bind(80, "http", vec![("", vec![routes])])], vec![Arc::clone(&cluster)]);
    let mut explainer = explainer();
    let answers = (0..sessions).map(|session| {
        let line = format!(r#"{{"url":"http://a/","headers":[["cookie","hashbasedcookie={session}"]]}}"#);
        let ExplainAnswer::Decision(decision) = explainer.explain(&serde_json::from_str(&line).unwrap(), &snapshot) else {
            panic!("{line}")
        };
        let hash = crate::lb::xxh64(session.to_string().as_bytes(), 0);
        let mut failed = vec![cluster.balancer.choose_by_hash(hash, 0).unwrap().host];
        while failed.len() <= decision.next.len() {
            let next = cluster.without(&failed).unwrap().host(hash).unwrap();
            failed.push(next);
        }
        let hosts = failed[1..].iter().map(|host| cluster.hosts[*host as usize].text.to_string()).collect();
        (*decision, hosts)
    });
    answers.collect()
}

#[test]
fn next_under_maglev_are_the_hosts_of_the_tables_without_those_that_failed() {
    let small = crate::lb::Policy::Maglev(crate::lb::MaglevConfig { table_size: 211 });
    for (pods, told) in [(1, 0), (2, 1), (3, 2), (5, 4), (9, 2), (40, 1), (200, 1)] {
        let pods: Vec<String> = (0..pods).map(|pod| format!("10.0.0.{pod}:80")).collect();
        for (decision, next) in next_of_sessions(&pods, small.clone(), 60) {
            assert_eq!(decision.next.len(), told, "{} pods", pods.len());
            assert_eq!(decision.next, next);
        }
    }
}

/// A port of each protocol with that number, to the guide's pods by the client's address.
fn streams() -> Snapshot {
    let by_source = || HashPolicy { source: HashSource::SourceIp, terminal: false };
    let pods = ["10.244.0.3:53", "10.244.0.4:53", "10.244.0.5:53"];
    let routes = |name| fixture::routes(name, vec![("/", fixture::rule(0, fixture::to_cluster(0), vec![by_source()]))]);
    let on = |port, name, protocol| Bind { protocol, ..fixture::bind(port, "streams", vec![(name, vec![routes(name)])]) };
    let tls = BindProtocol::Tls(Arc::default());
    let binds =
        vec![on(53, "", BindProtocol::Udp), on(53, "", BindProtocol::Tcp), on(443, "a.example", tls), on(80, "", BindProtocol::Http)];
    fixture::snapshot(binds, vec![fixture::cluster(0, "dns", &pods, fixture::maglev())])
}

#[test]
fn connections_and_flows_are_explained_by_the_plan_that_the_proxy_makes() {
    let snapshot = streams();
    for number in 0..50_u8 {
        let source = SocketAddr::from(([10, 0, 0, number], 4000));
        for (bind, url, server_name) in [
            (BindAddress::udp(([0, 0, 0, 0], 53).into()), "udp://any:53", None),
            (BindAddress::tcp(([0, 0, 0, 0], 53).into()), "tcp://any:53", None),
            (BindAddress::tcp(([0, 0, 0, 0], 443).into()), "tls://a.example", Some("a.example")),
        ] {
            let told = decision(&snapshot, &format!(r#"{{"url":"{url}","source":"{source}"}}"#));
            let bind = &snapshot.binds[&bind];
            let connection = StreamConnection { bind, remote: source, local: bind.address, server_name, is_terminated: false };
            let plan = crate::plan::plan_stream(&connection, &snapshot, &mut Chooser::new(fastrand::Rng::new())).unwrap();
            let host = plan.forward.first_host().map(|host| host.text.to_string());
            assert_eq!((told.host, told.status, told.next.len()), (host, None, 2), "{url} {source}");
            assert_eq!((told.policies[0].policy.as_str(), told.table.unwrap().kind.as_ref()), ("sourceIp", "maglev"));
        }
    }
}

#[test]
fn what_is_no_port_for_connections_is_said() {
    let snapshot = streams();
    for (url, expected) in [
        ("tls://b.example:443", "no listener of the port takes the hostname"),
        (
            "udp://any:54",
            "no listener on port 54/UDP; there are 443 of gloo-system/streams, 53 of gloo-system/streams, 53/UDP of gloo-system/streams, 80 of gloo-system/streams",
        ),
        ("tcp://any:80", "requests are served on port 80: ask with http:// or https://"),
    ] {
        let told = decision(&snapshot, &format!(r#"{{"url":"{url}"}}"#));
        assert_eq!((told.reason.as_str(), told.status, told.host), (expected, None, None), "{url}");
    }
    let no_port = ask(&snapshot, r#"{"url":"udp://any"}"#);
    assert!(no_port.contains("or tcp://HOST:PORT, udp://HOST:PORT or tls://NAME:PORT, not"), "{no_port}");
}
