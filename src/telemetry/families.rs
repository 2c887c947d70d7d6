//! The table of metric families, which dashboards and alerts rely on. Labels are bounded: no route, host, path or client is one.

/// A metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, beginning with `clingfish_`.
    pub name: &'static str,
    /// Type.
    pub kind: FamilyKind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, with its unit.
    pub help: &'static str,
}

/// Type of a metric family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations by bucket.
    Histogram,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: FamilyKind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind: FamilyKind::Gauge, labels, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: FamilyKind::Histogram, labels: &[], help }
}

macro_rules! table {
    ($($constant:ident = $family:expr;)*) => {
        $(pub(super) const $constant: Family = $family;)*
        /// All families, in the order in which they are shown.
        pub const ALL: &[Family] = &[$($constant),*];
    };
}

table! {
    BUILD_INFO = gauge("clingfish_build_info", &["version"], "Always 1; the label is the version of this process.");
    START_TIME = gauge("clingfish_start_time_seconds", &[], "When the process started, seconds since the epoch.");
    RESIDENT_MEMORY = gauge("clingfish_resident_memory_bytes", &[], "Resident memory of the process.");
    DESCRIPTORS_OPEN = gauge("clingfish_file_descriptors_open", &[], "File descriptors that the process has open.");
    DESCRIPTORS_LIMIT = gauge("clingfish_file_descriptors_limit", &[], "File descriptors that the process may have open.");
    DESCRIPTORS_REFUSED = counter(
        "clingfish_file_descriptors_refused_total",
        &["use"],
        "How often no descriptor was left for the connection of a `client` (closed), a connection to a `host` (an idle one made room, or 503), a `listener` (its \
         status says so), a `file` (read again) or a connection to the `admin` port.",
    );
    ADMIN_CONNECTIONS_CLOSED = counter(
        "clingfish_admin_connections_closed_total",
        &["reason"],
        "Connections to the admin ports that the gateway closed: `too_many` at a time, or a client `too_slow` in sending or reading.",
    );
    MEMORY_USED = gauge(
        "clingfish_memory_used_bytes",
        &[],
        "Where memory is limited: memory in use that counts against the limit that is nearest.",
    );
    MEMORY_LIMIT = gauge("clingfish_memory_limit_bytes", &[], "Where memory is limited: the limit that is nearest.");
    OVERLOAD_LEVEL = gauge(
        "clingfish_overload_level",
        &[],
        "What is refused because memory is short: 0 nothing, 1 keep-alive, 2 requests too, 3 connections too.",
    );
    REQUESTS = counter(
        "clingfish_requests_total",
        &["code", "flag"],
        "Requests answered, by status class (`2xx`) and Envoy's response flag (`-` where all went well).",
    );
    REQUEST_DURATION = histogram("clingfish_request_duration_seconds", "Time from the request's head to the end of the response.");
    REQUESTS_REFUSED = counter(
        "clingfish_requests_refused_total",
        &["reason"],
        "Requests answered with 503 before a route was looked for: `overload` (memory runs out) or `buffers` (as many bytes are buffered \
         as may be). `stalled`: requests that were ended because of that, since nothing moved of what was buffered for them.",
    );
    REQUESTS_IN_FLIGHT = gauge("clingfish_requests_in_flight", &[], "Requests being served.");
    STREAMS_OPEN = gauge("clingfish_stream_connections_open", &[], "Connections of clients that a TCPRoute or TLSRoute sends on.");
    STREAMS = counter(
        "clingfish_stream_connections_total",
        &["flag"],
        "Connections of TCP and TLS listeners that have ended, by Envoy's response flag: `-` where both sides ended them.",
    );
    FLOWS_OPEN = gauge("clingfish_udp_flows_open", &[], "Flows of UDP: what one client and one host send each other through a UDPRoute.");
    FLOWS = counter(
        "clingfish_udp_flows_total",
        &["flag"],
        "Flows of UDP that have ended, by Envoy's response flag: `-` where nothing came for the idle timeout, `UF` where the host refused, `UC` \
         where the host is no longer one of the backend's, `OM` where a newer flow needed the room.",
    );
    FLOWS_REFUSED = counter(
        "clingfish_udp_flows_refused_total",
        &["reason"],
        "Datagrams for which no flow was begun: `max_flows`, `max_flows_per_listener`, `overload` (memory runs out) or `draining` (the gateway ends).",
    );
    MAX_FLOWS = gauge("clingfish_udp_flows_max", &[], "Flows of UDP that there may be at a time.");
    DATAGRAMS = counter("clingfish_udp_datagrams_total", &["to"], "Datagrams sent on to a `host` or to a `client`.");
    DATAGRAMS_DROPPED = counter(
        "clingfish_udp_datagrams_dropped_total",
        &["to"],
        "Datagrams of a flow that could not be sent on to its `host` or `client`: the system's buffers are full, or the datagram is too large for the way.",
    );
    CONNECTIONS_OPEN = gauge("clingfish_downstream_connections_open", &[], "Connections of clients that are open.");
    CONNECTIONS_RESTING = gauge(
        "clingfish_downstream_connections_resting",
        &[],
        "Open connections of clients that have been idle for a while and gave their buffers back.",
    );
    CONNECTIONS = counter("clingfish_downstream_connections_total", &[], "Connections of clients that were accepted.");
    CONNECTIONS_REFUSED = counter(
        "clingfish_downstream_connections_refused_total",
        &["reason"],
        "Connections of clients that were closed as soon as they were accepted: `max_connections`, `max_connections_per_listener` or \
         `overload` (memory runs out).",
    );
    LIMIT_REACHED_AGE = gauge(
        "clingfish_limit_reached_age_seconds",
        &["limit", "kind"],
        "Time since a limit was last reached, up to 10 seconds too little. `limit` is the counter that says how often, `kind` the value of its label. A limit \
         that was not reached since the process started is not there.",
    );
    PROXY_PROTOCOL = counter(
        "clingfish_proxy_protocol_headers_total",
        &["result"],
        "Connections of load balancers that are trusted to say who the client is: `client` (they did), `local` (the connection is their own), `malformed` (no header of the PROXY protocol, or a wrong one), `closed` or `timed_out` before it. All but the first two were closed.",
    );
    HTTP2_ABUSE = counter(
        "clingfish_downstream_http2_abuse_total",
        &["reason"],
        "HTTP/2 connections of clients that were ended with `ENHANCE_YOUR_CALM`: `premature_resets` (most streams were reset before their \
         answer) or `control_frames` (too many frames without a request or data).",
    );
    MAX_CONNECTIONS = gauge("clingfish_downstream_connections_max", &[], "Connections of clients that may be open at a time.");
    BUFFERED_BYTES = gauge("clingfish_buffered_bytes", &[], "Bytes buffered for clients and hosts that count against the ceiling.");
    MAX_BUFFERED_BYTES = gauge("clingfish_buffered_bytes_max", &[], "Bytes that may be buffered at a time for all connections together.");
    READS_SHORTENED = counter(
        "clingfish_reads_shortened_total",
        &[],
        "Reads of bodies that were limited to 8 KiB because too much is buffered for all connections together.",
    );
    TLS_HANDSHAKES_IN_PROGRESS = gauge(
        "clingfish_tls_handshakes_in_progress",
        &[],
        "TLS handshakes of clients from their ClientHello on; those that wait do not count.",
    );
    TLS_HANDSHAKES_WAITED = counter(
        "clingfish_tls_handshakes_waited_total",
        &[],
        "TLS handshakes of clients that waited for their turn because too many were in progress.",
    );
    TLS_HANDSHAKES = counter(
        "clingfish_tls_handshakes_total",
        &["result"],
        "TLS handshakes of clients: `ok`, `unknown_name` (no listener with a certificate has the name asked for), `incompatible` (no \
         version, cipher suite or protocol in common), `malformed` (no TLS), `refused_by_client` (mostly: it does not trust the \
         certificate), `client_certificate` (the client showed none where one is asked for, or one that is not good), `closed` (it went away, or the gateway ended), `timed_out`, `other`.",
    );
    CERTIFICATE_EXPIRES_IN = gauge(
        "clingfish_tls_certificate_expires_in_seconds",
        &["gateway", "listener"],
        "Time until the first certificate that a listener serves expires; negative where one has. Of more than 1,000 listeners those are shown \
         whose certificates expire first.",
    );
    UPSTREAM_CONNECTS = counter(
        "clingfish_upstream_connects_total",
        &["result"],
        "Attempts to connect to a host: `ok`, `failed` (refused, unreachable, no TLS) or `timed_out`.",
    );
    UPSTREAM_CONNECTIONS = gauge("clingfish_upstream_connections", &["state"], "Connections to hosts: `active` or `idle` in a pool.");
    UPSTREAM_HTTP2_ENDS = counter(
        "clingfish_upstream_http2_connections_ended_total",
        &["reason"],
        "Connections of HTTP/2 to hosts that ended: `left` (idle, used up, or its host left), `goaway` (the host took leave), `closed` \
         (without a word), `protocol_error` (the host broke the protocol or a limit) or `not_made`.",
    );
    RETRIES = counter(
        "clingfish_upstream_retries_total",
        &["reason"],
        "Attempts after a request's first: `connect_failure`, `reset` (the connection ended before an answer), `status`, \
         `not_processed` (an HTTP/2 host refused the stream, or left it out of its GOAWAY).",
    );
    RETRIES_WITHOUT_BODY = counter(
        "clingfish_upstream_retries_without_body_total",
        &[],
        "Retries that a rule asks for and that were not made, since more of the request's body had come than is kept for them.",
    );
    MIRRORS = counter(
        "clingfish_mirrored_requests_total",
        &["result"],
        "Copies of requests for mirrors: `answered`, whatever the answer was, or `failed` (the mirror cannot be reached, gives no answer or \
         falls too far behind, or the request itself broke off).",
    );
    UPSTREAM_OVERFLOW = counter(
        "clingfish_upstream_overflow_total",
        &["kind"],
        "Limits of a backend that were reached: `connections` (the request waits for one), `pending` or `requests` (it is answered 503), \
         `retries` (the last answer stands).",
    );
    HASH_KEY_MISSING = counter(
        "clingfish_hash_key_missing_total",
        &[],
        "Requests to a backend that hashes in which no policy found a key: their host was random.",
    );
    AFFINITY_SESSIONS = counter(
        "clingfish_affinity_sessions_total",
        &["result"],
        "Requests to backends that hold sessions (`hold: WhileAlive`, `sessionPersistence`): `bound` (the session's pod serves: it went there), `waited` (the same, \
         once this replica had heard of the pod), `new` (also one whose time is over), `lost` (the pod is gone: another one takes over), `unknown` (its tag leads nowhere) \
         or `failed` (the pod did not answer, and another one has).",
    );
    AFFINITY_STREAMS_CLOSED = counter(
        "clingfish_affinity_streams_closed_total",
        &["kind"],
        "Streams that were told to go since their session belongs to another pod (`rollout: {onRemap: Close}`): `websocket`, `grpc` or `tcp`.",
    );
    PANICS = counter("clingfish_panics_total", &["where"], "Panics that were caught: `worker` (cost one connection) or `engine`.");
    WORKER_HEARTBEAT_AGE = gauge("clingfish_worker_heartbeat_age_seconds", &["worker"], "Time since the worker's loop last ran.");
    WORKER_GENERATION = gauge("clingfish_worker_snapshot_generation", &["worker"], "Generation of the snapshot that the worker has bound.");
    SNAPSHOT_GENERATION = gauge("clingfish_snapshot_generation", &[], "Generation of the snapshot that was published last.");
    SNAPSHOT_DIGEST = gauge(
        "clingfish_snapshot_digest",
        &[],
        "A number made of all that is served. Replicas with the same number serve the same: alert if max and min of an install differ for minutes.",
    );
    TRANSLATE_DURATION = histogram("clingfish_translate_duration_seconds", "Time from taking changes in to publishing their snapshot.");
    TABLE_BUILDS = counter("clingfish_table_builds_total", &["kind"], "Hash tables built: `ring` or `maglev`.");
    TABLE_BUILD_DURATION = histogram(
        "clingfish_table_build_duration_seconds",
        "Time to build hash tables: a large one by itself, small ones together with the translation that built them.",
    );
    AFFINITY_DRAINING_HOSTS = gauge(
        "clingfish_affinity_draining_hosts",
        &[],
        "Hosts of backends that hold sessions which are about to end: they serve the sessions that they have, and get no new ones.",
    );
    TABLES_BEING_BUILT = gauge(
        "clingfish_tables_being_built",
        &[],
        "Backends whose hash table is being built: they serve with the one before, without hosts that are gone.",
    );
    REMAPPED_KEYS = histogram(
        "clingfish_remapped_keys_ratio",
        "Share of the keys that moved to another host, observed once at each change of a hash table. What serves until a table is built is not \
         observed.",
    );
    NEEDLESSLY_REMAPPED_KEYS = histogram(
        "clingfish_needlessly_remapped_keys_ratio",
        "Share of the keys that moved although their old host stayed and their new one was there before.",
    );
    AFFINITY_CHANGES = counter(
        "clingfish_affinity_changes_total",
        &["cause"],
        "Changes of hash tables by what caused them: `scale` (more or fewer pods), `rollout` (pods are replaced), `pod_failed` and `pod_recovered` (a pod \
         is not ready any more, or again), `weights`, `slots`, `warm_up` (the same pods, otherwise) or `configuration` (a table of another make).",
    );
    AFFINITY_MOVED = counter(
        "clingfish_affinity_moved_ratio_total",
        &["cause"],
        "Shares of the keys that changes of hash tables moved, added up, exactly: 1 is every session of a backend once. Causes are those of \
         `clingfish_affinity_changes_total`: `scale`, `rollout`, `pod_failed`, `pod_recovered`, `weights`, `slots`, `warm_up`, `configuration`.",
    );
    AFFINITY_MOVED_NEEDLESSLY = counter(
        "clingfish_affinity_needlessly_moved_ratio_total",
        &["cause"],
        "The part of `clingfish_affinity_moved_ratio_total` that moved although the old pod stayed and the new one was there before.",
    );
    AFFINITY_DIGEST = gauge(
        "clingfish_affinity_table_digest",
        &[],
        "A number made of all hash tables. Replicas with the same number send every key to the same pod.",
    );
    AFFINITY_COMPARED = gauge(
        "clingfish_affinity_replicas_compared",
        &[],
        "In a cluster, in the leader: other replicas that say which hash tables they have.",
    );
    AFFINITY_DISAGREEING = gauge(
        "clingfish_affinity_replicas_disagreeing_seconds",
        &[],
        "In a cluster, in the leader: for how long a replica has had other hash tables than the leader has, or had a second ago; 0 where all agree. Alert beyond 1.",
    );
    AFFINITY_SHARES = gauge(
        "clingfish_affinity_planned_share_ratio",
        &["extreme"],
        "What a pod has of its hash table, in shares of what its weight entitles it to: of the pod of all backends that has `least`, and of the one that has \
         `most`; 0 until there is a table.",
    );
    AFFINITY_ACTUAL_SHARES = gauge(
        "clingfish_affinity_actual_share_ratio",
        &["of", "extreme"],
        "What a pod got in the last minute of the `requests` with a key that the workers remember (2,048 each), or of their `sessions`, in shares of what its weight entitles it \
         to: of the pod of all backends that has `least`, and of the one that has `most`. Backends with fewer than 20 for each pod do not count. It is made when it is scraped.",
    );
    REJECTED_OBJECTS = gauge("clingfish_rejected_objects", &[], "Objects whose status says that something in them is refused.");
    NOTICES = gauge("clingfish_notices", &[], "Notices about the configuration that are current; GET /config shows them.");
    HOSTNAME_CONFLICTS = gauge(
        "clingfish_hostname_conflicts",
        &[],
        "Hostnames that routes of several namespaces claim on one listener; GET /config names them among the notices.",
    );
    CONFIG_CHANGES = counter("clingfish_config_changes_total", &[], "Changes of objects that were taken in.");
    ENGINE_LAST_SUCCESS = gauge(
        "clingfish_engine_last_success_seconds",
        &[],
        "When the engine last finished a translation, seconds since the epoch.",
    );
    ENGINE_BUSY = gauge("clingfish_engine_busy_seconds", &[], "How long the engine has been at its current work. Alert when it grows: the engine hangs.");
    ACCESS_LOG_DROPPED = counter("clingfish_access_log_dropped_total", &[], "Lines of the access log that were dropped because the writer lagged.");
    TRACE_SPANS = counter(
        "clingfish_trace_spans_total",
        &["result"],
        "Spans of recorded requests: `exported`, `queue_full` (the collector is slow or gone), `refused` (by the collector) or `unsent` (the \
         process ended first).",
    );
    WATCH_AGE = gauge(
        "clingfish_watch_age_seconds",
        &["kind"],
        "In a cluster: time since the last sign that the watch of this kind is up to date: an answer of its own, or, while it is open, any \
         answer of the API server; more than 15 means that it does not respond.",
    );
    LEADER = gauge("clingfish_leader", &[], "In a cluster: 1 where this process holds the Lease and writes statuses and Services.");
    CONTROLLER_NAME_CONFLICT = gauge(
        "clingfish_controller_name_conflict",
        &[],
        "In a cluster, in the holder of the Lease: 1 while an older install has the same controllerName: this install writes nothing. Alert on it.",
    );
    STATUS_WRITES = counter(
        "clingfish_status_writes_total",
        &["result"],
        "In a cluster: writes of statuses: `written`, `conflict` (computed again) or `failed` (tried again).",
    );
    SERVICES_REFUSED = gauge(
        "clingfish_services_refused",
        &[],
        "In a cluster, in the leader: Services of Gateways that the API server refuses; the Gateways' condition Programmed says why.",
    );
    AFFINITY_SLOTS_REFUSED = gauge(
        "clingfish_affinity_slots_refused",
        &[],
        "In a cluster, in the leader: maps of slots (AffinitySlots) that the API server refuses; the condition SlotsWritten of the AffinityPolicies says why.",
    );
    CONTROLLER_RESTARTS = counter(
        "clingfish_controller_restarts_total",
        &[],
        "In a cluster: how often the controller panicked and was started again; the last snapshot serves meanwhile.",
    );
    CONTROLLER_HEARTBEAT_AGE = gauge(
        "clingfish_controller_heartbeat_age_seconds",
        &[],
        "In a cluster: time since the controller's loop last ran. Alert when it grows: the controller hangs.",
    );
}

// === impl Family ===

impl FamilyKind {
    /// The type as Prometheus writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The table as docs/metrics.md shows it.
pub fn markdown() -> String {
    use std::fmt::Write as _;
    let mut out = String::from(
        "# Metrics\n\n`GET /metrics` of the admin port. The number of series does not grow with routes, hosts, paths or clients.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in ALL {
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "| `{}` | {} | {labels} | {} |", family.name, family.kind.as_str(), family.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ours_unique_and_follow_prometheus_conventions() {
        for (i, family) in ALL.iter().enumerate() {
            assert!(family.name.starts_with("clingfish_"), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == FamilyKind::Counter, "{}", family.name);
            assert!(ALL.iter().skip(i + 1).all(|other| other.name != family.name), "{} twice", family.name);
            assert!(family.help.ends_with('.'), "{}", family.name);
            assert!(!family.help.contains('|'), "{}", family.name);
        }
    }

    #[test]
    fn the_documentation_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        #[expect(clippy::disallowed_methods, reason = "how a person regenerates the file")]
        if std::env::var("GOLDEN_UPDATE").is_ok() {
            std::fs::write(path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == markdown(), "docs/metrics.md differs from the table; run: GOLDEN_UPDATE=1 cargo test --lib families");
    }
}
