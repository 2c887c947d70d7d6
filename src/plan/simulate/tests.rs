use super::*;
use crate::plan::fixture;

const PODS: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn maglev() -> std::sync::Arc<Cluster> {
    fixture::cluster(0, "httpbin", &PODS, fixture::maglev())
}

fn share(report: &SimulationReport, host: &str) -> (Option<f64>, Option<f64>) {
    report.hosts.iter().find(|share| share.host == host).map(|share| (share.before, share.after)).unwrap()
}

#[test]
fn removing_one_of_four_hosts_moves_its_keys() {
    let change = SimulatedChange { remove: vec![address(PODS[3])], ..SimulatedChange::default() };
    let report = simulate(&maglev(), &change, 20_000).unwrap();
    assert!((0.24..0.28).contains(&report.moved), "{report}");
    assert!(report.moved_needlessly < 0.03, "{report}");
    let (before, after) = share(&report, PODS[3]);
    assert!((0.2..0.3).contains(&before.unwrap()) && after.is_none());
    let sum: f64 = report.hosts.iter().filter_map(|share| share.after).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    assert!(report.notes.is_empty(), "{report}");
}

#[test]
fn scaling_up_invents_addresses_and_says_so() {
    let report = simulate(&maglev(), &SimulatedChange { scale: Some(5), ..SimulatedChange::default() }, 10_000).unwrap();
    assert!((0.18..0.25).contains(&report.moved), "{report}");
    assert_eq!(share(&report, "10.0.0.5:80").0, None);
    assert!(report.notes[0].contains("10.0.0.5:80"), "{report}");
}

#[test]
fn scaling_down_takes_hosts_from_the_end_and_to_nothing_leaves_none() {
    let report = simulate(&maglev(), &SimulatedChange { scale: Some(1), ..SimulatedChange::default() }, 1000).unwrap();
    assert_eq!(share(&report, PODS[0]).1, Some(1.0));
    let none = simulate(&maglev(), &SimulatedChange { scale: Some(0), ..SimulatedChange::default() }, 1000).unwrap();
    assert!((none.moved - 1.0).abs() < 1e-9 && none.notes.iter().any(|note| note.contains("503")), "{none}");
}

#[test]
fn a_weight_gives_its_share_and_is_a_reason_to_move() {
    let change = SimulatedChange { weights: vec![(address(PODS[0]), 3)], ..SimulatedChange::default() };
    let report = simulate(&maglev(), &change, 20_000).unwrap();
    let (before, after) = share(&report, PODS[0]);
    assert!((0.23..0.27).contains(&before.unwrap()) && (0.47..0.53).contains(&after.unwrap()), "{report}");
    assert!(report.moved_needlessly < report.moved / 4.0, "{report}");
}

#[test]
fn adding_what_was_removed_moves_nothing() {
    let change = SimulatedChange { remove: vec![address(PODS[1])], add: vec![address(PODS[1])], ..SimulatedChange::default() };
    let report = simulate(&fixture::cluster(0, "httpbin", &PODS, fixture::ring()), &change, 5000).unwrap();
    assert_eq!((report.moved, report.moved_needlessly), (0.0, 0.0));
}

#[test]
fn what_cannot_be_simulated_is_named() {
    let change = |change: SimulatedChange| simulate(&maglev(), &change, 10).unwrap_err().to_string();
    let base = SimulatedChange::default;
    assert!(change(base()).contains("--scale"));
    assert!(change(SimulatedChange { remove: vec![address("9.9.9.9:1")], ..base() }).contains("expected one of 10.0.0.1:80"));
    assert!(change(SimulatedChange { add: vec![address(PODS[0])], ..base() }).contains("already"));
    assert!(change(SimulatedChange { weights: vec![(address(PODS[0]), 0)], ..base() }).contains("at least 1"));
    assert!(change(SimulatedChange { scale: Some(1 << 40), ..base() }).contains("at most"));
    let scale = SimulatedChange { scale: Some(2), ..base() };
    let plain = fixture::cluster(0, "plain", &PODS, crate::lb::Policy::RoundRobin);
    assert!(matches!(simulate(&plain, &scale, 10), Err(SimulateError::NotHashed { .. })));
    let empty = fixture::cluster(0, "empty", &[], fixture::ring());
    assert!(matches!(simulate(&empty, &scale, 10), Err(SimulateError::NoHosts { .. })));
    assert!(matches!(simulate(&maglev(), &scale, 0), Err(SimulateError::NoKeys)));
}

#[test]
fn the_text_has_a_line_for_every_host() {
    let change = SimulatedChange { scale: Some(5), ..SimulatedChange::default() };
    let text = simulate(&maglev(), &change, 1000).unwrap().to_string();
    assert!(text.starts_with("Upstream gloo-system/httpbin, 1000 keys\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with("10.0.0.")).count(), 5, "{text}");
}

fn pods(count: u8) -> Vec<String> {
    (1..=count).map(|pod| format!("10.0.0.{pod}:80")).collect()
}

fn ten(policy: crate::lb::Policy) -> std::sync::Arc<Cluster> {
    let pods = pods(10);
    fixture::cluster(0, "httpbin", &pods.iter().map(String::as_str).collect::<Vec<_>>(), policy)
}

fn way<'r>(report: &'r RolloutReport, identity: &str, table: &str, hold: &str) -> &'r rollout::RolloutWay {
    report.ways.iter().find(|way| (&*way.identity, &*way.table, &*way.hold) == (identity, table, hold)).unwrap()
}

#[test]
fn a_rollout_moves_each_session_once_with_slots_and_more_often_without() {
    let one = Rollout { max_surge: 1, max_unavailable: 0 };
    let report = simulate_rollout(&ten(fixture::maglev()), one, 5_000).unwrap();
    for table in ["Maglev", "RingHash"] {
        let slot = way(&report, "Slot", table, "None");
        assert!((slot.moves - 1.0).abs() < 1e-9 && slot.needless == 0.0, "{report}");
        for identity in ["Slot", "Address"] {
            assert_eq!(
                way(&report, identity, table, "WhileAlive").needless,
                0.0,
                "a session that is held moves when its pod ends: {report}"
            );
        }
    }
    let (maglev, ring) = (way(&report, "Address", "Maglev", "None"), way(&report, "Address", "RingHash", "None"));
    assert!((1.7..2.3).contains(&maglev.moves) && maglev.needless > 0.3, "{report}");
    assert!((2.5..3.5).contains(&ring.moves), "{report}");
    assert_eq!(report.ways.iter().filter(|way| way.is_configured).count(), 1);
    assert!(maglev.is_configured);
}

#[test]
fn pods_that_leave_before_others_come_cost_sessions_a_second_move() {
    let early = Rollout { max_surge: 0, max_unavailable: 2 };
    let report = simulate_rollout(&ten(fixture::ring()), early, 2_000).unwrap();
    assert!(way(&report, "Slot", "Maglev", "None").moves > 1.5, "{report}");
    assert!(report.notes.iter().any(|note| note.contains("maxUnavailable")));
    assert!(way(&report, "Address", "RingHash", "None").is_configured);
    let nothing = Rollout { max_surge: 0, max_unavailable: 0 };
    assert!(matches!(simulate_rollout(&ten(fixture::ring()), nothing, 10), Err(SimulateError::NothingRolls)));
    let many = simulate_rollout(&ten(fixture::maglev()), Rollout { max_surge: 100, max_unavailable: 100 }, 100).unwrap();
    assert_eq!(many.pods, 10);
}

#[test]
fn a_pod_is_drained_by_its_name_or_address() {
    let cluster = maglev();
    for pod in [PODS[1], "10.0.0.2"] {
        let drain = SimulatedChange { drain: Some(pod.to_owned()), ..SimulatedChange::default() };
        let report = simulate(&cluster, &drain, 5_000).unwrap();
        assert_eq!(share(&report, PODS[1]).1, None);
        assert!(report.notes[0].contains("sessions are not held"), "{report}");
        let removed = SimulatedChange { remove: vec![address(PODS[1])], ..SimulatedChange::default() };
        assert_eq!(report.moved, simulate(&cluster, &removed, 5_000).unwrap().moved);
    }
    let unknown = SimulatedChange { drain: Some("web-0".to_owned()), ..SimulatedChange::default() };
    let error = simulate(&cluster, &unknown, 10).unwrap_err().to_string();
    assert!(error.contains("web-0 is no pod of") && error.contains("10.0.0.1:80"), "{error}");
}

#[test]
fn with_slots_a_pod_that_goes_leaves_its_place_and_one_that_comes_opens_another() {
    let mut cluster = std::sync::Arc::try_unwrap(maglev()).unwrap();
    for (slot, host) in (0..).zip(&mut cluster.hosts) {
        host.slot = Some(slot);
        host.hash_key = Some(slot.to_string().into());
    }
    let hosts: Vec<LbHost> = cluster.table_hosts().collect();
    cluster.balancer = std::sync::Arc::new(Balancer::build(&hosts, &cluster.balancer_config).unwrap());
    let removed = SimulatedChange { remove: vec![address(PODS[0])], ..SimulatedChange::default() };
    let report = simulate(&cluster, &removed, 10_000).unwrap();
    assert_eq!(report.moved_needlessly, 0.0, "{report}");
    assert!(report.notes.is_empty(), "the table is that of the slots: {report}");
    let more = simulate(&cluster, &SimulatedChange { add: vec![address("10.0.0.9:80")], ..SimulatedChange::default() }, 10_000).unwrap();
    assert!((0.15..0.25).contains(&more.moved), "{more}");
}
