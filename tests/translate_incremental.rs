//! Folding single changes gives the same as translating from scratch: snapshot, statuses, notices, names to resolve.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail by panicking")]

#[path = "translate_incremental/objects.rs"]
mod objects;
#[path = "translate_incremental/routes.rs"]
mod routes;

use std::{collections::BTreeMap, sync::Arc};

use clingfish::{
    api::{self, DecodeError, Document, Object},
    base::{AffinityKeys, Kind, Message, ObjectRef},
    snapshot::{BindAddress, BindState, Cluster, ClusterState, GatewayPort, Observed, TableState, TransportPort, dump},
    translate::{
        AssumedClasses, Change, CrossNamespace, HostnameOwnership, Limits, Options, Resources, TableRequest, Translation,
        infrastructure::InfrastructureOptions, translate,
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use objects::{GATEWAY_API_V1, listener, metadata, object, of_kind};

/// A step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Apply(Value),
    Delete(ObjectRef),
    Undecodable(DecodeError),
    Observe(u8),
}

/// A version of the object that cannot be decoded: of a route, a Gateway, a ListenerSet or an option an outline can still be read.
fn undecodable(mut object: Value, generation: i64) -> DecodeError {
    let reference = decode(object.clone()).object_ref();
    object["metadata"]["generation"] = json!(generation);
    let push_rule = |object: &mut Value, rule: Value| {
        let mut rules = object["spec"]["rules"].as_array().cloned().unwrap_or_default();
        rules.push(rule);
        object["spec"]["rules"] = rules.into();
    };
    match reference.kind {
        Kind::HttpRoute => push_rule(&mut object, json!({"matches": [{"method": "FETCH"}]})),
        Kind::GrpcRoute => push_rule(&mut object, json!({"matches": [{"method": {"type": "Glob"}}]})),
        Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute => push_rule(&mut object, json!({"backendRefs": generation})),
        Kind::Gateway => object["spec"]["addresses"] = json!(generation),
        Kind::ListenerSet => object["spec"]["listeners"][0]["port"] = json!("http"),
        Kind::RouteOption => object["spec"]["options"]["lbHash"] = json!(generation),
        Kind::AffinityPolicy => object["spec"]["keys"] = json!(generation),
        Kind::BackendTrafficPolicy => object["spec"]["sessionPersistence"] = json!(generation),
        Kind::BackendTlsPolicy => object["spec"]["validation"]["hostname"] = json!(generation),
        Kind::AffinitySlots
        | Kind::ConfigMap
        | Kind::EndpointSlice
        | Kind::GatewayClass
        | Kind::GatewayParameters
        | Kind::HttpListenerOption
        | Kind::ListenerOption
        | Kind::Namespace
        | Kind::ReferenceGrant
        | Kind::Secret
        | Kind::Service
        | Kind::Upstream
        | Kind::VirtualHostOption => {
            let message = "expected something else".into();
            return DecodeError {
                object: Some(reference),
                generation: Some(generation),
                uid: None,
                field: "spec".into(),
                message,
                outline: None,
            };
        }
    }
    let error = api::decode(object).unwrap_err();
    assert!(error.outline.is_some(), "{error}");
    error
}

fn step() -> impl Strategy<Value = Step> {
    let reference = |object: &Value| decode(object.clone()).object_ref();
    prop_oneof![
        12 => object().prop_map(Step::Apply),
        4 => object()
            .prop_filter("the last good certificate", |object| object["kind"] != "Secret")
            .prop_map(move |object| Step::Delete(reference(&object))),
        1 => (object(), 2..9i64).prop_map(|(object, generation)| Step::Undecodable(undecodable(object, generation))),
        1 => (0..16u8).prop_map(Step::Observe),
    ]
}

/// A start in which much is connected, so that short histories reach far.
fn start() -> Vec<Step> {
    let parents = json!([{"name": "gw", "namespace": "a"}]);
    let backends = json!([{"name": "web", "port": 80}, {"name": "up", "kind": "Upstream", "group": "gloo.solo.io"}]);
    [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "class-1"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata("a", "gw", 1),
            "spec": {"gatewayClassName": "class-1", "listeners": [listener(0), listener(1), listener(2)]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("a", "route-0", 2),
            "spec": {"parentRefs": parents, "rules": [{"backendRefs": backends}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("a", "web", 0), "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": metadata("a", "up", 0),
            "spec": {"kube": {"serviceName": "web", "serviceNamespace": "a", "servicePort": 80}, "loadBalancerConfig": {"maglev": {"x": 1}}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("a", "ca", 0),
            "data": {"ca.crt": include_str!("certificates/ca.crt")}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": metadata("a", "policy-0", 2),
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "web"}], "validation": {"hostname": "a.example",
                "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}}}),
    ]
    .map(Step::Apply)
    .into()
}

fn decode(document: Value) -> Object {
    match api::decode(document.clone()) {
        Ok(Document::Object(object)) => *object,
        other => panic!("{document}: {other:?}"),
    }
}

fn observe(number: u8) -> Observed {
    let mut observed = Observed { ipv6: number & 1 > 0, second: Some(1_000), ..Observed::default() };
    if number & 2 > 0 {
        observed.bound.insert(BindAddress::tcp("127.0.0.1:80".parse().unwrap()), BindState::Bound);
        observed.bound.insert(BindAddress::tcp("127.0.0.1:81".parse().unwrap()), BindState::Failed("in use".into()));
    }
    if number & 3 > 0 {
        let keys = if number & 1 > 0 { "5a" } else { "a5" }.repeat(32);
        observed.affinity_keys = Some(Arc::new(AffinityKeys::parse(&keys).unwrap()));
    }
    if number & 4 > 0 {
        observed.dns.insert("name.example".into(), Arc::new(["10.1.1.1".parse().unwrap()]));
    }
    if number & 8 > 0 {
        for port in [TransportPort::tcp(80), TransportPort::udp(80), TransportPort::tcp(443)] {
            observed.ports.insert(GatewayPort { uid: "uid-a-gw".into(), port }, 10_000 + port.number);
        }
    }
    observed
}

/// Everything that two translations can be compared by.
fn comparable(translation: &Translation) -> (Value, BTreeMap<String, Value>, Vec<&Message>, Vec<String>) {
    let statuses =
        translation.statuses.iter().map(|(object, status)| (object.to_string(), serde_json::to_value(&**status).unwrap())).collect();
    let names = translation.dns_names.iter().map(ToString::to_string);
    let wanted = names.chain(translation.wanted.iter().map(ToString::to_string));
    let infrastructure = format!("{:?}, {} conflicts of hostnames", translation.infrastructure, translation.hostname_conflicts);
    let wanted = wanted.chain([infrastructure]);
    (dump(&translation.snapshot), statuses, translation.notices.iter().collect(), wanted.collect())
}

fn check(options: &Options, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut resources = Resources::default();
    let mut observed = Observed::default();
    let mut folded = translate(&resources, &observed, options, None);
    for step in steps {
        let before = folded.statuses.clone();
        match step {
            Step::Apply(object) => resources.apply(Change::Apply(Box::new(decode(object)))),
            Step::Delete(object) => resources.apply(Change::Delete(object)),
            Step::Undecodable(error) => resources.apply(Change::Undecodable(error)),
            Step::Observe(number) => observed = observe(number),
        }
        folded = translate(&resources, &observed, options, Some(folded));
        resources.clear_changes();
        let scratch = translate(&resources, &observed, options, None);
        prop_assert_eq!(comparable(&folded), comparable(&scratch));
        let touched = before.keys().chain(folded.statuses.keys()).filter(|object| before.get(*object) != folded.statuses.get(*object));
        let mut touched: Vec<_> = touched.cloned().collect();
        touched.sort();
        touched.dedup();
        prop_assert_eq!(&folded.changed_statuses, &touched);
        let again = Arc::clone(&folded.snapshot);
        folded = translate(&resources, &observed, options, Some(folded));
        prop_assert!(Arc::ptr_eq(&again, &folded.snapshot));
        prop_assert!(folded.changed_statuses.is_empty());
    }
    Ok(())
}

/// As `check`, but every hash table is built by somebody else, who takes his time: the table of one step is handed in after a later one.
fn check_slow(options: &Options, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let slow = Options { limits: Limits { table_entries_at_once: 0, ..options.limits }, ..options.clone() };
    let mut resources = Resources::default();
    let mut observed = Observed::default();
    let mut folded = translate(&resources, &observed, &slow, None);
    let mut being_built: Vec<TableRequest> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Apply(object) => resources.apply(Change::Apply(Box::new(decode(object)))),
            Step::Delete(object) => resources.apply(Change::Delete(object)),
            Step::Undecodable(error) => resources.apply(Change::Undecodable(error)),
            Step::Observe(number) => observed = observe(number),
        }
        if number % 2 == 1 {
            being_built.drain(..).for_each(|request| folded.hand_in(request.build()));
        }
        folded = translate(&resources, &observed, &slow, Some(folded));
        resources.clear_changes();
        if being_built.is_empty() {
            being_built = folded.wanted_tables().cloned().collect();
        }
        if number % 3 == 0 {
            continue;
        }
        let scratch = translate(&resources, &observed, &slow, None);
        let (now, then) = (comparable(&folded), comparable(&scratch));
        prop_assert_eq!((&now.1, &now.2, &now.3), (&then.1, &then.2, &then.3), "statuses, notices and names do not wait");
        check_meanwhile(&folded, &scratch)?;
        if number % 5 == 4 {
            folded = with_all_tables(&resources, &observed, &slow, folded)?;
            prop_assert_eq!(comparable(&folded), comparable(&scratch));
        }
    }
    folded = with_all_tables(&resources, &observed, &slow, folded)?;
    let scratch = translate(&resources, &observed, &slow, None);
    prop_assert_eq!(comparable(&folded), comparable(&scratch));
    Ok(())
}

/// A cluster whose table is being built knows its present hosts, or none if it had none, and chooses among them.
fn check_meanwhile(folded: &Translation, scratch: &Translation) -> Result<(), TestCaseError> {
    let wanted: BTreeMap<_, _> = folded.wanted_tables().map(|request| (&request.backend, request)).collect();
    let expected: BTreeMap<_, _> = scratch.snapshot.clusters.iter().flatten().map(|cluster| (&cluster.name, cluster)).collect();
    for cluster in folded.snapshot.clusters.iter().flatten() {
        let (name, state) = (&cluster.name, cluster.table_state);
        prop_assert_eq!(state != TableState::Built, wanted.contains_key(name), "{}: {:?}, {:?}", name, state, cluster.state);
        let addresses = |cluster: &Cluster| cluster.hosts.iter().map(|host| host.address).collect::<Vec<_>>();
        if cluster.table_state == TableState::Awaited {
            prop_assert!(cluster.hosts.is_empty() && cluster.no_hosts.is_some());
        } else {
            // Of one that no route uses any more nothing is expected: it goes when routes that wait are published.
            let expected = expected.get(&cluster.name);
            prop_assert!(expected.is_none_or(|expected| addresses(cluster) == addresses(expected)));
        }
        for hash in [0, 1 << 62, u64::MAX] {
            let choice = cluster.balancer.choose_by_hash(hash, 0);
            // One that is refused answers by itself, and chooses none of its hosts.
            let chooses = cluster.state == ClusterState::Ready && !cluster.hosts.is_empty();
            prop_assert_eq!(choice.is_some(), chooses, "{}: {:?}", name, cluster.state);
            prop_assert!(choice.is_none_or(|choice| (choice.host as usize) < cluster.hosts.len()));
        }
    }
    Ok(())
}

/// Hands in every table that is asked for, and needs one more translation for all of them.
fn with_all_tables(
    resources: &Resources,
    observed: &Observed,
    options: &Options,
    mut folded: Translation,
) -> Result<Translation, TestCaseError> {
    let wanted: Vec<_> = folded.wanted_tables().cloned().collect();
    wanted.into_iter().for_each(|request| folded.hand_in(request.build()));
    let folded = translate(resources, observed, options, Some(folded));
    prop_assert_eq!(folded.wanted_tables().count(), 0);
    Ok(folded)
}

/// So little that objects are in each other's way all the time.
fn narrowed(options: Options) -> Options {
    let limits = Limits { ring_points: 1500, points_of_one_ring: 1040, pattern_price: 700, matches_per_path: 2, ..options.limits };
    Options { limits, hostname_ownership: HostnameOwnership::FirstNamespace, ..options }
}

fn checked(steps: impl IntoIterator<Item = Step>) {
    let options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..Options::validate() };
    check(&options, start().into_iter().chain(steps).collect()).unwrap();
}

/// A ListenerSet of namespace `a`.
fn set_of(gateway: Value) -> Value {
    json!({"apiVersion": GATEWAY_API_V1, "kind": "ListenerSet", "metadata": metadata("a", "set-0", 1),
        "spec": {"parentRef": gateway, "listeners": [listener(0)]}})
}

#[test]
fn nothing_is_said_of_a_set_that_has_gone_to_a_gateway_of_others() {
    let others = json!({"apiVersion": GATEWAY_API_V1, "kind": "Gateway", "metadata": metadata("b", "gw", 1),
        "spec": {"gatewayClassName": "class-0", "listeners": [listener(0)]}});
    let sets = [set_of(json!({"name": "gw"})), set_of(json!({"name": "gw", "namespace": "b"}))];
    checked([others].into_iter().chain(sets).map(Step::Apply));
}

#[test]
fn an_unreadable_version_of_a_set_that_is_not_taken_is_reported() {
    let set = set_of(json!({"name": "gw"}));
    let unreadable = undecodable(set.clone(), 7);
    checked([Step::Apply(set), Step::Undecodable(unreadable)]);
}

/// As in a cluster: Gateways get Services and ports of their own, and versions are kept beyond the process.
fn placed(options: Options) -> Options {
    let infrastructure = InfrastructureOptions { install_namespace: "install".into(), ..InfrastructureOptions::default() };
    Options { shared_ports: false, keeps_last_good: true, infrastructure: Some(Arc::new(infrastructure)), ..options }
}

/// The older route takes the hostname over, and then its matches count against those of its namespace.
#[test]
fn the_matches_of_who_takes_a_hostname_over_count_at_once() {
    let rule = json!({"matches": [{"path": {"value": "/"}}], "backendRefs": []});
    let route = |namespace: &str, name: &str, age: u8, rules: &[Value]| {
        Step::Apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata(namespace, name, age),
            "spec": {"parentRefs": [{"name": "gw", "namespace": "a", "sectionName": "http"}], "rules": rules}}))
    };
    let steps = [route("b", "route-0", 1, &[]), route("a", "route-1", 0, &[rule.clone(), rule])];
    let options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..narrowed(Options::validate()) };
    check(&options, start().into_iter().chain(steps).collect()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn folding_changes_gives_what_translating_from_scratch_gives(
        steps in proptest::collection::vec(step(), 1..40),
        standalone: bool,
        narrow: bool,
        placed: bool,
        slow: bool,
    ) {
        let mut options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..Options::validate() };
        if standalone {
            options = Options { bind: "127.0.0.1".parse().unwrap(), cross_namespace: CrossNamespace::Grant, ..Options::default() };
        }
        if narrow {
            options = narrowed(options);
        }
        if placed {
            options = self::placed(options);
        }
        let check = if slow { check_slow } else { check };
        check(&options, start().into_iter().chain(steps).collect())?;
    }
}

/// A history of a step every four bytes, which choose it; panics where the two differ. `fuzz/` has it as a target.
pub(crate) fn run(data: &[u8]) {
    let step = step();
    let steps = data.chunks(4).take(60).filter_map(|chunk| {
        let mut seed = [0; 32];
        seed[..chunk.len()].copy_from_slice(chunk);
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }, random);
        Some(step.new_tree(&mut runner).ok()?.current())
    });
    let options = Options { any_controller: false, assumed_classes: AssumedClasses::None, ..Options::validate() };
    let steps: Vec<_> = start().into_iter().chain(steps).collect();
    check(&options, steps.clone()).unwrap();
    check_slow(&options, steps).unwrap();
}

#[test]
fn the_histories_of_the_corpus_hold() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/history")).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        run(&std::fs::read(path).unwrap());
    }
}

/// A kind whose generator makes something else would be left out without a word.
#[test]
fn the_generator_of_each_kind_makes_objects_of_it() {
    let mut runner = TestRunner::deterministic();
    for kind in Kind::ALL {
        let (weight, objects) = of_kind(*kind);
        assert!(weight > 0, "{kind}");
        for _ in 0..16 {
            let object = objects.new_tree(&mut runner).unwrap().current();
            assert_eq!(decode(object).object_ref().kind, *kind);
        }
    }
}

/// The share of the whole that a change costs: what is not concerned keeps its `Arc`.
#[test]
fn what_a_change_does_not_concern_is_shared() {
    let options = Options::validate();
    let observed = Observed::default();
    let mut resources = Resources::default();
    for step in start() {
        let Step::Apply(object) = step else { panic!("only objects") };
        resources.apply(Change::Apply(Box::new(decode(object))));
    }
    let first = translate(&resources, &observed, &options, None);
    resources.clear_changes();
    let before = Arc::clone(&first.snapshot);
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"namespace": "a", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}]});
    resources.apply(Change::Apply(Box::new(decode(slice))));
    let second = translate(&resources, &observed, &options, Some(first));
    resources.clear_changes();
    assert!(before.binds.iter().zip(&second.snapshot.binds).all(|((_, old), (_, new))| Arc::ptr_eq(old, new)));
    assert!(!Arc::ptr_eq(&before.clusters, &second.snapshot.clusters));
    let before = Arc::clone(&second.snapshot);
    resources.apply(Change::Delete(ObjectRef::new(Kind::HttpRoute, "a", "route-0")));
    let third = translate(&resources, &observed, &options, Some(second));
    assert!(third.snapshot.clusters.iter().all(Option::is_none));
    assert!(before.clusters.iter().any(Option::is_some));
}
