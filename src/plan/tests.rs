use http::{HeaderName, HeaderValue, header::HOST};
use proptest::prelude::*;

use super::*;
use crate::base::head::response;
use crate::snapshot::{ClusterId, Filters, FixedReply, HashPolicy, HashSource, HeaderOps, PathRewrite, Redirect, Rule, Target, UrlRewrite};

fn chooser() -> Chooser {
    Chooser::new(fastrand::Rng::with_seed(7))
}

fn parts(target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let request = headers.iter().fold(http::Request::builder().uri(target), |b, (n, v)| b.header(*n, *v));
    request.body(()).unwrap().into_parts().0.into()
}

fn planned(snapshot: &Snapshot, target: &str, headers: &[(&str, &str)]) -> (Plan, request::Parts) {
    let mut parts = parts(target, headers);
    let bind = snapshot.binds.values().next().unwrap();
    let connection = Connection { bind, remote: "127.0.0.1:50412".parse().unwrap(), local: "127.0.0.1:8080".parse().unwrap(), tls: None };
    let plan = plan(&mut parts, &connection, snapshot, &mut chooser());
    (plan, parts)
}

fn forward(plan: &Plan) -> &ForwardPlan {
    match &plan.outcome {
        Outcome::Forward(forward) => forward,
        Outcome::Reply(reply) => panic!("{reply:?}"),
    }
}

fn reply(plan: &Plan) -> &Reply {
    match &plan.outcome {
        Outcome::Forward(forward) => panic!("{forward:?}"),
        Outcome::Reply(reply) => reply,
    }
}

fn one_rule(rule: Rule) -> Snapshot {
    let pods = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    let clusters =
        vec![fixture::cluster(0, "httpbin", &pods, fixture::ring()), fixture::cluster(1, "plain", &pods, crate::lb::Policy::RoundRobin)];
    fixture::snapshot(vec![fixture::bind(8080, "http", vec![("", vec![fixture::routes("", vec![("/", rule)])])])], clusters)
}

#[test]
fn a_generated_cookie_leads_to_the_host_that_it_comes_back_to() {
    let snapshot = fixture::guide();
    let (first, sent) = planned(&snapshot, "/headers", &[("host", "httpbin.example:8080")]);
    let forward_first = forward(&first);
    assert_eq!((forward_first.key_source, forward_first.set_cookie.len()), (KeySource::GeneratedCookie, 1));
    let set_cookie = forward_first.set_cookie[0].to_str().unwrap();
    assert!(set_cookie.ends_with("\"; Max-Age=60; Path=/; HttpOnly"), "{set_cookie}");
    assert_eq!(sent.headers.get("x-envoy-expected-rq-timeout-ms").unwrap(), "15000");
    let value = set_cookie.split('"').nth(1).unwrap();
    assert_eq!(value.len(), 16);
    for cookie in [format!("hashbasedcookie={value}"), format!("a=b; hashbasedcookie=\"{value}\"")] {
        let (again, _) = planned(&snapshot, "/", &[("host", "HTTPBIN.example"), ("cookie", &cookie)]);
        let again = forward(&again);
        assert_eq!((again.host, again.hash, again.key_source), (forward_first.host, forward_first.hash, KeySource::Cookie));
        assert!(again.set_cookie.is_empty());
    }
}

#[test]
fn without_a_hash_balancer_no_cookie_is_generated_and_requests_take_turns() {
    let snapshot = one_rule(fixture::rule(0, fixture::to_cluster(1), vec![fixture::cookie_policy()]));
    let bind = snapshot.binds.values().next().unwrap();
    let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls: None };
    let mut chooser = chooser();
    let mut counts = [0; 3];
    for _ in 0..30 {
        let plan = plan(&mut parts("/", &[("host", "a")]), &connection, &snapshot, &mut chooser);
        let forward = forward(&plan);
        assert_eq!((forward.key_source, forward.hash, forward.set_cookie.len()), (KeySource::NotHashed, None, 0));
        counts[forward.host as usize] += 1;
    }
    assert_eq!(counts, [10, 10, 10]);
}

#[test]
fn without_a_key_hosts_are_chosen_at_random() {
    let snapshot = one_rule(fixture::rule(0, fixture::to_cluster(0), vec![]));
    let bind = snapshot.binds.values().next().unwrap();
    let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls: None };
    let mut chooser = chooser();
    let mut counts = [0; 3];
    for _ in 0..300 {
        let plan = plan(&mut parts("/", &[("host", "a")]), &connection, &snapshot, &mut chooser);
        assert_eq!((forward(&plan).key_source, forward(&plan).hash), (KeySource::Missing, None));
        counts[forward(&plan).host as usize] += 1;
    }
    assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
}

#[test]
fn the_key_is_read_after_the_rules_filters() {
    let header = |name: &'static str| HashPolicy { source: HashSource::Header(HeaderName::from_static(name)), terminal: false };
    let path = HashPolicy { source: HashSource::PseudoHeader(":path".into()), terminal: false };
    let authority = HashPolicy { source: HashSource::PseudoHeader(":authority".into()), terminal: false };
    let filters = Filters {
        request_headers: [HeaderOps {
            set: [(HeaderName::from_static("x-user"), HeaderValue::from_static("set"))].into(),
            ..HeaderOps::default()
        }]
        .into(),
        rewrite: Some(UrlRewrite { hostname: Some(HeaderValue::from_static("rewritten")), path: Some(PathRewrite::Prefix("/new".into())) }),
        ..Filters::default()
    };
    let rule = fixture::with_filters(fixture::rule(0, fixture::to_cluster(0), vec![header("x-user"), path, authority]), filters);
    let snapshot = one_rule(rule);
    let (plan, sent) = planned(&snapshot, "/p?q=1", &[("host", "a"), ("x-user", "client")]);
    let xx = |text: &str| crate::lb::xxh64(text.as_bytes(), 0);
    let expected = (xx("set").rotate_left(1) ^ xx("/new/p?q=1")).rotate_left(1) ^ xx("rewritten");
    assert_eq!(forward(&plan).hash, Some(expected));
    assert_eq!((sent.uri.to_string().as_str(), sent.headers.get(HOST).unwrap().to_str().unwrap()), ("/new/p?q=1", "rewritten"));
}

#[test]
fn match_hash_and_forward_use_the_one_normalised_path() {
    let pods = ["10.0.0.1:80", "10.0.0.2:80"];
    let path = HashPolicy { source: HashSource::PseudoHeader(":path".into()), terminal: false };
    let rules =
        vec![("/admin", fixture::rule(0, fixture::to_cluster(0), vec![path])), ("/", fixture::rule(1, fixture::to_cluster(0), vec![]))];
    let snapshot = fixture::snapshot(
        vec![fixture::bind(8080, "http", vec![("", vec![fixture::routes("", rules)])])],
        vec![fixture::cluster(0, "httpbin", &pods, fixture::ring())],
    );
    for target in ["/x/../admin?q", "/x/%2e%2E/admin?q", "/./admin?q", "/admin?q"] {
        let (plan, sent) = planned(&snapshot, target, &[("host", "a")]);
        assert_eq!(plan.rule().map(|rule| rule.index), Some(0), "{target}");
        assert_eq!(sent.uri.to_string(), "/admin?q");
        assert_eq!(forward(&plan).hash, Some(crate::lb::xxh64(b"/admin?q", 0)));
    }
}

#[test]
fn the_most_specific_listener_and_hostname_own_the_request() {
    let rule = |index| fixture::rule(index, fixture::to_cluster(0), vec![]);
    let listeners = vec![
        ("", vec![fixture::routes("", vec![("/", rule(0))])]),
        (
            "*.example.com",
            vec![fixture::routes("*.example.com", vec![("/", rule(1))]), fixture::routes("a.example.com", vec![("/only", rule(2))])],
        ),
        ("x.example.com", vec![]),
    ];
    let pods = ["10.0.0.1:80"];
    let snapshot =
        fixture::snapshot(vec![fixture::bind(8080, "http", listeners)], vec![fixture::cluster(0, "httpbin", &pods, fixture::ring())]);
    for (host, path, expected) in [
        ("other.org", "/", Some(0)),
        ("b.example.com", "/", Some(1)),
        ("a.example.com", "/only", Some(2)),
        // Neither the wildcard's routes nor the other listener's.
        ("a.example.com", "/", None),
        ("x.example.com", "/", None),
    ] {
        let (plan, _) = planned(&snapshot, path, &[("host", host)]);
        assert_eq!(plan.rule().map(|rule| rule.index), expected, "{host}{path}");
        if expected.is_none() {
            assert_eq!((reply(&plan).status, &reply(&plan).reason), (StatusCode::NOT_FOUND, &ReplyReason::NoRoute));
        }
    }
}

#[test]
fn answers_of_the_gateways_own_have_their_status() {
    let respond = Action::Respond(FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: "bad regex".into() });
    let rules = vec![
        ("/respond", fixture::rule(0, respond, vec![])),
        ("/invalid", fixture::rule(1, fixture::forward(&[(1, fixture::invalid())]), vec![])),
        ("/drained", fixture::rule(2, fixture::forward(&[(0, Target::Cluster(ClusterId(0)))]), vec![])),
        ("/refused", fixture::rule(3, fixture::to_cluster(1), vec![])),
        ("/empty", fixture::rule(4, fixture::to_cluster(2), vec![fixture::cookie_policy()])),
        ("/hole", fixture::rule(5, fixture::to_cluster(9), vec![])),
    ];
    let clusters = vec![
        fixture::cluster(0, "httpbin", &["10.0.0.1:80"], fixture::ring()),
        fixture::refused(1, "refused"),
        fixture::cluster(2, "empty", &[], fixture::ring()),
    ];
    let bind = fixture::bind(8080, "http", vec![("a", vec![fixture::routes("a", rules)])]);
    let snapshot = fixture::snapshot(vec![bind], clusters);
    for (target, host, status) in [
        ("/respond", "a", 500),
        ("/invalid", "a", 500),
        ("/drained", "a", 500),
        ("/refused", "a", 500),
        ("/empty", "a", 503),
        ("/hole", "a", 500),
        ("/none", "a", 404),
        ("/", "b", 404),
        ("/a\\b", "a", 400),
        ("/", "a b", 400),
    ] {
        let (plan, _) = planned(&snapshot, target, &[("host", host)]);
        assert_eq!(reply(&plan).status.as_u16(), status, "{target} {host}");
        assert!(!reply(&plan).reason.to_string().is_empty());
    }
    assert_eq!(reply(&planned(&snapshot, "/", &[("host", "b")]).0).reason, ReplyReason::NoListener);
}

#[test]
fn only_the_share_of_an_invalid_backend_is_answered_500() {
    let targets = [(3, Target::Cluster(ClusterId(0))), (1, fixture::invalid())];
    let snapshot = one_rule(fixture::rule(0, fixture::forward(&targets), vec![]));
    let bind = snapshot.binds.values().next().unwrap();
    let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls: None };
    let mut chooser = chooser();
    let failed = (0..1000)
        .filter(|_| {
            let plan = plan(&mut parts("/", &[("host", "a")]), &connection, &snapshot, &mut chooser);
            matches!(plan.outcome, Outcome::Reply(_))
        })
        .count();
    assert!((200..300).contains(&failed), "{failed}");
}

#[test]
fn a_redirect_names_the_declared_port() {
    let redirect = Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND };
    let snapshot = one_rule(fixture::rule(0, Action::Redirect(Box::new(redirect)), vec![]));
    let (plan, _) = planned(&snapshot, "/p?q", &[("host", "a.example:9999")]);
    assert_eq!(reply(&plan).location.as_ref().unwrap(), "http://a.example:8080/p?q");
}

#[test]
fn retries_follow_the_hash_sequence_past_the_hosts_tried() {
    let snapshot = fixture::guide();
    let (plan, _) = planned(&snapshot, "/", &[("host", "httpbin.example"), ("cookie", "hashbasedcookie=x")]);
    let forward = forward(&plan);
    let mut tried = vec![forward.host];
    while let Some(next) = forward.next_host(&tried) {
        tried.push(next);
    }
    assert_eq!(tried, forward.hosts().to_vec());
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2]);
}

#[test]
fn a_backend_may_rewrite_what_it_gets_or_redirect_its_share() {
    let mut action = fixture::forward(&[(1, Target::Cluster(ClusterId(0))), (1, Target::Cluster(ClusterId(0)))]);
    let redirect = Redirect {
        scheme: None,
        hostname: Some("b".into()),
        port: Some(80),
        path: Some(PathRewrite::Prefix("/there".into())),
        status: StatusCode::FOUND,
    };
    let rewrite = |to: &str| Some(UrlRewrite { hostname: None, path: Some(PathRewrite::Prefix(to.into())) });
    if let Action::Forward(forward) = &mut action {
        let backends = Arc::get_mut(&mut forward.backends).unwrap();
        backends[0].filters = Some(Box::new(Filters { rewrite: rewrite("/backend"), ..Filters::default() }));
        backends[1].target = Target::Redirect(Box::new(redirect));
    }
    let rule = fixture::with_filters(fixture::rule(0, action, vec![]), Filters { rewrite: rewrite("/rule"), ..Filters::default() });
    let snapshot = one_rule(rule);
    let bind = snapshot.binds.values().next().unwrap();
    let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls: None };
    let mut chooser = chooser();
    let mut redirected = 0;
    for _ in 0..100 {
        let mut parts = parts("/a", &[("host", "a")]);
        match plan(&mut parts, &connection, &snapshot, &mut chooser).outcome {
            Outcome::Forward(_) => assert_eq!(parts.uri.path(), "/backend/a"),
            Outcome::Reply(reply) => {
                assert_eq!((reply.status, reply.location.unwrap()), (StatusCode::FOUND, HeaderValue::from_static("http://b/there/a")));
                redirected += 1;
            }
        }
    }
    assert!((20..=80).contains(&redirected), "{redirected}");
}

#[test]
fn backend_filters_come_after_the_rules() {
    let set = |value: &'static str| Filters {
        request_headers: [HeaderOps {
            add: [(HeaderName::from_static("x-order"), HeaderValue::from_static(value))].into(),
            ..HeaderOps::default()
        }]
        .into(),
        response_headers: [HeaderOps {
            add: [(HeaderName::from_static("x-order"), HeaderValue::from_static(value))].into(),
            ..HeaderOps::default()
        }]
        .into(),
        ..Filters::default()
    };
    let mut action = fixture::to_cluster(0);
    if let Action::Forward(forward) = &mut action {
        Arc::get_mut(&mut forward.backends).unwrap()[0].filters = Some(Box::new(set("backend")));
    }
    let snapshot = one_rule(fixture::with_filters(fixture::rule(0, action, vec![fixture::cookie_policy()]), set("rule")));
    let (plan, sent) = planned(&snapshot, "/", &[("host", "a")]);
    assert_eq!(sent.headers.get_all("x-order").collect::<Vec<_>>(), ["rule", "backend"]);

    let answer = http::Response::builder().header("server", "app").header("set-cookie", "app=1").body(()).unwrap();
    let mut head = response::Parts::from(answer.into_parts().0);
    let profile = &snapshot.binds.values().next().unwrap().profile;
    finish_response(&mut head, &plan, profile, Some(Answered { host: Some(0), time: std::time::Duration::from_micros(4999) }));
    assert_eq!(head.headers.get_all("x-order").collect::<Vec<_>>(), ["backend", "rule"]);
    assert_eq!(
        (head.headers.get("server").unwrap().to_str(), head.headers.get("x-envoy-upstream-service-time").unwrap().to_str()),
        (Ok("envoy"), Ok("4"))
    );
    let cookies: Vec<_> = head.headers.get_all("set-cookie").map(|v| v.to_str().unwrap()).collect();
    assert!(cookies[0] == "app=1" && cookies[1].starts_with("hashbasedcookie=\""), "{cookies:?}");
}

/// Filters that make these changes to response headers, in one filter each.
fn response_filters(changes: &[(&str, &'static str, &'static str)]) -> Filters {
    let ops = |(change, name, value): &(&str, &'static str, &'static str)| {
        let name = HeaderName::from_static(name);
        let header = || [(name.clone(), HeaderValue::from_static(value))].into();
        match *change {
            "set" => HeaderOps { set: header(), ..HeaderOps::default() },
            "add" => HeaderOps { add: header(), ..HeaderOps::default() },
            "remove" => HeaderOps { remove: [name].into(), ..HeaderOps::default() },
            other => panic!("{other}"),
        }
    };
    Filters { response_headers: changes.iter().map(ops).collect(), ..Filters::default() }
}

/// The answer's head, of the host's or of the gateway's own, after the filters of a backend and of its rule.
fn finished(action: Action, host_answers: bool, backend: Filters, rule: Filters) -> response::Parts {
    let mut action = action;
    if let Action::Forward(forward) = &mut action {
        Arc::get_mut(&mut forward.backends).unwrap()[0].filters = Some(Box::new(backend));
    }
    let rule = fixture::with_filters(fixture::rule(0, action, vec![]), rule);
    let pods = ["10.0.0.1:80"];
    let clusters = vec![
        fixture::cluster(0, "httpbin", &pods, fixture::ring()),
        fixture::cluster(1, "empty", &[], fixture::ring()),
        fixture::refused(2, "refused"),
    ];
    let routes = fixture::routes("", vec![("/", rule)]);
    let snapshot = fixture::snapshot(vec![fixture::bind(8080, "http", vec![("", vec![routes])])], clusters);
    let (plan, _) = planned(&snapshot, "/", &[("host", "a")]);
    let answer = http::Response::builder().header("server", "app").header("date", "then").body(()).unwrap();
    let mut head = response::Parts::from(if host_answers { answer } else { http::Response::new(()) }.into_parts().0);
    let by_host = host_answers.then_some(Answered { host: Some(0), time: std::time::Duration::ZERO });
    finish_response(&mut head, &plan, &snapshot.binds.values().next().unwrap().profile, by_host);
    head
}

#[test]
fn response_filters_see_everything_that_a_rule_answers() {
    let redirect = Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND };
    let fixed = FixedReply { status: StatusCode::INTERNAL_SERVER_ERROR, reason: "no backendRefs".into() };
    for (action, host_answers, expected) in [
        (fixture::to_cluster(0), true, vec!["backend", "rule"]),
        // An error of the proxy's: the host cannot be reached, or does not answer in time.
        (fixture::to_cluster(0), false, vec!["backend", "rule"]),
        // No host that may be chosen.
        (fixture::to_cluster(1), false, vec!["backend", "rule"]),
        (fixture::to_cluster(2), false, vec!["backend", "rule"]),
        (fixture::to_cluster(9), false, vec!["backend", "rule"]),
        (fixture::forward(&[(1, fixture::invalid())]), false, vec!["backend", "rule"]),
        // No backend was drawn.
        (fixture::forward(&[(0, fixture::invalid())]), false, vec!["rule"]),
        (Action::Redirect(Box::new(redirect)), false, vec!["rule"]),
        (Action::Respond(fixed), false, vec!["rule"]),
    ] {
        let told = format!("{action:?}");
        let head =
            finished(action, host_answers, response_filters(&[("add", "x-by", "backend")]), response_filters(&[("add", "x-by", "rule")]));
        assert_eq!(head.headers.get_all("x-by").collect::<Vec<_>>(), expected, "{told}");
        assert_eq!(head.headers.get("server").unwrap(), "envoy", "{told}");
    }
}

#[test]
fn server_and_date_obey_the_filters_of_backend_and_rule() {
    let none: &[(&str, &str, &str)] = &[];
    for (name, changes, of_host, of_gateway) in [
        ("server", none, vec!["envoy"], vec!["envoy"]),
        ("server", &[("set", "server", "mine")], vec!["mine"], vec!["mine"]),
        ("server", &[("add", "server", "mine")], vec!["envoy", "mine"], vec!["envoy", "mine"]),
        ("server", &[("remove", "server", "")], vec![], vec![]),
        ("server", &[("remove", "server", ""), ("add", "server", "mine")], vec!["mine"], vec!["mine"]),
        ("date", none, vec!["then"], vec![]),
        ("date", &[("set", "date", "now")], vec!["now"], vec!["now"]),
        ("date", &[("add", "date", "now")], vec!["then", "now"], vec!["now"]),
        ("date", &[("remove", "date", "")], vec![], vec![]),
        ("date", &[("set", "date", "now"), ("remove", "date", "")], vec![], vec![]),
        ("date", &[("remove", "date", ""), ("set", "date", "now")], vec!["now"], vec!["now"]),
    ] {
        let removes_date = changes.iter().any(|(change, name, _)| (*change, *name) == ("remove", "date"));
        for (host_answers, expected) in [(true, of_host), (false, of_gateway)] {
            for on_backend in [true, false] {
                let (one, other) = (response_filters(changes), Filters::default());
                let (backend, rule) = if on_backend { (one, other) } else { (other, one) };
                let head = finished(fixture::to_cluster(0), host_answers, backend, rule);
                let told = format!("{changes:?}, host answers: {host_answers}, on the backend: {on_backend}");
                assert_eq!(head.headers.get_all(name).collect::<Vec<_>>(), expected, "{told}");
                let marked = head.date_removed;
                assert_eq!(marked, removes_date && expected.is_empty(), "{told}");
            }
        }
    }
    let (remove, set) = (response_filters(&[("remove", "date", "")]), response_filters(&[("set", "date", "now")]));
    let head = finished(fixture::to_cluster(0), true, remove.clone(), set.clone());
    assert_eq!((head.headers.get("date").unwrap().to_str(), head.date_removed), (Ok("now"), false), "the rule comes after the backend");
    let head = finished(fixture::to_cluster(0), true, set, remove);
    assert_eq!((head.headers.get("date"), head.date_removed), (None, true));
}

#[test]
fn an_answer_that_no_rule_gave_has_no_filters() {
    let rule = fixture::with_filters(fixture::rule(0, fixture::to_cluster(0), vec![]), response_filters(&[("set", "x-by", "rule")]));
    let snapshot = one_rule(rule);
    let (plan, _) = planned(&snapshot, "/", &[("host", "a b")]);
    assert_eq!(reply(&plan).status, StatusCode::BAD_REQUEST);
    let mut head = response::Parts::from(http::Response::new(()).into_parts().0);
    finish_response(&mut head, &plan, &snapshot.binds.values().next().unwrap().profile, None);
    assert_eq!(head.headers.keys().collect::<Vec<_>>(), [b"server"]);
}

#[test]
fn an_answer_of_the_gateways_own_gets_no_cookie() {
    let snapshot = one_rule(fixture::rule(0, fixture::to_cluster(0), vec![fixture::cookie_policy()]));
    let (plan, _) = planned(&snapshot, "/", &[("host", "a")]);
    let mut head = response::Parts::from(http::Response::new(()).into_parts().0);
    finish_response(&mut head, &plan, &snapshot.binds.values().next().unwrap().profile, None);
    assert_eq!(head.headers.keys().collect::<Vec<_>>(), [b"server"]);
}

proptest! {
    #[test]
    fn nothing_a_client_sends_breaks_the_plan(
        target in prop_oneof!["/[ -~]{0,20}", "[ -~]{0,20}", "(/(\\.|%2e|a)*){0,6}", "http://[a-z@:.]{1,8}[ -~]{0,8}"],
        method in prop::sample::select(vec!["GET", "OPTIONS", "CONNECT", "POST"]),
        host in prop::collection::vec(any::<u8>(), 0..12),
        lines in prop::collection::vec((prop::sample::select(vec!["host", "cookie", "x-forwarded-for", "x-user"]), prop::collection::vec(any::<u8>(), 0..20)), 0..4),
        edge in any::<bool>(),
        hops in 0..3u32,
    ) {
        let Ok(uri) = target.parse::<http::Uri>() else { return Ok(()) };
        let mut parts = request::Parts::from(http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0);
        if let Ok(host) = HeaderValue::from_bytes(&host) {
            parts.headers.append(HOST, host);
        }
        for (name, value) in &lines {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                parts.headers.append(HeaderName::from_static(name), value);
            }
        }
        let policies = vec![
            HashPolicy { source: HashSource::Header(HeaderName::from_static("x-user")), terminal: false },
            HashPolicy { source: HashSource::QueryParameter("a".into()), terminal: false },
            fixture::cookie_policy(),
            HashPolicy { source: HashSource::SourceIp, terminal: false },
        ];
        let mut snapshot = one_rule(fixture::rule(0, fixture::to_cluster(0), policies));
        let profile = fixture::bind_with_profile(edge, hops).profile;
        snapshot.binds = snapshot.binds.into_iter().map(|(address, bind)| (address, Arc::new(Bind { profile: Arc::clone(&profile), ..(*bind).clone() }))).collect();
        let bind = snapshot.binds.values().next().unwrap();
        let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls: None };
        let plan = plan(&mut parts, &connection, &snapshot, &mut chooser());
        if let Outcome::Forward(forward) = &plan.outcome {
            prop_assert!(forward.first_host().is_some());
            prop_assert!(parts.uri.path().starts_with('/') && parts.uri.authority().is_none());
            prop_assert!(parts.uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/')));
            prop_assert_eq!(parts.headers.get_all(HOST).count(), 1);
            prop_assert!(!parts.uri.path().split('/').any(|segment| segment == "." || segment == ".."));
        }
    }
}

fn over_tls(snapshot: &Snapshot, server_name: Option<&str>, host: &str) -> (u16, Option<String>) {
    let bind = snapshot.binds.values().next().unwrap();
    let tls = Some(Tls { server_name });
    let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls };
    let plan = plan(&mut parts("/", &[("host", host)]), &connection, snapshot, &mut chooser());
    let status = match &plan.outcome {
        Outcome::Forward(_) => 200,
        Outcome::Reply(reply) => reply.status.as_u16(),
    };
    (status, plan.listener.map(|listener| listener.name.to_string()))
}

/// The cases of Gateway API's own test of misdirected requests, with and without a listener for the rest.
#[test]
fn a_request_on_a_connection_for_another_listener_is_misdirected() {
    let routes = |hostname: &str| vec![fixture::routes(hostname, vec![("/", fixture::rule(0, fixture::to_cluster(0), vec![]))])];
    let rest = ("", routes("example.org"));
    let named = || {
        vec![
            ("second-example.org", routes("second-example.org")),
            ("*.wildcard.org", routes("*.wildcard.org")),
            ("fourth.wildcard.org", routes("fourth.wildcard.org")),
        ]
    };
    let clusters = || vec![fixture::cluster(0, "up", &["10.0.0.1:80"], fixture::ring())];
    let with_rest = fixture::snapshot(vec![fixture::bind(443, "gw", [vec![rest], named()].concat())], clusters());
    let without = fixture::snapshot(vec![fixture::bind(443, "gw", named())], clusters());
    for (server_name, host, rest, no_rest) in [
        (Some("example.org"), "example.org", 200, 404),
        (Some("example.org"), "second-example.org", 421, 421),
        (Some("example.org"), "unknown.org", 404, 404),
        (None, "example.org", 200, 404),
        (None, "second-example.org", 421, 421),
        (Some("second-example.org"), "Second-Example.org:443", 200, 200),
        (Some("second-example.org"), "example.org", 421, 404),
        (Some("second-example.org"), "unknown.org", 421, 404),
        (Some("third.wildcard.org"), "third.wildcard.org", 200, 200),
        (Some("third.wildcard.org"), "fifth.wildcard.org", 200, 200),
        (Some("third.wildcard.org"), "fourth.wildcard.org", 421, 421),
        (Some("fourth.wildcard.org"), "fourth.wildcard.org", 200, 200),
        (Some("fourth.wildcard.org"), "fifth.wildcard.org", 421, 421),
    ] {
        assert_eq!(over_tls(&with_rest, server_name, host).0, rest, "{server_name:?} {host}");
        assert_eq!(over_tls(&without, server_name, host).0, no_rest, "{server_name:?} {host}, no listener for the rest");
    }
}

#[test]
fn requests_over_tls_say_so_to_the_backend() {
    let snapshot = one_rule(fixture::rule(0, fixture::to_cluster(0), vec![]));
    let bind = snapshot.binds.values().next().unwrap();
    let tls = Some(Tls { server_name: Some("a") });
    let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls };
    let mut parts = parts("/", &[("host", "a")]);
    plan(&mut parts, &connection, &snapshot, &mut chooser());
    assert_eq!(parts.headers.get("x-forwarded-proto").unwrap(), "https");
    assert_eq!(connection.scheme(), "https");
}
