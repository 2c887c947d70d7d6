//! What the pods' metrics say: whether they serve the same, which certificates expire, which limits were reached.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    gathered::{Gathered, Unasked},
    objects::{count, few},
    report::Outcome,
    tables::check_tables,
};

/// Certificates are replaced by then.
const EXPIRES_SOON: f64 = 14.0 * 86_400.0;

/// A watch without a sign of life for so long is silent.
const SILENT: f64 = 15.0;

/// A limit that was last reached longer ago is history. Prometheus has the history.
const RECENTLY: f64 = 15.0 * 60.0;

/// How long ago limits were reached.
const LIMIT_AGE: &str = "clingfish_limit_reached_age_seconds";

/// A sample of a metric: its labels and its value.
type Sample<'a> = (&'a str, f64);

/// A counter of a limit, or a gauge of what is short now: its family, what happened, and what to do.
const LIMITS: [(&str, &str, &str); 10] = [
    (
        "clingfish_downstream_connections_refused_total",
        "connections were closed as soon as they were accepted",
        "raise ceilings.maxConnections or add pods",
    ),
    (
        "clingfish_requests_refused_total",
        "requests were answered 503 before a route was looked for",
        "raise resources.limits.memory or add pods",
    ),
    (
        "clingfish_tls_handshakes_waited_total",
        "TLS handshakes waited for their turn",
        "add CPU or pods, or raise ceilings.maxTlsHandshakes",
    ),
    (
        "clingfish_upstream_overflow_total",
        "limits of a backend were reached",
        "add pods to the backend, or raise spec.circuitBreakers of the Upstream (backends.* in the chart)",
    ),
    (
        "clingfish_upstream_retries_without_body_total",
        "retries were not made since too much of the body had come",
        "raise backends.retryBodyBytes",
    ),
    ("clingfish_file_descriptors_refused_total", "no file descriptor was left", "raise the limit of open files of the container"),
    (
        "clingfish_access_log_dropped_total",
        "lines of the access log were dropped",
        "log less (accessLogFilter), or read standard output faster",
    ),
    ("clingfish_downstream_http2_abuse_total", "HTTP/2 connections were ended for abuse", "see who the client is in the access log"),
    ("clingfish_overload_level", "memory is short", "raise resources.limits.memory or add pods"),
    (
        "clingfish_hostname_conflicts",
        "hostnames are claimed by routes of several namespaces",
        "set hostnameOwnership, or take the hostname from one of them",
    ),
];

/// Counters of what should never happen.
const FAULTS: [(&str, &str); 2] =
    [("clingfish_panics_total", "it panicked"), ("clingfish_controller_restarts_total", "its controller was started again after a fault")];

/// The samples of a family in the text format of Prometheus.
fn samples<'a>(metrics: &'a str, family: &str) -> Vec<Sample<'a>> {
    let sample = |line: &'a str| {
        let rest = line.strip_prefix(family)?;
        let (labels, value) = match rest.strip_prefix('{') {
            // A label's value may hold a brace; the value is behind the last one.
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.trim().parse().ok()?))
    };
    metrics.lines().filter_map(sample).collect()
}

fn sum(metrics: &str, family: &str) -> f64 {
    samples(metrics, family).iter().map(|(_, value)| value).sum()
}

/// The value of a label.
fn label<'a>(labels: &'a str, name: &str) -> &'a str {
    let found = labels.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
    found.map_or("", |(value, _)| value)
}

/// What each pod said last.
fn latest(gathered: &Gathered) -> impl Iterator<Item = (&str, &str)> {
    gathered.pods.iter().filter_map(|(name, answer)| Some((name.as_str(), answer.metrics.last()?.as_str())))
}

/// Versions of the pods, sorted.
pub(super) fn versions(gathered: &Gathered) -> Vec<String> {
    let all = latest(gathered).flat_map(|(_, metrics)| samples(metrics, "clingfish_build_info"));
    all.map(|(labels, _)| label(labels, "version").to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The digest of what a pod serves.
fn digests(metrics: &str) -> Vec<u64> {
    // Whole, and small enough for a float.
    samples(metrics, "clingfish_snapshot_digest").iter().map(|(_, value)| *value as u64).collect()
}

/// Whether the pods did not serve the same when they were asked last: a change reaches them one after the other, so that they are to be asked
/// again.
pub fn is_unsettled(gathered: &Gathered) -> bool {
    let tables = |metrics| samples(metrics, "clingfish_affinity_table_digest").iter().map(|(_, value)| *value as u64).collect::<Vec<_>>();
    latest(gathered).map(|(_, metrics)| (digests(metrics), tables(metrics))).collect::<BTreeSet<_>>().len() > 1
}

/// Says which pods could not be asked; what is left of the check is about the others.
fn unasked_pods(gathered: &Gathered, outcome: &mut Outcome) {
    let silent = gathered.pods.iter().filter_map(|(name, answer)| answer.refused.as_ref().map(|why| (name, why)));
    for (name, why) in silent {
        outcome.unasked.push(format!("pod {name} cannot be asked for its metrics: {why}; it takes the right to get pods/proxy").into());
    }
}

/// Says that pods which could not be asked are missing here too; the check of the replicas says why.
fn without_silent_pods(gathered: &Gathered, outcome: &mut Outcome) {
    let silent: Vec<&str> = gathered.pods.iter().filter(|(_, answer)| answer.refused.is_some()).map(|(name, _)| name.as_str()).collect();
    if !silent.is_empty() {
        outcome.unasked.push(format!("{}: see the check replicas", few(&silent)).into());
    }
}

pub(super) fn check_replicas(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    unasked_pods(gathered, outcome);
    check_agreement(gathered, outcome);
    check_tables(gathered, outcome);
    let versions = versions(gathered);
    if versions.len() > 1 {
        let to_do = "wait for the rollout to end, or see why it does not: kubectl rollout status";
        outcome.finding("pods", format!("they are of the versions {}", versions.join(" and ")), to_do);
    }
    let leaders: Vec<&str> = latest(gathered).filter(|(_, metrics)| sum(metrics, "clingfish_leader") > 0.0).map(|(name, _)| name).collect();
    if leaders.len() > 1 {
        outcome.finding("pods", format!("{} think that they lead", few(&leaders)), "delete one of them; please report this");
    }
    for (name, metrics) in latest(gathered) {
        let silent: Vec<&str> = samples(metrics, "clingfish_watch_age_seconds")
            .into_iter()
            .filter(|(_, age)| *age > SILENT)
            .map(|(labels, _)| label(labels, "kind"))
            .collect();
        if !silent.is_empty() {
            let what = format!("the API server does not answer its watches of {}: it serves what it knew before", few(&silent));
            outcome.finding(
                format!("pod {name}"),
                what,
                "see its log, the check rights, and NetworkPolicies between it and the API server",
            );
        }
        for (family, what) in FAULTS {
            let times = sum(metrics, family);
            if times > 0.0 {
                outcome.finding(
                    format!("pod {name}"),
                    format!("{what} {}", count(times as usize, "time")),
                    "see its log, and please report this",
                );
            }
        }
        let refused = sum(metrics, "clingfish_services_refused");
        if refused > 0.0 {
            let what = format!("the API server refuses {}", count(refused as usize, "Service"));
            outcome.finding(format!("pod {name}"), what, "the check gateways says why: quota, policy, webhook");
        }
    }
    outcome.looked_at = format!("{} of {} asked, all serve the same", latest(gathered).count(), count(gathered.pods.len(), "pod"));
    Ok(())
}

/// A pod that serves something else all the while is wrong; the majority is right, as far as anybody can tell.
fn check_agreement(gathered: &Gathered, outcome: &mut Outcome) {
    let mut by_digest: BTreeMap<Vec<u64>, Vec<&str>> = BTreeMap::new();
    for (name, metrics) in latest(gathered) {
        by_digest.entry(digests(metrics)).or_default().push(name);
    }
    if by_digest.len() < 2 {
        return;
    }
    let rounds = gathered.pods.values().map(|answer| answer.metrics.len()).max().unwrap_or_default();
    let told: Vec<String> = by_digest
        .iter()
        .map(|(digest, names)| {
            format!("{}: {}", digest.first().map_or_else(|| "unknown".to_owned(), |digest| format!("{digest:x}")), few(names))
        })
        .collect();
    let what = format!("they do not serve the same (asked {}): {}", count(rounds, "time"), told.join("; "));
    let to_do = "compare their logs and their /config; a pod that kept a last good version from before, or resolves a name differently, is right again after a restart: kubectl delete pod";
    outcome.finding("pods", what, to_do);
}

pub(super) fn check_certificates(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    without_silent_pods(gathered, outcome);
    // Every pod serves the same ones; the one that is behind counts.
    let mut soonest: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for (_, metrics) in latest(gathered) {
        for (labels, left) in samples(metrics, "clingfish_tls_certificate_expires_in_seconds") {
            let known = soonest.entry((label(labels, "gateway"), label(labels, "listener"))).or_insert(left);
            *known = known.min(left);
        }
    }
    for ((gateway, listener), left) in &soonest {
        let days = left / 86_400.0;
        let what = if *left < 0.0 {
            format!("listener {listener}: its certificate expired {:.1} days ago", -days)
        } else if *left < EXPIRES_SOON {
            format!("listener {listener}: its certificate expires in {days:.1} days")
        } else {
            continue;
        };
        let to_do = "renew the Secret of the listener's certificateRefs; with cert-manager: kubectl get certificate -A";
        outcome.finding(format!("Gateway {gateway}"), what, to_do);
    }
    outcome.looked_at = format!("{} with a certificate, none of which expires within 14 days", count(soonest.len(), "listener"));
    Ok(())
}

pub(super) fn check_limits(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    without_silent_pods(gathered, outcome);
    for (family, what, to_do) in LIMITS {
        let mut pods: Vec<String> = Vec::new();
        for (name, metrics) in latest(gathered) {
            let reached: Vec<String> =
                samples(metrics, family).into_iter().filter_map(|(labels, value)| reached(metrics, family, labels, value)).collect();
            if !reached.is_empty() {
                pods.push(format!("{name} ({})", reached.join(", ")));
            }
        }
        if !pods.is_empty() {
            outcome.finding(family, format!("{what}: {}", few(&pods)), to_do);
        }
    }
    outcome.looked_at = format!("none was reached in the last {} minutes", RECENTLY / 60.0);
    Ok(())
}

/// What a sample of a limit says of the time that is looked at; `None`: nothing.
fn reached(metrics: &str, family: &str, labels: &str, value: f64) -> Option<String> {
    if value <= 0.0 {
        return None;
    }
    let shown = if labels.is_empty() { format!("{value}") } else { format!("{labels} {value}") };
    if !family.ends_with("_total") {
        return Some(shown);
    }
    // The only label of such a counter.
    let kind = labels.split_once("=\"").map_or("", |(_, rest)| rest.trim_end_matches('"'));
    let of_it = |(labels, _): &Sample<'_>| label(labels, "limit") == family && label(labels, "kind") == kind;
    match samples(metrics, LIMIT_AGE).into_iter().find(of_it) {
        Some((_, age)) if age > RECENTLY => None,
        Some((_, age)) => Some(format!("{shown} since it started, the last time {} ago", ago(age))),
        // A pod of a version that does not tell.
        None => Some(format!("{shown} since it started")),
    }
}

fn ago(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}
