//! Who gets a copy of a request.

use crate::snapshot::{Backend, ClusterState, Mirror, Rule, Snapshot};

use super::{
    backend::{self, Asked},
    chooser::Chooser,
    decision::ForwardPlan,
};

/// Draws the mirrors of a request that goes to `first`, each by itself. Their hosts are chosen by the same key. A mirror that has no host gets
/// nothing.
pub(super) fn draw(
    rule: &Rule,
    backend: &Backend,
    first: &ForwardPlan,
    asked: &Asked<'_>,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
) -> Vec<ForwardPlan> {
    let mut drawn = Vec::new();
    let filters = [rule.filters.as_deref(), backend.filters.as_deref()];
    for Mirror { cluster, fraction, .. } in filters.into_iter().flatten().flat_map(|filters| &filters.mirrors) {
        if !fraction.takes(chooser.random.u64(..)) {
            continue;
        }
        let cluster = snapshot.cluster(*cluster).filter(|cluster| matches!(cluster.state, ClusterState::Ready));
        let Some(cluster) = cluster else { continue };
        let asked = Asked { protocol: rule.upstream_protocol(cluster), bound: None, ..*asked };
        drawn.extend(backend::choose_alike(cluster, first, &asked, chooser));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::{COOKIE, HOST};

    use super::super::{Chooser, Connection, Outcome, fixture, plan};
    use crate::snapshot::{ClusterId, Filters, Fraction, Mirror};

    fn mirror(cluster: u32, numerator: u32) -> Mirror {
        Mirror { name: Arc::new(fixture::upstream("m")), cluster: ClusterId(cluster), fraction: Fraction { numerator, denominator: 4 } }
    }

    #[test]
    fn each_mirror_is_drawn_by_itself_and_goes_where_the_key_leads() {
        let clusters = vec![
            fixture::cluster(0, "a", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], fixture::ring()),
            fixture::cluster(1, "b", &["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"], fixture::ring()),
            fixture::cluster(2, "c", &[], fixture::ring()),
            fixture::refused(3, "d"),
        ];
        let mirrors = [mirror(1, 4), mirror(1, 1), mirror(2, 4), mirror(3, 4), mirror(9, 4), mirror(0, 0)];
        let filters = Filters { mirrors: mirrors.into(), ..Filters::default() };
        let rule = fixture::with_filters(fixture::rule(0, fixture::to_cluster(0), vec![fixture::cookie_policy()]), filters);
        let snapshot =
            fixture::snapshot(vec![fixture::bind(80, "http", vec![("", vec![fixture::routes("", vec![("/", rule)])])])], clusters);
        let bind = snapshot.binds.values().next().unwrap();
        let connection = Connection { bind, remote: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), tls: None };
        let mut chooser = Chooser::new(fastrand::Rng::with_seed(1));
        let mut second = 0;
        for n in 0..200 {
            let request = http::Request::builder().uri("/").header(HOST, "a");
            let request = if n % 2 == 0 { request.header(COOKIE, format!("hashbasedcookie={n}")) } else { request };
            let planned = plan(&mut request.body(()).unwrap().into_parts().0.into(), &connection, &snapshot, &mut chooser);
            let Outcome::Forward(forward) = &planned.outcome else { panic!("{planned:?}") };
            assert!(forward.hash.is_some());
            assert!((1..=2).contains(&planned.mirrors.len()));
            for mirrored in &planned.mirrors {
                let chosen = snapshot.cluster(ClusterId(1)).unwrap().balancer.choose_by_hash(forward.selection, 0).unwrap();
                assert_eq!((mirrored.cluster.id, mirrored.hash, mirrored.host), (ClusterId(1), forward.hash, chosen.host));
                assert!(mirrored.set_cookie.is_empty());
            }
            second += planned.mirrors.len() - 1;
        }
        assert!((30..=70).contains(&second), "{second} of 200 at a quarter");
    }
}
