//! The answers of `/livez`, `/readyz` and `/servingz`.

use std::time::Duration;

use http::StatusCode;

use crate::base::ReadinessState;
use crate::telemetry::Metrics;

/// A worker whose loop did not turn for this long is dead.
pub(super) const WORKER_DEAD_AFTER: Duration = Duration::from_secs(10);

/// Alive while every worker's loop turns; nothing else counts.
pub(super) fn livez(dead: &[usize]) -> (StatusCode, String) {
    if dead.is_empty() { (StatusCode::OK, "ok\n".into()) } else { (StatusCode::SERVICE_UNAVAILABLE, dead_text(dead)) }
}

/// Ready once all guards are gone; then only draining and dead workers end it.
pub(super) fn readyz(state: &ReadinessState, dead: &[usize]) -> (StatusCode, String) {
    match state {
        ReadinessState::Waiting(waiting) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", waiting.join(", "))),
        ReadinessState::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n".into()),
        ReadinessState::Ready => livez(dead),
    }
}

/// Serving from when it is ready for as long as the process lives: while it drains too. Kubernetes sends new connections to a pod that ends only
/// if there is no other one and its readiness probe still succeeds.
pub(super) fn servingz(state: &ReadinessState, dead: &[usize]) -> (StatusCode, String) {
    match state {
        ReadinessState::Waiting(_) => readyz(state, dead),
        ReadinessState::Ready | ReadinessState::Draining => livez(dead),
    }
}

/// Indexes of the workers whose loop does not turn.
pub(super) fn dead_workers(metrics: &Metrics) -> Vec<usize> {
    let workers = metrics.workers().iter().enumerate();
    workers.filter(|(_, worker)| worker.heartbeat.age() > WORKER_DEAD_AFTER).map(|(index, _)| index).collect()
}

fn dead_text(dead: &[usize]) -> String {
    let names: Vec<String> = dead.iter().map(ToString::to_string).collect();
    format!("worker {} does not respond\n", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let (ok, unavailable) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
        for (state, dead, live, ready, serving) in [
            (ReadinessState::Ready, vec![], ok, ok, ok),
            (ReadinessState::Ready, vec![1], unavailable, unavailable, unavailable),
            (ReadinessState::Waiting(vec!["the first snapshot"]), vec![], ok, unavailable, unavailable),
            (ReadinessState::Draining, vec![], ok, unavailable, ok),
            (ReadinessState::Draining, vec![0], unavailable, unavailable, unavailable),
        ] {
            assert_eq!(livez(&dead).0, live, "{state:?} {dead:?}");
            assert_eq!(readyz(&state, &dead).0, ready, "{state:?} {dead:?}");
            assert_eq!(servingz(&state, &dead).0, serving, "{state:?} {dead:?}");
        }
        assert_eq!(readyz(&ReadinessState::Waiting(vec!["a", "b"]), &[]).1, "waiting for a, b\n");
        assert_eq!(livez(&[0, 2]).1, "worker 0, 2 does not respond\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_dead_when_its_heart_stops() {
        let metrics = Metrics::new(2);
        tokio::time::advance(WORKER_DEAD_AFTER + Duration::from_secs(1)).await;
        metrics.worker(0).unwrap().heartbeat.beat();
        assert_eq!(dead_workers(&metrics), [1]);
    }
}
