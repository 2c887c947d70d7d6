//! The backend of a rule whose AffinityPolicy splits by the key: a user stays with a backend as far as the weights allow.

use crate::base::head::{HeaderMap, request};
use crate::snapshot::{Affinity, Backend, Carrier, Forward, MissingKey, RoutePolicy, Split};

use super::{
    affinity::{self, DrawnBy, Trace},
    backend,
    chooser::Chooser,
    connection::Connection,
    cookie,
    decision::Reply,
};

/// Draws a backend of the rule: the one that the request names, else that of its key, else by weight at random.
pub(super) fn draw<'f>(
    forward: &'f Forward,
    policy: &RoutePolicy,
    parts: &request::Parts,
    connection: &Connection<'_>,
    client: std::net::IpAddr,
    chooser: &mut Chooser,
    trace: Option<&mut Trace>,
) -> Result<(usize, &'f Backend), Reply> {
    let found = match &policy.affinity {
        Some(affinity) => by_session(forward, affinity, policy, parts, connection, client),
        None => None,
    };
    let Some((index, drawn_by)) = found else { return backend::draw(forward, chooser) };
    if let Some(trace) = trace {
        trace.drawn_by = drawn_by;
    }
    match forward.backends.get(index) {
        Some(backend) => Ok((index, backend)),
        None => backend::draw(forward, chooser),
    }
}

fn by_session(
    forward: &Forward,
    affinity: &Affinity,
    policy: &RoutePolicy,
    parts: &request::Parts,
    connection: &Connection<'_>,
    client: std::net::IpAddr,
) -> Option<(usize, DrawnBy)> {
    let (Split::Hash { named_by }, Some(split)) = (&affinity.split, &forward.hash_split) else { return None };
    let named = named_by.as_ref().and_then(|carrier| named(&forward.backends, carrier, &parts.headers));
    if let Some(index) = named {
        return Some((index, DrawnBy::Name));
    }
    let key = affinity::evaluate(&policy.hash, parts, client, connection.remote, connection.local, None);
    let of_connection = || match affinity.missing {
        MissingKey::Connection => Some(affinity::connection_hash(connection.remote, connection.local)),
        // Who is rejected has no backend that matters.
        MissingKey::Random | MissingKey::Reject => None,
    };
    Some((split.pick(key.hash.or_else(of_connection)?)?, DrawnBy::Key))
}

/// The backend whose name a request carries: of two backends of one name the first. It may have weight 0.
fn named(backends: &[Backend], carrier: &Carrier, headers: &HeaderMap) -> Option<usize> {
    let value = match carrier {
        Carrier::Cookie(name) => cookie::value(headers, name)?,
        Carrier::Header(name) => headers.get(name)?.as_bytes(),
    };
    backends.iter().position(|backend| backend.name.name.name.as_bytes() == value)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;
    use crate::base::ObjectName;
    use crate::lb::{HashSplit, MaglevConfig, Policy, WeightedSplit};
    use crate::plan::{Outcome, Plan, fixture, plan};
    use crate::snapshot::{Action, ClusterId, HashPolicy, HashSource, Rule, Snapshot, Target};

    const NAMES: [&str; 2] = ["stable", "canary"];

    /// Two backends of these weights, split by the header x-user.
    fn snapshot(weights: [u32; 2], missing: MissingKey) -> Snapshot {
        let backend = |index: usize, name: &&str| Backend {
            name: Arc::new(fixture::upstream(name)),
            target: Target::Cluster(ClusterId(index as u32)),
            filters: None,
        };
        let backends: Arc<[Backend]> = NAMES.iter().enumerate().map(|(index, name)| backend(index, name)).collect();
        let named: Vec<_> = backends.iter().zip(weights).map(|(backend, weight)| (backend.name.to_string(), weight)).collect();
        let forward = Forward { split: WeightedSplit::new(&weights), hash_split: Some(HashSplit::new(&named)), backends };
        let key = HashPolicy { source: HashSource::Header(HeaderName::from_static("x-user")), terminal: false };
        let rule = fixture::rule(0, Action::Forward(forward), vec![key]);
        let affinity = Affinity {
            policy: ObjectName::new("shop", "cart"),
            keys: None,
            missing,
            hold: None,
            ends_moved: None,
            split: Split::Hash { named_by: Some(Carrier::Header(HeaderName::from_static("x-version"))) },
        };
        let rule = Rule { policy: Arc::new(RoutePolicy { affinity: Some(Arc::new(affinity)), ..(*rule.policy).clone() }), ..rule };
        let small = Policy::Maglev(MaglevConfig { table_size: 251 });
        let clusters = (0..).zip(NAMES).map(|(id, name)| fixture::cluster(id, name, &["10.0.0.1:80", "10.0.0.2:80"], small.clone()));
        fixture::snapshot(vec![fixture::bind(8080, "http", vec![("", vec![fixture::routes("", vec![("/", rule)])])])], clusters.collect())
    }

    fn planned(snapshot: &Snapshot, headers: &[(&str, &str)], port: u16, chooser: &mut Chooser) -> Plan {
        let request = headers.iter().fold(http::Request::builder().uri("/"), |builder, (name, value)| builder.header(*name, *value));
        let mut parts = request::Parts::from(request.header("host", "shop.example").body(()).unwrap().into_parts().0);
        let bind = snapshot.binds.values().next().unwrap();
        let connection = Connection { bind, remote: ([10, 1, 1, 1], port).into(), local: ([10, 1, 1, 2], 80).into(), tls: None };
        plan(&mut parts, &connection, snapshot, chooser)
    }

    fn chooser(seed: u64) -> Chooser {
        Chooser::new(fastrand::Rng::with_seed(seed))
    }

    /// The backend of a user, by its index.
    fn of_user(snapshot: &Snapshot, user: &str, seed: u64) -> usize {
        planned(snapshot, &[("x-user", user)], 1, &mut chooser(seed)).backend.unwrap()
    }

    #[test]
    fn a_user_stays_with_a_backend_and_a_tester_chooses() {
        let snapshot = snapshot([95, 5], MissingKey::Random);
        let mut counts = HashMap::new();
        for user in 0..2_000 {
            let user = format!("user-{user}");
            let backend = of_user(&snapshot, &user, 1);
            assert!((2..6).all(|seed| of_user(&snapshot, &user, seed) == backend), "chance has no say");
            *counts.entry(backend).or_insert(0) += 1;
            for (index, name) in NAMES.iter().enumerate() {
                let plan = planned(&snapshot, &[("x-user", &user), ("x-version", name)], 1, &mut chooser(1));
                assert_eq!(plan.backend, Some(index));
            }
            let plan = planned(&snapshot, &[("x-user", &user), ("x-version", "nobody")], 1, &mut chooser(1));
            assert_eq!(plan.backend, Some(backend), "a name that there is not names nobody");
        }
        assert!((60..140).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn without_a_key_the_policy_says_who_draws() {
        let backends = |snapshot: &Snapshot, port| {
            let mut chooser = chooser(3);
            (0..200).map(|_| planned(snapshot, &[], port, &mut chooser).backend.unwrap()).collect::<std::collections::BTreeSet<_>>()
        };
        let random = snapshot([50, 50], MissingKey::Random);
        assert_eq!(backends(&random, 1).len(), 2, "the weights, at random");
        let by_connection = snapshot([50, 50], MissingKey::Connection);
        let of_connections: Vec<_> = (1..40).map(|port| backends(&by_connection, port)).collect();
        assert!(of_connections.iter().all(|backends| backends.len() == 1), "a connection stays with a backend");
        assert!(of_connections.iter().any(|backends| *backends != of_connections[0]), "another one may have another");
        let rejected = planned(&snapshot([50, 50], MissingKey::Reject), &[], 1, &mut chooser(1));
        assert!(matches!(rejected.outcome, Outcome::Reply(reply) if reply.status == 400));
    }

    #[test]
    fn a_tester_reaches_a_backend_of_weight_0() {
        let plan = planned(&snapshot([1, 0], MissingKey::Random), &[("x-version", "canary")], 1, &mut chooser(1));
        assert_eq!(plan.backend, Some(1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// 1 -> 5 -> 25 -> 100 -> 1: forth at most once, and back exactly.
        #[test]
        fn a_canary_moves_each_user_at_most_once_and_back_exactly(users in prop::collection::vec("[a-z0-9]{1,12}", 1..40)) {
            let steps: Vec<_> = [1, 5, 25, 100].map(|canary| snapshot([100 - canary, canary], MissingKey::Random)).into();
            let back = snapshot([99, 1], MissingKey::Random);
            for user in &users {
                let backends: Vec<_> = steps.iter().map(|step| of_user(step, user, 1)).collect();
                prop_assert!(backends.is_sorted(), "{user} {backends:?}");
                prop_assert_eq!(backends[3], 1);
                prop_assert_eq!(of_user(&back, user, 9), backends[0]);
            }
        }
    }
}
