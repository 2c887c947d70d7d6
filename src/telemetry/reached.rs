//! How often each limit was reached, by the counters.

use super::{
    abuse::Http2Abuse,
    cells::Count,
    datagrams::FlowRefusal,
    families,
    limits::Limit,
    metrics::Metrics,
    process::DescriptorUse,
    worker::{ConnectionRefusal, OverflowKind, RequestRefusal, WorkerMetrics},
};

impl Metrics {
    /// Looks which limits were reached since the last time. Somebody must call this every few seconds.
    pub fn note_limits(&self) {
        self.limits.note(reached(self));
    }
}

/// How often each limit was reached.
fn reached(metrics: &Metrics) -> Vec<(Limit, u64)> {
    let total = |count: &dyn Fn(&WorkerMetrics) -> Option<&Count>| -> u64 {
        metrics.workers.iter().filter_map(|worker| count(worker)).map(Count::get).sum()
    };
    let mut all = Vec::new();
    for reason in ConnectionRefusal::ALL {
        let times = total(&|worker| worker.connections_refused.get(reason as usize));
        all.push(((families::CONNECTIONS_REFUSED.name, reason.as_str()), times));
    }
    for reason in RequestRefusal::ALL {
        let times = total(&|worker| worker.requests_refused.get(reason as usize));
        all.push(((families::REQUESTS_REFUSED.name, reason.as_str()), times));
    }
    for reason in FlowRefusal::ALL {
        let times = total(&|worker| worker.datagrams.refused.get(reason as usize));
        all.push(((families::FLOWS_REFUSED.name, reason.as_str()), times));
    }
    for kind in OverflowKind::ALL {
        all.push(((families::UPSTREAM_OVERFLOW.name, kind.as_str()), total(&|worker| worker.overflows.get(kind as usize))));
    }
    for abuse in Http2Abuse::ALL {
        all.push(((families::HTTP2_ABUSE.name, abuse.as_str()), total(&|worker| worker.http2_abuses.get(abuse as usize))));
    }
    for wanted_for in DescriptorUse::ALL {
        all.push(((families::DESCRIPTORS_REFUSED.name, wanted_for.as_str()), metrics.process.refused(wanted_for)));
    }
    all.push(((families::TLS_HANDSHAKES_WAITED.name, ""), total(&|worker| Some(&worker.handshakes_waited))));
    all.push(((families::RETRIES_WITHOUT_BODY.name, ""), total(&|worker| Some(&worker.retries_without_body))));
    all.push(((families::ACCESS_LOG_DROPPED.name, ""), metrics.control.dropped_lines()));
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_as_old_as_its_last_growth() {
        let metrics = Metrics::new(2);
        metrics.note_limits();
        assert_eq!(metrics.limits.ages(), [], "none was reached");
        metrics.workers()[0].overflow(OverflowKind::Pending);
        metrics.note_limits();
        tokio::time::advance(Duration::from_secs(600)).await;
        metrics.workers()[1].overflow(OverflowKind::Retries);
        metrics.note_limits();
        tokio::time::advance(Duration::from_secs(5)).await;
        metrics.note_limits();
        let overflow = families::UPSTREAM_OVERFLOW.name;
        let expected = [((overflow, "pending"), Duration::from_secs(605)), ((overflow, "retries"), Duration::from_secs(5))];
        assert_eq!(metrics.limits.ages(), expected);
        metrics.workers()[1].overflow(OverflowKind::Pending);
        // Whoever scrapes need not wait for the next look.
        let shown = metrics.render();
        let line = |kind: &str, age: u64| format!("clingfish_limit_reached_age_seconds{{limit=\"{overflow}\",kind=\"{kind}\"}} {age}\n");
        assert!(shown.contains(&line("pending", 0)) && shown.contains(&line("retries", 5)), "{shown}");
    }

    #[test]
    fn a_limit_is_found_under_the_names_of_its_counter() {
        for ((counter, kind), _) in reached(&Metrics::new(1)) {
            let family = families::ALL.iter().find(|family| family.name == counter).unwrap();
            assert_eq!(family.labels.len(), usize::from(!kind.is_empty()), "{counter}");
        }
    }
}
