//! The merged counters as Prometheus text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    TextEncoder,
    proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType},
};

use crate::base::{MoveCause, open_descriptors, resident_memory};

use super::{
    abuse::{Http2Abuse, ProxyProtocolResult},
    cells::{Count, HistogramTotal},
    cluster::StatusWrite,
    control::{SHARE_BOUNDS, TRANSLATE_BOUNDS},
    datagrams::{DatagramDirection, DatagramMetrics, FlowRefusal},
    families::{self, Family, FamilyKind},
    metrics::Metrics,
    process::{AdminClose, DescriptorUse},
    response_flag::ResponseFlag,
    sessions::{MovedStream, SessionResult},
    traces::SpanResult,
    upstream::{Http2End, MirrorResult, RetryReason},
    worker::{CODES, ConnectResult, ConnectionRefusal, DURATION_BOUNDS, HandshakeResult, OverflowKind, RequestRefusal, WorkerMetrics},
};

impl Metrics {
    /// All families in Prometheus' text format.
    pub fn render(&self) -> String {
        self.note_limits();
        let mut families = process(self);
        families.extend(requests(self));
        families.extend(datagrams(self));
        families.extend(ceilings(self));
        families.extend(upstream(self));
        families.extend(workers(self));
        families.extend(controller(self));
        families.extend(affinity(self));
        families.extend(cluster(self));
        debug_assert_eq!(families.len(), families::ALL.len(), "a family of the table is not rendered");
        // A family without a series yet is refused by the encoder; it appears with its first one.
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

fn process(metrics: &Metrics) -> Vec<MetricFamily> {
    let started = metrics.control.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let refused = DescriptorUse::ALL.map(|wanted_for| ([wanted_for.as_str()], metrics.process.refused(wanted_for) as f64));
    let closed = AdminClose::ALL.map(|reason| ([reason.as_str()], metrics.process.closed(reason) as f64));
    let control = &metrics.control;
    let limited = |value: &Count| (control.memory_limit.get() > 0).then(|| (&[][..], value.get() as f64));
    vec![
        family(&families::BUILD_INFO, [(&[env!("CARGO_PKG_VERSION")][..], 1.0)]),
        single(&families::START_TIME, started.as_secs_f64()),
        single(&families::RESIDENT_MEMORY, resident_memory() as f64),
        family(&families::DESCRIPTORS_OPEN, open_descriptors().map(|open| (&[][..], open as f64))),
        single(&families::DESCRIPTORS_LIMIT, metrics.process.descriptor_limit() as f64),
        family(&families::DESCRIPTORS_REFUSED, refused.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::ADMIN_CONNECTIONS_CLOSED, closed.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::MEMORY_USED, limited(&control.memory_used)),
        family(&families::MEMORY_LIMIT, limited(&control.memory_limit)),
        single(&families::OVERLOAD_LEVEL, control.overload_level.get() as f64),
    ]
}

fn requests(metrics: &Metrics) -> Vec<MetricFamily> {
    let mut series = Vec::new();
    for (code, name) in CODES.iter().enumerate() {
        for flag in ResponseFlag::ALL {
            let count = |worker: &WorkerMetrics| worker.requests.get(code).and_then(|flags| flags.get(flag as usize)).map_or(0, Count::get);
            let total: u64 = metrics.workers.iter().map(|worker| count(worker)).sum();
            // Most of the pairs never occur.
            if total > 0 {
                series.push(([*name, flag.as_str()], total));
            }
        }
    }
    let mut duration = HistogramTotal::default();
    metrics.workers.iter().for_each(|worker| worker.duration.add_to(&mut duration));
    let handshakes = HandshakeResult::ALL.map(|result| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.handshakes.get(result as usize).map_or(0, Count::get)).sum();
        ([result.as_str()], total as f64)
    });
    let streams: Vec<_> = ResponseFlag::ALL
        .iter()
        .map(|flag| {
            let total: u64 = metrics.workers.iter().map(|worker| worker.streams.get(*flag as usize).map_or(0, Count::get)).sum();
            ([flag.as_str()], total as f64)
        })
        .collect();
    vec![
        family(&families::REQUESTS, series.iter().map(|(labels, total)| (&labels[..], *total as f64))),
        histogram(&families::REQUEST_DURATION, &duration, &DURATION_BOUNDS),
        single(&families::REQUESTS_IN_FLIGHT, sum(metrics, |worker| &worker.in_flight)),
        single(&families::STREAMS_OPEN, sum(metrics, |worker| &worker.streams_open)),
        family(&families::STREAMS, streams.iter().map(|(labels, value)| (&labels[..], *value))),
        single(&families::CONNECTIONS_OPEN, sum(metrics, |worker| &worker.connections_open)),
        single(&families::CONNECTIONS_RESTING, sum(metrics, |worker| &worker.connections_resting)),
        single(&families::CONNECTIONS, sum(metrics, |worker| &worker.connections)),
        family(&families::TLS_HANDSHAKES, handshakes.iter().map(|(labels, value)| (&labels[..], *value))),
        sessions(metrics),
        moved_streams(metrics),
        single(&families::HASH_KEY_MISSING, sum(metrics, |worker| &worker.hash_key_missing)),
        certificates(metrics),
    ]
}

fn sessions(metrics: &Metrics) -> MetricFamily {
    let results = SessionResult::ALL.map(|result| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.sessions.get(result as usize).map_or(0, Count::get)).sum();
        ([result.as_str()], total as f64)
    });
    family(&families::AFFINITY_SESSIONS, results.iter().map(|(labels, value)| (&labels[..], *value)))
}

fn moved_streams(metrics: &Metrics) -> MetricFamily {
    let kinds = MovedStream::ALL.map(|kind| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.moved_streams.get(kind as usize).map_or(0, Count::get)).sum();
        ([kind.as_str()], total as f64)
    });
    family(&families::AFFINITY_STREAMS_CLOSED, kinds.iter().map(|(labels, value)| (&labels[..], *value)))
}

fn certificates(metrics: &Metrics) -> MetricFamily {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let expiries = metrics.control.certificate_expiries();
    let series: Vec<_> =
        expiries.iter().map(|expiry| ([expiry.gateway.as_str(), &*expiry.listener], (expiry.not_after as f64 - now).round())).collect();
    family(&families::CERTIFICATE_EXPIRES_IN, series.iter().map(|(labels, value)| (&labels[..], *value)))
}

fn datagrams(metrics: &Metrics) -> Vec<MetricFamily> {
    let total = |count: &dyn Fn(&DatagramMetrics) -> Option<&Count>| -> f64 {
        metrics.workers.iter().map(|worker| count(&worker.datagrams).map_or(0, Count::get)).sum::<u64>() as f64
    };
    let flows = ResponseFlag::ALL.map(|flag| ([flag.as_str()], total(&|of| of.flows.get(flag as usize))));
    let refused = FlowRefusal::ALL.map(|reason| ([reason.as_str()], total(&|of| of.refused.get(reason as usize))));
    let passed = DatagramDirection::ALL.map(|to| ([to.as_str()], total(&|of| of.passed.get(to as usize))));
    let dropped = DatagramDirection::ALL.map(|to| ([to.as_str()], total(&|of| of.dropped.get(to as usize))));
    vec![
        single(&families::FLOWS_OPEN, sum(metrics, |worker| &worker.datagrams.flows_open)),
        family(&families::FLOWS, flows.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::FLOWS_REFUSED, refused.iter().map(|(labels, value)| (&labels[..], *value))),
        single(&families::MAX_FLOWS, metrics.control.max_flows.get() as f64),
        family(&families::DATAGRAMS, passed.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::DATAGRAMS_DROPPED, dropped.iter().map(|(labels, value)| (&labels[..], *value))),
    ]
}

fn ceilings(metrics: &Metrics) -> Vec<MetricFamily> {
    let connections = ConnectionRefusal::ALL.map(|reason| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.connections_refused.get(reason as usize).map_or(0, Count::get)).sum();
        ([reason.as_str()], total as f64)
    });
    let requests = RequestRefusal::ALL.map(|reason| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.requests_refused.get(reason as usize).map_or(0, Count::get)).sum();
        ([reason.as_str()], total as f64)
    });
    let abuses = Http2Abuse::ALL.map(|reason| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.http2_abuses.get(reason as usize).map_or(0, Count::get)).sum();
        ([reason.as_str()], total as f64)
    });
    let announced = ProxyProtocolResult::ALL.map(|result| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.proxy_protocol.get(result as usize).map_or(0, Count::get)).sum();
        ([result.as_str()], total as f64)
    });
    let ages: Vec<_> =
        metrics.limits.ages().into_iter().map(|((counter, kind), age)| ([counter, kind], age.as_secs_f64().round())).collect();
    vec![
        family(&families::LIMIT_REACHED_AGE, ages.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::PROXY_PROTOCOL, announced.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::HTTP2_ABUSE, abuses.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::REQUESTS_REFUSED, requests.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::CONNECTIONS_REFUSED, connections.iter().map(|(labels, value)| (&labels[..], *value))),
        single(&families::MAX_CONNECTIONS, metrics.control.max_connections.get() as f64),
        single(&families::BUFFERED_BYTES, sum(metrics, |worker| &worker.buffered_bytes)),
        single(&families::MAX_BUFFERED_BYTES, metrics.control.max_buffered_bytes.get() as f64),
        single(&families::READS_SHORTENED, sum(metrics, |worker| &worker.reads_shortened)),
        single(&families::TLS_HANDSHAKES_IN_PROGRESS, sum(metrics, |worker| &worker.handshakes_in_progress)),
        single(&families::TLS_HANDSHAKES_WAITED, sum(metrics, |worker| &worker.handshakes_waited)),
    ]
}

fn upstream(metrics: &Metrics) -> Vec<MetricFamily> {
    let connects = ConnectResult::ALL.map(|result| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.connects.get(result as usize).map_or(0, Count::get)).sum();
        ([result.as_str()], total as f64)
    });
    let retries = RetryReason::ALL.map(|reason| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.retries.get(reason as usize).map_or(0, Count::get)).sum();
        ([reason.as_str()], total as f64)
    });
    let ends = Http2End::ALL.map(|end| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.http2_ends.get(end as usize).map_or(0, Count::get)).sum();
        ([end.as_str()], total as f64)
    });
    let mirrors = MirrorResult::ALL.map(|result| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.mirrors.get(result as usize).map_or(0, Count::get)).sum();
        ([result.as_str()], total as f64)
    });
    let overflows = OverflowKind::ALL.map(|kind| {
        let total: u64 = metrics.workers.iter().map(|worker| worker.overflows.get(kind as usize).map_or(0, Count::get)).sum();
        ([kind.as_str()], total as f64)
    });
    let connections =
        [(["active"], sum(metrics, |worker| &worker.upstream_active)), (["idle"], sum(metrics, |worker| &worker.upstream_idle))];
    vec![
        family(&families::UPSTREAM_CONNECTS, connects.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::UPSTREAM_CONNECTIONS, connections.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::UPSTREAM_HTTP2_ENDS, ends.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::RETRIES, retries.iter().map(|(labels, value)| (&labels[..], *value))),
        single(&families::RETRIES_WITHOUT_BODY, sum(metrics, |worker| &worker.retries_without_body)),
        family(&families::MIRRORS, mirrors.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::UPSTREAM_OVERFLOW, overflows.iter().map(|(labels, value)| (&labels[..], *value))),
    ]
}

fn workers(metrics: &Metrics) -> Vec<MetricFamily> {
    let names: Vec<String> = (0..metrics.workers.len()).map(|index| index.to_string()).collect();
    let series = |value: fn(&WorkerMetrics) -> f64| -> Vec<([&str; 1], f64)> {
        names.iter().zip(&metrics.workers).map(|(name, worker)| ([name.as_str()], value(worker))).collect()
    };
    let ages = series(|worker| worker.heartbeat.age().as_secs_f64());
    let generations = series(|worker| worker.generation.get() as f64);
    let panics = [(["worker"], sum(metrics, |worker| &worker.panics)), (["engine"], metrics.control.engine_panics.get() as f64)];
    vec![
        family(&families::PANICS, panics.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::WORKER_HEARTBEAT_AGE, ages.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::WORKER_GENERATION, generations.iter().map(|(labels, value)| (&labels[..], *value))),
    ]
}

fn controller(metrics: &Metrics) -> Vec<MetricFamily> {
    let control = &metrics.control;
    let spans = SpanResult::ALL.map(|result| ([result.as_str()], metrics.spans.get(result) as f64));
    let builds = [(["ring"], control.ring_builds.get() as f64), (["maglev"], control.maglev_builds.get() as f64)];
    let total = |add: &dyn Fn(&mut HistogramTotal)| {
        let mut total = HistogramTotal::default();
        add(&mut total);
        total
    };
    vec![
        single(&families::SNAPSHOT_GENERATION, control.snapshot_generation.get() as f64),
        single(&families::SNAPSHOT_DIGEST, control.snapshot_digest.get() as f64),
        histogram(&families::TRANSLATE_DURATION, &total(&|t| control.translate.add_to(t)), &TRANSLATE_BOUNDS),
        family(&families::TABLE_BUILDS, builds.iter().map(|(labels, value)| (&labels[..], *value))),
        histogram(&families::TABLE_BUILD_DURATION, &total(&|t| control.table_build.add_to(t)), &TRANSLATE_BOUNDS),
        histogram(&families::REMAPPED_KEYS, &total(&|t| control.remapped.add_to(t)), &SHARE_BOUNDS),
        histogram(&families::NEEDLESSLY_REMAPPED_KEYS, &total(&|t| control.needlessly_remapped.add_to(t)), &SHARE_BOUNDS),
        single(&families::AFFINITY_DRAINING_HOSTS, control.draining_hosts.get() as f64),
        single(&families::TABLES_BEING_BUILT, control.tables_being_built.get() as f64),
        single(&families::REJECTED_OBJECTS, control.rejected_objects.get() as f64),
        single(&families::NOTICES, control.notices.get() as f64),
        single(&families::HOSTNAME_CONFLICTS, control.hostname_conflicts.get() as f64),
        single(&families::CONFIG_CHANGES, control.config_changes.get() as f64),
        single(&families::ENGINE_LAST_SUCCESS, control.engine_last_success.get() as f64),
        single(&families::ENGINE_BUSY, control.engine_busy().as_secs_f64()),
        single(&families::ACCESS_LOG_DROPPED, control.dropped_lines() as f64),
        family(&families::TRACE_SPANS, spans.iter().map(|(labels, value)| (&labels[..], *value))),
    ]
}

fn affinity(metrics: &Metrics) -> Vec<MetricFamily> {
    let by_cause = |table: &Family, values: [(MoveCause, f64); MoveCause::ALL.len()]| {
        let series = values.map(|(cause, value)| ([cause.as_str()], value));
        family(table, series.iter().map(|(labels, value)| (&labels[..], *value)))
    };
    let agreement = metrics.affinity.agreement();
    let actual: Vec<_> = metrics.affinity.actual_shares().collect();
    let shares: Vec<_> = metrics.affinity.shares().into_iter().map(|(pod, share)| ([pod], share)).collect();
    vec![
        by_cause(&families::AFFINITY_CHANGES, metrics.affinity.changes()),
        by_cause(&families::AFFINITY_MOVED, metrics.affinity.moved_by_cause()),
        by_cause(&families::AFFINITY_MOVED_NEEDLESSLY, metrics.affinity.needless_by_cause()),
        single(&families::AFFINITY_DIGEST, metrics.affinity.digest() as f64),
        family(&families::AFFINITY_COMPARED, agreement.map(|(compared, _)| (&[][..], compared as f64))),
        family(&families::AFFINITY_DISAGREEING, agreement.map(|(_, time)| (&[][..], time.as_secs_f64()))),
        family(&families::AFFINITY_ACTUAL_SHARES, actual.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::AFFINITY_SHARES, shares.iter().map(|(labels, value)| (&labels[..], *value))),
    ]
}

fn cluster(metrics: &Metrics) -> Vec<MetricFamily> {
    let cluster = &metrics.cluster;
    // Without a controller there is no leader, no watch and no status to write.
    let age = cluster.controller_age();
    let watches = cluster.watch_ages();
    let watches = watches.iter().map(|(kind, age)| ([kind.as_str()], age.as_secs_f64())).collect::<Vec<_>>();
    let writes = StatusWrite::ALL.map(|result| ([result.as_str()], cluster.status_writes(result) as f64));
    let writes = writes.iter().filter(|_| age.is_some()).map(|(labels, value)| (&labels[..], *value));
    let in_cluster = |value: f64| age.map(|_| (&[][..], value));
    vec![
        family(&families::WATCH_AGE, watches.iter().map(|(labels, value)| (&labels[..], *value))),
        family(&families::LEADER, in_cluster(cluster.leader() as f64)),
        family(&families::CONTROLLER_NAME_CONFLICT, in_cluster(cluster.controller_name_conflict() as f64)),
        family(&families::STATUS_WRITES, writes),
        family(&families::SERVICES_REFUSED, in_cluster(cluster.refused_services() as f64)),
        family(&families::AFFINITY_SLOTS_REFUSED, in_cluster(metrics.affinity.refused_slots() as f64)),
        family(&families::CONTROLLER_RESTARTS, in_cluster(cluster.restarts() as f64)),
        family(&families::CONTROLLER_HEARTBEAT_AGE, age.map(|age| (&[][..], age.as_secs_f64()))),
    ]
}

/// The sum over all workers; shards are read one after the other, so a gauge may be off by what changed meanwhile.
fn sum(metrics: &Metrics, count: impl Fn(&WorkerMetrics) -> &Count) -> f64 {
    metrics.workers.iter().map(|worker| count(worker).get()).fold(0, u64::wrapping_add) as f64
}

fn single(table: &Family, value: f64) -> MetricFamily {
    family(table, [(&[][..], value)])
}

fn family<'a>(table: &Family, series: impl IntoIterator<Item = (&'a [&'a str], f64)>) -> MetricFamily {
    let metrics = series.into_iter().map(|(values, value)| {
        debug_assert_eq!(values.len(), table.labels.len(), "labels of {}", table.name);
        let mut metric = Metric::default();
        metric.set_label(table.labels.iter().zip(values).map(|(name, value)| label(name, value)).collect());
        match table.kind {
            FamilyKind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            FamilyKind::Gauge | FamilyKind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        metric
    });
    named(table, metrics.collect())
}

fn histogram(table: &Family, total: &HistogramTotal, bounds: &[u64]) -> MetricFamily {
    let mut cumulative = 0;
    let buckets = total.buckets.iter().zip(bounds).map(|(count, bound)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(cumulative);
        bucket.set_upper_bound(Duration::from_micros(*bound).as_secs_f64());
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(total.buckets.iter().sum());
    histogram.set_sample_sum(total.sum as f64 / 1e6);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    named(table, vec![metric])
}

fn named(table: &Family, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(table.name.to_owned());
    family.set_help(table.help.to_owned());
    family.set_field_type(match table.kind {
        FamilyKind::Counter => MetricType::COUNTER,
        FamilyKind::Gauge => MetricType::GAUGE,
        FamilyKind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(metrics);
    family
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{ActualShares, CertificateExpiry};
    use super::*;
    use crate::base::{MemoryReading, OverloadLevel};

    #[test]
    fn every_family_of_the_table_is_rendered_with_its_type_and_no_other() {
        let metrics = Metrics::new(2);
        metrics.cluster().controller_beats();
        metrics.cluster().watch("Gateway");
        metrics.workers()[0].overflow(OverflowKind::Pending);
        metrics.control().set_certificate_expiries(vec![expiry("n/g", "https", 0)]);
        metrics.affinity().set_shares(Some((0.9, 1.1)));
        metrics.affinity().set_agreement(Some((1, Duration::ZERO)));
        metrics.affinity().set_actual_shares(ActualShares { requests: Some((0.9, 1.1)), sessions: None });
        metrics.control().set_memory(MemoryReading { used: 1, limit: 2 }, OverloadLevel::None);
        metrics.worker(0).unwrap().request_started();
        metrics.worker(0).unwrap().request_finished(200, ResponseFlag::None, Duration::from_millis(3));
        let text = metrics.render();
        let types: BTreeSet<String> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect();
        let table: BTreeSet<String> = families::ALL.iter().map(|f| format!("{} {}", f.name, f.kind.as_str())).collect();
        assert_eq!(types, table);
    }

    fn expiry(gateway: &str, listener: &str, not_after: i64) -> CertificateExpiry {
        CertificateExpiry { gateway: gateway.to_owned(), listener: listener.into(), not_after }
    }

    #[test]
    fn the_certificates_that_expire_first_are_shown() {
        let metrics = Metrics::new(1);
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let many = (0..1_100).rev().map(|n| expiry("n/g", &n.to_string(), now - 3_600 + n));
        metrics.control().set_certificate_expiries(many.collect());
        let text = metrics.render();
        let series: Vec<_> = text.lines().filter(|line| line.starts_with("clingfish_tls_certificate_expires_in_seconds{")).collect();
        assert_eq!(series.len(), 1_000);
        let first = series
            .iter()
            .find_map(|line| line.strip_prefix("clingfish_tls_certificate_expires_in_seconds{gateway=\"n/g\",listener=\"0\"} "));
        let first: i64 = first.unwrap().parse().unwrap();
        assert!((-3_700..=-3_599).contains(&first), "{first}");
        metrics.control().set_certificate_expiries(Vec::new());
        assert!(!metrics.render().contains("expires_in_seconds"));
    }

    #[test]
    fn shards_are_merged() {
        let metrics = Metrics::new(2);
        for index in [0, 1, 1] {
            let worker = metrics.worker(index).unwrap();
            worker.request_started();
            worker.request_finished(503, ResponseFlag::NoHealthyUpstream, Duration::from_micros(700));
            worker.request_started();
            worker.connection_opened();
            worker.connection_rests();
        }
        metrics.control().remapped(0.25, 0.0);
        metrics.affinity().moved(MoveCause::Scale, 0.25, 0.125);
        metrics.affinity().moved(MoveCause::Scale, 0.5, 0.0);
        let text = metrics.render();
        for line in [
            "clingfish_requests_total{code=\"5xx\",flag=\"UH\"} 3",
            "clingfish_requests_in_flight 3",
            "clingfish_downstream_connections_open 3",
            "clingfish_downstream_connections_resting 3",
            "clingfish_request_duration_seconds_bucket{le=\"0.0005\"} 0",
            "clingfish_request_duration_seconds_bucket{le=\"0.001\"} 3",
            "clingfish_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "clingfish_request_duration_seconds_count 3",
            "clingfish_remapped_keys_ratio_bucket{le=\"0.2\"} 0",
            "clingfish_remapped_keys_ratio_bucket{le=\"0.35\"} 1",
            "clingfish_worker_snapshot_generation{worker=\"1\"} 0",
            "clingfish_affinity_changes_total{cause=\"scale\"} 2",
            "clingfish_affinity_moved_ratio_total{cause=\"scale\"} 0.75",
            "clingfish_affinity_needlessly_moved_ratio_total{cause=\"scale\"} 0.125",
            "clingfish_affinity_moved_ratio_total{cause=\"rollout\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_status_outside_the_classes_is_counted_as_other() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker(0).unwrap();
        worker.request_started();
        worker.request_finished(0, ResponseFlag::DownstreamConnectionTermination, Duration::ZERO);
        assert!(metrics.render().contains("clingfish_requests_total{code=\"other\",flag=\"DC\"} 1"));
    }
}
