use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderName, StatusCode};
use proptest::prelude::*;

use crate::base::head::response;
use crate::base::{AffinityKeys, ObjectName};
use crate::lb::host_key;
use crate::plan::{Answered, Chooser, ForwardPlan, KeySource, Outcome, Plan, Rebind, finish_response, fixture, plan};
use crate::snapshot::{
    ClusterId, CookiePath, CookiePolicy, Filters, HashPolicy, HashSource, HeldHosts, Host, MissingKey, PodRef, Rule, Split, TagCarrier,
};

use super::*;

fn keys() -> AffinityKeys {
    AffinityKeys::parse(&"5a".repeat(32)).unwrap()
}

fn cookie(name: &str) -> CookiePolicy {
    CookiePolicy { name: name.into(), ttl_seconds: Some(0), set_cookie_suffix: "; Path=/".into(), secure_over_https: true }
}

fn key_cookie() -> TagCarrier {
    TagCarrier::KeyCookie(cookie("sid"))
}

fn affinity_of(carrier: TagCarrier) -> Arc<Affinity> {
    let policy = ObjectName::new("ns", "policy");
    Arc::new(Affinity {
        policy,
        keys: None,
        missing: MissingKey::Random,
        split: Split::Random,
        hold: Some(Hold { carrier, persistence: None }),
        ends_moved: None,
    })
}

fn address(pod: u8) -> String {
    host_key(([10, 0, 0, pod], 80).into())
}

/// A cluster that holds sessions on pods, of which some only serve the sessions that they have.
fn cluster(id: u32, serving: &[u8], draining: &[u8], carrier: TagCarrier, before: Option<&Arc<Cluster>>) -> Arc<Cluster> {
    let addresses: Vec<String> = serving.iter().map(|pod| address(*pod)).collect();
    let bare = fixture::cluster(id, "httpbin", &addresses.iter().map(String::as_str).collect::<Vec<_>>(), fixture::maglev());
    let pods = || serving.iter().chain(draining);
    let host = |pod: &u8| Host {
        address: address(*pod).parse().unwrap(),
        text: address(*pod).into(),
        hash_key: None,
        pod: Some(Arc::new(PodRef { namespace: "ns".into(), name: pod.to_string().into(), uid: format!("uid-{pod}").into() })),
        weight: 1,
        slot: None,
        placed_since: None,
        admits: lb::Admits::All,
        live: None,
    };
    let uids = pods().map(|pod| Cow::Owned(format!("uid-{pod}").into_bytes()));
    let before = before.and_then(|before| before.held.as_deref());
    Arc::new(Cluster {
        hosts: pods().map(host).collect(),
        held: Some(Arc::new(HeldHosts::of_hosts(&Arc::new(keys()), uids, draining.len(), before))),
        affinity: Some(affinity_of(carrier)),
        ..Arc::try_unwrap(bare).unwrap()
    })
}

fn rule(weights: &[u32], hash: Vec<HashPolicy>) -> Rule {
    let targets: Vec<_> = (0..).zip(weights).map(|(id, weight)| (*weight, Target::Cluster(ClusterId(id)))).collect();
    fixture::rule(0, fixture::forward(&targets), hash)
}

fn tagged() -> Vec<HashPolicy> {
    vec![HashPolicy { source: HashSource::TaggedCookie(cookie("sid")), terminal: true }]
}

fn snapshot(rule: Rule, clusters: Vec<Arc<Cluster>>) -> Snapshot {
    fixture::snapshot(vec![fixture::bind(8080, "http", vec![("", vec![fixture::routes("", vec![("/", rule)])])])], clusters)
}

fn one(serving: &[u8], draining: &[u8]) -> Snapshot {
    snapshot(rule(&[1], tagged()), vec![cluster(0, serving, draining, key_cookie(), None)])
}

fn ask(snapshot: &Snapshot, headers: &[(&str, &str)], port: u16) -> Plan {
    let request = headers.iter().fold(http::Request::builder().uri("/").header("host", "a"), |b, (n, v)| b.header(*n, *v));
    let mut parts = request::Parts::from(request.body(()).unwrap().into_parts().0);
    let bind = snapshot.binds.values().next().unwrap();
    let connection = Connection { bind, remote: ([10, 9, 9, 9], port).into(), local: "127.0.0.1:8080".parse().unwrap(), tls: None };
    plan(&mut parts, &connection, snapshot, &mut Chooser::new(fastrand::Rng::with_seed(port.into())))
}

fn forward(plan: &Plan) -> &ForwardPlan {
    match &plan.outcome {
        Outcome::Forward(forward) => forward,
        Outcome::Reply(reply) => panic!("{reply:?}"),
    }
}

fn state(plan: &Plan) -> Option<SessionState> {
    forward(plan).session.as_ref().map(|session| session.state)
}

fn pod(plan: &Plan) -> String {
    forward(plan).first_host().unwrap().pod.as_ref().unwrap().name.to_string()
}

/// The head of an answer of the plan's host, or of another one.
fn answer(snapshot: &Snapshot, plan: &Plan, host: Option<u32>) -> response::Parts {
    let mut head = response::Parts::from(http::Response::builder().status(StatusCode::OK).body(()).unwrap().into_parts().0);
    let by_host = Answered { host: Some(host.unwrap_or_else(|| forward(plan).host)), time: std::time::Duration::ZERO };
    finish_response(&mut head, plan, &snapshot.binds.values().next().unwrap().profile, Some(by_host));
    head
}

/// `name=value` of the one cookie that is set.
fn set_cookie(head: &response::Parts) -> Option<String> {
    let set: Vec<_> = head.headers.get_all(SET_COOKIE).map(|value| value.to_str().unwrap()).collect();
    assert!(set.len() <= 1, "{set:?}");
    set.first().map(|text| text.split(';').next().unwrap().to_owned())
}

fn tag_of(pod: u8) -> String {
    String::from_utf8(keys().tags(format!("uid-{pod}").as_bytes()).0.text().to_vec()).unwrap()
}

#[test]
fn a_new_session_is_hashed_and_its_cookie_carries_key_and_tag() {
    let snapshot = one(&[1, 2, 3], &[]);
    let plan = ask(&snapshot, &[], 1000);
    assert_eq!((state(&plan), forward(&plan).key_source), (Some(SessionState::New), KeySource::GeneratedCookie));
    let made = set_cookie(&answer(&snapshot, &plan, None)).unwrap();
    let tag = tag_of(pod(&plan).parse().unwrap());
    let key = made.strip_prefix("sid=\"").unwrap().strip_suffix(&format!(".{tag}\"")).unwrap();
    assert_eq!(key.len(), 16);
    let again = ask(&snapshot, &[("cookie", &made)], 2000);
    assert_eq!((state(&again), forward(&again).key_source, pod(&again)), (Some(SessionState::Bound), KeySource::Bound, pod(&plan)));
    assert_eq!(forward(&again).hash, Some(lb::xxh64(key.as_bytes(), 0)), "of the key alone");
    assert_eq!(set_cookie(&answer(&snapshot, &again, None)), None, "never renewed");
}

#[test]
fn a_cookie_without_a_tag_stays_good_and_gets_one() {
    let snapshot = one(&[1, 2, 3], &[]);
    let plan = ask(&snapshot, &[("cookie", "sid=298b1ac340fdea97")], 1);
    assert_eq!(forward(&plan).hash, Some(lb::xxh64(b"298b1ac340fdea97", 0)));
    let made = set_cookie(&answer(&snapshot, &plan, None)).unwrap();
    assert!(made.starts_with("sid=\"298b1ac340fdea97."), "{made}");
    let long = format!("sid={}", "x".repeat(MOST_KEY_BYTES + 1));
    let plan = ask(&snapshot, &[("cookie", &long)], 1);
    assert_eq!(set_cookie(&answer(&snapshot, &plan, None)), None);
}

#[test]
fn a_tag_leads_to_its_host_whatever_the_table_says_and_to_one_that_ends() {
    for pod_of_tag in [1, 2, 3, 4] {
        let snapshot = one(&[1, 2, 3], &[4]);
        for key in ["a", "b", "c", "d"] {
            let cookie = format!("sid={key}.{}", tag_of(pod_of_tag));
            assert_eq!(pod(&ask(&snapshot, &[("cookie", &cookie)], 1)), pod_of_tag.to_string());
        }
        for port in 1..200 {
            assert_ne!(pod(&ask(&snapshot, &[], port)), "4", "no new sessions");
        }
    }
}

#[test]
fn when_its_host_is_gone_the_hash_of_the_same_key_decides_and_the_tag_is_renewed() {
    let first = cluster(0, &[1, 2, 3], &[], key_cookie(), None);
    let second = snapshot(rule(&[1], tagged()), vec![cluster(0, &[1, 3], &[], key_cookie(), Some(&first))]);
    let gone = ask(&second, &[("cookie", &format!("sid=key.{}", tag_of(2)))], 1);
    assert_eq!((state(&gone), forward(&gone).key_source), (Some(SessionState::Lost), KeySource::Cookie));
    assert!(!gone.has_unknown_tag());
    assert_eq!(pod(&gone), pod(&ask(&second, &[("cookie", "sid=key")], 2)));
    let renewed = set_cookie(&answer(&second, &gone, None)).unwrap();
    assert_eq!(renewed, format!("sid=\"key.{}\"", tag_of(pod(&gone).parse().unwrap())));
}

#[test]
fn when_its_host_does_not_answer_the_tag_becomes_that_of_the_one_that_does() {
    let snapshot = one(&[1, 2, 3], &[4]);
    let plan = ask(&snapshot, &[("cookie", &format!("sid=key.{}", tag_of(4)))], 1);
    let hosts = forward(&plan).hosts();
    assert_eq!((hosts[0], hosts.len()), (3, 4), "then those of the table");
    assert_eq!(hosts[1], forward(&ask(&snapshot, &[("cookie", "sid=key")], 1)).host);
    let made = set_cookie(&answer(&snapshot, &plan, Some(hosts[1]))).unwrap();
    assert_eq!(made, format!("sid=\"key.{}\"", tag_of(u8::try_from(hosts[1]).unwrap() + 1)));
    let session = forward(&plan).session.as_ref().unwrap();
    assert_eq!([None, Some(3), Some(hosts[1])].map(|host| session.has_left(host)), [false, false, true]);
}

#[test]
fn other_carriers_have_the_tag_alone() {
    let by_address = || vec![HashPolicy { source: HashSource::SourceIp, terminal: true }];
    let own = snapshot(rule(&[1], by_address()), vec![cluster(0, &[1, 2], &[], TagCarrier::Cookie(cookie("pod")), None)]);
    let plan = ask(&own, &[], 1);
    let made = set_cookie(&answer(&own, &plan, None)).unwrap();
    assert_eq!(made, format!("pod=\"{}\"", tag_of(pod(&plan).parse().unwrap())));
    let name = HeaderName::from_static("x-session");
    let header = snapshot(rule(&[1], by_address()), vec![cluster(0, &[1, 2], &[], TagCarrier::Header(name), None)]);
    let head = answer(&header, &ask(&header, &[], 1), None);
    assert_eq!(head.headers.get("x-session").unwrap().to_str().unwrap(), tag_of(pod(&ask(&header, &[], 1)).parse().unwrap()));
    for tag_of_pod in [1, 2] {
        let plan = ask(&header, &[("x-session", &tag_of(tag_of_pod))], 1);
        assert_eq!(pod(&plan), tag_of_pod.to_string());
        assert!(!answer(&header, &plan, None).headers.contains_key("x-session"));
    }
}

#[test]
fn a_bound_session_beats_weights_also_0() {
    let clusters = || vec![cluster(0, &[1, 2], &[], key_cookie(), None), cluster(1, &[5], &[], key_cookie(), None)];
    let weighted = snapshot(rule(&[100, 0], tagged()), clusters());
    let plan = ask(&weighted, &[("cookie", &format!("sid=k.{}", tag_of(5)))], 1);
    assert_eq!((pod(&plan), plan.backend), ("5".to_owned(), Some(1)));
    for port in 1..100 {
        assert_eq!(ask(&weighted, &[], port).backend, Some(0));
    }
}

#[test]
fn without_keys_a_generated_cookie_still_holds_by_its_hash() {
    let bare = cluster(0, &[1, 2], &[], key_cookie(), None);
    let bare = Arc::new(Cluster { held: None, ..Arc::try_unwrap(bare).unwrap() });
    let snapshot = snapshot(rule(&[1], tagged()), vec![bare]);
    let plan = ask(&snapshot, &[], 1);
    let made = set_cookie(&answer(&snapshot, &plan, None)).unwrap();
    assert_eq!(made.len(), "sid=\"\"".len() + 16, "{made}");
    let again = ask(&snapshot, &[("cookie", &made)], 2);
    assert_eq!((pod(&again), set_cookie(&answer(&snapshot, &again, None))), (pod(&plan), None));
}

#[test]
fn a_tag_that_becomes_known_leads_the_plan_to_its_host() {
    let before = one(&[1, 2], &[]);
    let mut plan = ask(&before, &[("cookie", &format!("sid=k.{}", tag_of(7)))], 1);
    assert!(plan.has_unknown_tag());
    let bind = || before.binds.values().next().unwrap();
    assert_eq!(plan.rebind(&before, bind()), Rebind::Unknown);
    let after = one(&[1, 2, 7], &[]);
    assert_eq!(plan.rebind(&after, bind()), Rebind::Bound);
    assert_eq!((pod(&plan), state(&plan), plan.has_unknown_tag()), ("7".to_owned(), Some(SessionState::Bound), false));
    assert_eq!(set_cookie(&answer(&after, &plan, None)), None);
}

#[test]
fn a_tag_of_another_backend_is_not_followed_where_filters_have_changed_the_request() {
    let clusters = |pods: &[u8]| vec![cluster(0, &[1], &[], key_cookie(), None), cluster(1, pods, &[], key_cookie(), None)];
    let mut rule = rule(&[1, 0], tagged());
    let crate::snapshot::Action::Forward(forward) = &mut rule.action else { panic!() };
    Arc::get_mut(&mut forward.backends).unwrap()[0].filters = Some(Box::new(Filters::default()));
    let before = snapshot(rule, clusters(&[2]));
    let mut plan = ask(&before, &[("cookie", &format!("sid=k.{}", tag_of(7)))], 1);
    let after = Snapshot { clusters: clusters(&[2, 7]).into_iter().map(Some).collect(), ..before.clone() };
    assert_eq!(plan.rebind(&after, before.binds.values().next().unwrap()), Rebind::Unknown);
}

/// What becomes of a pod in a random history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodState {
    Absent,
    Serving,
    Draining,
}

fn histories() -> impl Strategy<Value = Vec<[PodState; 8]>> {
    let state = || prop_oneof![1 => Just(PodState::Absent), 2 => Just(PodState::Serving), 1 => Just(PodState::Draining)];
    prop::collection::vec(prop::array::uniform8(state()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_session_moves_only_when_its_pod_is_gone_and_none_begins_on_a_pod_that_ends(history in histories()) {
        let mut sessions: BTreeMap<u16, (String, u8)> = BTreeMap::new();
        let mut before: Option<Arc<Cluster>> = None;
        for states in history {
            let pods = |wanted: PodState| (0u8..).zip(states).filter(move |(_, state)| *state == wanted).map(|(pod, _)| pod).collect::<Vec<_>>();
            let (serving, draining) = (pods(PodState::Serving), pods(PodState::Draining));
            if serving.is_empty() {
                continue;
            }
            let cluster = cluster(0, &serving, &draining, key_cookie(), before.as_ref());
            let snapshot = snapshot(rule(&[1], tagged()), vec![Arc::clone(&cluster)]);
            before = Some(cluster);
            for client in 1..40u16 {
                let known = sessions.get(&client).cloned();
                let headers: Vec<_> = known.iter().map(|(cookie, _)| ("cookie", cookie.as_str())).collect();
                let plan = ask(&snapshot, &headers, client);
                let now: u8 = pod(&plan).parse().unwrap();
                let made = set_cookie(&answer(&snapshot, &plan, None));
                match known {
                    Some((_, pod)) if states[usize::from(pod)] != PodState::Absent => {
                        prop_assert_eq!((now, &made), (pod, &None));
                    }
                    Some(_) | None => {
                        prop_assert!(serving.contains(&now));
                        prop_assert!(made.is_some());
                    }
                }
                if let Some(cookie) = made {
                    sessions.insert(client, (cookie, now));
                }
            }
        }
    }

    #[test]
    fn what_is_made_up_selects_nobody(bits in any::<u64>(), junk in "[ -~]{0,40}") {
        let snapshot = one(&[1, 2, 3], &[4]);
        let plain = pod(&ask(&snapshot, &[("cookie", "sid=key")], 1));
        let forged = ask(&snapshot, &[("cookie", &format!("sid=key.{bits:016x}"))], 1);
        prop_assert_eq!((pod(&forged), state(&forged)), (plain, Some(SessionState::Unknown)));
        let junk = ask(&snapshot, &[("cookie", &format!("sid={junk}"))], 1);
        prop_assert!(state(&junk) != Some(SessionState::Bound) && pod(&junk) != "4");
    }
}

#[test]
fn explain_says_that_a_session_is_bound_by_its_tag_or_why_it_is_not() {
    let first = cluster(0, &[1, 2, 3, 5], &[], key_cookie(), None);
    let now = snapshot(rule(&[1], tagged()), vec![cluster(0, &[1, 2, 3], &[4], key_cookie(), Some(&first))]);
    for (tag, host, words, is_set) in [
        (tag_of(2), Some(address(2)), "bound to the host by its tag", false),
        (tag_of(4), Some(address(4)), "about to end", false),
        (tag_of(5), None, "the host of its tag is gone", true),
        (tag_of(9), None, "its tag is unknown", true),
    ] {
        let question = format!(
            r#"{{"method":"GET","url":"http://a:8080/","headers":[["cookie","sid=key.{tag}"]],"source":"10.0.0.1:5","local":"10.0.0.2:6"}}"#
        );
        let mut explainer = crate::plan::Explainer::new(fastrand::Rng::with_seed(3), 1 << 24);
        let answer: serde_json::Value = serde_json::from_str(&explainer.explain_line(&question, &now)).unwrap();
        assert!(answer["reason"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(answer["set_cookie"].is_string(), is_set, "{answer}");
        assert_eq!(answer["policies"][0]["value"], "key", "{answer}");
        let by_hash = host.is_none();
        assert!(by_hash || answer["host"].as_str() == host.as_deref(), "{answer}");
        assert_eq!(answer["table"]["entry"].is_number(), by_hash, "{answer}");
    }
}

fn persistent(carrier: TagCarrier, scope: &str) -> Arc<Hold> {
    let persistence = Persistence {
        scope: scope.into(),
        absolute_timeout: None,
        idle_timeout: Some(std::time::Duration::from_secs(3600)),
        is_permanent: false,
        path: CookiePath::OfMatch,
    };
    Arc::new(Hold { carrier, persistence: Some(persistence) })
}

fn persistent_rule(rule: Rule, carrier: TagCarrier, scope: &str) -> Rule {
    Rule { policy: Arc::new(RoutePolicy { persistence: Some(persistent(carrier, scope)), ..(*rule.policy).clone() }), ..rule }
}

/// A cluster of this balancer without a policy, for persistent sessions.
fn bare(id: u32, serving: &[u8], draining: &[u8], policy: lb::Policy) -> Arc<Cluster> {
    let held = Arc::try_unwrap(cluster(id, serving, draining, key_cookie(), None)).unwrap();
    let addresses: Vec<String> = serving.iter().map(|pod| address(*pod)).collect();
    let chosen = fixture::cluster(id, "httpbin", &addresses.iter().map(String::as_str).collect::<Vec<_>>(), policy);
    let chosen = Arc::try_unwrap(chosen).unwrap();
    Arc::new(Cluster { affinity: None, balancer: chosen.balancer, balancer_config: chosen.balancer_config, ..held })
}

#[test]
fn a_persistent_session_needs_no_table_and_stays_on_its_host_to_its_end() {
    for carrier in [TagCarrier::Cookie(cookie("s")), TagCarrier::Header(HeaderName::from_static("x-session"))] {
        let of = |serving: &[u8], draining: &[u8]| {
            let rule = persistent_rule(rule(&[1], vec![]), carrier.clone(), "here");
            snapshot(rule, vec![bare(0, serving, draining, lb::Policy::RoundRobin)])
        };
        let all = of(&[1, 2, 3], &[]);
        let plan = ask(&all, &[], 1);
        assert_eq!(state(&plan), Some(SessionState::New));
        let head = answer(&all, &plan, None);
        let (name, value) = match &carrier {
            TagCarrier::Header(name) => (name.as_str(), head.headers.get(name).unwrap().to_str().unwrap().to_owned()),
            TagCarrier::KeyCookie(_) | TagCarrier::Cookie(_) => ("cookie", set_cookie(&head).unwrap()),
        };
        let ends = pod(&plan).parse::<u8>().unwrap();
        let others: Vec<u8> = [1, 2, 3].into_iter().filter(|pod| *pod != ends).collect();
        for snapshot in [&all, &of(&others, &[ends]), &of(&[], &[ends])] {
            for port in 1..20 {
                let again = ask(snapshot, &[(name, &value)], port);
                assert_eq!((pod(&again), state(&again)), (pod(&plan), Some(SessionState::Bound)));
                let head = answer(snapshot, &again, None);
                assert!(set_cookie(&head).is_none() && !head.headers.contains_key("x-session"), "nothing is due");
            }
        }
        let gone = of(&others, &[]);
        let moved = ask(&gone, &[(name, &value)], 1);
        assert_ne!(pod(&moved), pod(&plan));
        let head = answer(&gone, &moved, None);
        assert!(set_cookie(&head).is_some() || head.headers.contains_key("x-session"), "it is a session with another host now");
    }
}

#[test]
fn persistent_sessions_of_another_rule_and_made_up_ones_do_not_count() {
    let in_scope = |scope: &str| {
        snapshot(
            persistent_rule(rule(&[1], vec![]), TagCarrier::Cookie(cookie("s")), scope),
            vec![bare(0, &[1, 2, 3], &[], lb::Policy::RoundRobin)],
        )
    };
    let (here, there) = (in_scope("here"), in_scope("there"));
    let made = set_cookie(&answer(&here, &ask(&here, &[], 1), None)).unwrap();
    assert_eq!(state(&ask(&here, &[("cookie", &made)], 2)), Some(SessionState::Bound));
    assert_eq!(state(&ask(&there, &[("cookie", &made)], 2)), Some(SessionState::New));
    for forged in [format!("s={}", tag_of(1)), format!("{made}0"), made.replace("s=", "s=0"), "s=".to_owned()] {
        assert_eq!(state(&ask(&here, &[("cookie", &forged)], 2)), Some(SessionState::New), "{forged}");
    }
    let both = format!("s=old; a=b; {made}");
    assert_eq!(state(&ask(&here, &[("cookie", &both)], 2)), Some(SessionState::Bound), "of several cookies the one that counts");
    let many = format!("{}{made}", "s=old; ".repeat(8));
    assert_eq!(state(&ask(&here, &[("cookie", &many)], 2)), Some(SessionState::New), "not all of very many");
}

#[test]
fn a_persistent_session_beats_weights_also_0_and_what_a_policy_holds() {
    let clusters = || vec![cluster(0, &[1, 2], &[], key_cookie(), None), cluster(1, &[5], &[], key_cookie(), None)];
    let of = |weights: &[u32]| snapshot(persistent_rule(rule(weights, tagged()), TagCarrier::Cookie(cookie("s")), "here"), clusters());
    let canary = of(&[0, 100]);
    let made = set_cookie(&answer(&canary, &ask(&canary, &[], 1), None)).unwrap();
    let back = of(&[100, 0]);
    let plan = ask(&back, &[("cookie", &made)], 1);
    assert_eq!((pod(&plan), plan.backend), ("5".to_owned(), Some(1)));
    let held = ask(&back, &[("cookie", &format!("sid=k.{}", tag_of(5)))], 1);
    assert_eq!((state(&held), held.backend), (Some(SessionState::New), Some(0)));
}
