use std::future::poll_fn;

use crate::{
    base::{Kind, ObjectName},
    lb::BalancerConfig,
    snapshot::{BackendName, CircuitBreakers, ClusterId, ClusterState, ConnectionOptions, TableState},
};

use super::*;

fn cluster(circuit_breakers: CircuitBreakers) -> Cluster {
    Cluster {
        id: ClusterId(0),
        name: BackendName {
            kind: Kind::Upstream,
            name: ObjectName::new("test", "upstream"),
            port: None,
            policy: None,
            is_persistent: false,
        },
        state: ClusterState::Ready,
        no_hosts: None,
        hosts: Box::default(),
        vacant: Box::default(),
        balancer: Arc::default(),
        balancer_config: BalancerConfig::default(),
        held: None,
        affinity: None,
        table_state: TableState::Built,
        connection: ConnectionOptions::default(),
        close_connections_on_host_set_change: false,
        circuit_breakers,
        live: Arc::default(),
    }
}

fn connections(most: u32) -> Cluster {
    cluster(CircuitBreakers { max_connections: Some(most), ..CircuitBreakers::default() })
}

fn host(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 80))
}

fn share(cluster: &Cluster) -> Rc<Share> {
    Rc::new(Share::new(Arc::clone(&cluster.live)))
}

/// Whether the wait is over.
fn is_called(wait: &mut ConnectionWait) -> bool {
    let mut wait = Pin::new(wait);
    let mut context = Context::from_waker(Waker::noop());
    std::pin::pin!(poll_fn(|cx| wait.as_mut().poll(cx))).as_mut().poll(&mut context).is_ready()
}

#[test]
fn what_is_counted_ends_with_its_guard() {
    let defaults = BackendLimits::default();
    let limit = cluster(CircuitBreakers { max_pending_requests: Some(1), max_requests: Some(2), ..CircuitBreakers::default() });
    let (one, other) = (share(&limit), share(&limit));
    let ceilings = Ceilings::new(&limit, &defaults);
    let first = one.count(CountedKind::Request, ceilings);
    let second = other.count(CountedKind::Request, ceilings);
    assert!(first.is_some() && second.is_some());
    assert!(one.count(CountedKind::Request, ceilings).is_none(), "the workers count together");
    assert!(one.count(CountedKind::Pending, ceilings).is_some(), "another limit");
    drop(second);
    assert!(one.count(CountedKind::Request, ceilings).is_some());
    drop(first);
    assert_eq!([&limit.live.requests, &limit.live.pending].map(|count| count.load(Relaxed)), [0, 0]);
}

#[test]
fn a_retry_budget_is_a_share_of_what_is_active_and_at_least_a_few() {
    for (percent, at_least, requests, pending, expected) in [
        (20, 3, 0, 0, 3),
        (20, 3, 15, 4, 3),
        (20, 3, 15, 5, 4),
        (20, 3, 1000, 0, 200),
        (0, 0, 1000, 0, 0),
        (100, 3, u32::MAX, u32::MAX, u32::MAX),
    ] {
        assert_eq!(budget(percent, at_least, requests, pending), expected, "{percent} {at_least} {requests} {pending}");
    }
    let defaults = BackendLimits { retry_budget_percent: 50, min_retry_concurrency: 0, ..BackendLimits::default() };
    let given = cluster(CircuitBreakers { max_retries: Some(1), ..CircuitBreakers::default() });
    let by_budget = cluster(CircuitBreakers::default());
    for (limit, requests, allowed) in [(&given, 0, true), (&by_budget, 1, false), (&by_budget, 2, true)] {
        limit.live.requests.store(requests, Relaxed);
        assert_eq!(share(limit).count(CountedKind::Retry, Ceilings::new(limit, &defaults)).is_some(), allowed, "{requests}");
    }
}

#[test]
fn a_worker_always_has_one_connection_to_a_host() {
    let (limit, defaults) = (connections(1), BackendLimits::default());
    let ceilings = Ceilings::new(&limit, &defaults);
    let (one, other) = (share(&limit), share(&limit));
    let first = one.open(host(1), ceilings, false);
    assert!(first.is_some() && one.open(host(1), ceilings, false).is_none());
    let beyond = [one.open(host(2), ceilings, false), other.open(host(1), ceilings, false)];
    assert!(beyond.iter().all(Option::is_some));
    assert_eq!(limit.live.connections.load(Relaxed), 3);
    drop((first, beyond));
    assert_eq!(limit.live.connections.load(Relaxed), 0);
    assert!(one.open.borrow().is_empty());
}

#[test]
fn who_waits_for_a_host_is_called_in_turn_when_its_connection_is_idle_or_gone() {
    let (limit, defaults) = (connections(1), BackendLimits::default());
    let share = share(&limit);
    let ceilings = Ceilings::new(&limit, &defaults);
    let (first, second) = (share.open(host(1), ceilings, false).unwrap(), share.open(host(2), ceilings, false).unwrap());
    let mut turns = [host(1), host(2), host(1)].map(|host| share.wait(host, false));
    assert!(share.is_awaited(host(1)) && !share.is_awaited(host(3)));
    assert_eq!(turns.each_mut().map(is_called), [false; 3]);
    first.is_free();
    assert_eq!(turns.each_mut().map(is_called), [true, false, false]);
    drop(first);
    assert_eq!(turns.each_mut().map(is_called), [true, false, true]);
    drop(second);
    assert_eq!(turns.each_mut().map(is_called), [true; 3]);
    drop(turns);
    assert!(share.queue.borrow().is_empty());
}

#[test]
fn a_turn_that_is_given_up_when_it_was_called_goes_to_the_next() {
    let (limit, defaults) = (connections(1), BackendLimits::default());
    let share = share(&limit);
    let open = share.open(host(1), Ceilings::new(&limit, &defaults), false).unwrap();
    let (mut first, mut second) = (share.wait(host(1), false), share.wait(host(1), false));
    assert!(!is_called(&mut first) && !is_called(&mut second));
    open.is_free();
    drop(first);
    assert!(is_called(&mut second));
    let mut head = share.wait(host(1), true);
    open.is_free();
    assert!(is_called(&mut head), "who was called in vain waits at the head");
}

#[test]
fn newcomers_leave_what_is_free_to_those_who_wait_and_the_tick_calls_them() {
    let (limit, defaults) = (connections(2), BackendLimits::default());
    let (share, other_worker) = (share(&limit), share(&limit));
    let ceilings = Ceilings::new(&limit, &defaults);
    let _mine = share.open(host(1), ceilings, false).unwrap();
    let theirs = other_worker.open(host(1), ceilings, false).unwrap();
    let mut wait = share.wait(host(1), false);
    share.look(ceilings);
    assert!(!is_called(&mut wait), "nothing is free");
    drop(theirs);
    assert!(share.open(host(1), ceilings, false).is_none(), "a newcomer");
    share.look(ceilings);
    assert!(is_called(&mut wait));
    assert!(share.open(host(1), ceilings, true).is_some());
}

#[test]
fn the_tick_calls_whoever_has_no_connection_to_wait_for() {
    let (limit, defaults) = (connections(0), BackendLimits::default());
    let share = share(&limit);
    let mut wait = share.wait(host(1), false);
    share.look(Ceilings::new(&limit, &defaults));
    assert!(is_called(&mut wait));
}
