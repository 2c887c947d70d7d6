//! What is counted outside the data plane.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

use crate::base::{MemoryReading, OverloadLevel};

use super::cells::{Count, Histogram};

/// Bounds of translation durations, in microseconds.
pub(super) const TRANSLATE_BOUNDS: [u64; 11] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000];

/// Bounds of shares of keys, in millionths.
pub(super) const SHARE_BOUNDS: [u64; 10] = [0, 1_000, 10_000, 50_000, 100_000, 200_000, 350_000, 500_000, 750_000, 1_000_000];

/// Counters of the controller: one engine writes them.
#[derive(Debug)]
pub struct ControlMetrics {
    pub(super) started: SystemTime,
    pub(super) snapshot_generation: Count,
    pub(super) snapshot_digest: Count,
    pub(super) translate: Histogram<{ TRANSLATE_BOUNDS.len() + 1 }>,
    pub(super) table_build: Histogram<{ TRANSLATE_BOUNDS.len() + 1 }>,
    pub(super) ring_builds: Count,
    pub(super) maglev_builds: Count,
    pub(super) tables_being_built: Count,
    pub(super) draining_hosts: Count,
    pub(super) remapped: Histogram<{ SHARE_BOUNDS.len() + 1 }>,
    pub(super) needlessly_remapped: Histogram<{ SHARE_BOUNDS.len() + 1 }>,
    pub(super) rejected_objects: Count,
    pub(super) notices: Count,
    pub(super) hostname_conflicts: Count,
    pub(super) config_changes: Count,
    pub(super) engine_panics: Count,
    pub(super) engine_last_success: Count,
    pub(super) access_log_dropped: Arc<AtomicU64>,
    pub(super) overload_level: Count,
    pub(super) memory_used: Count,
    /// 0 until a limit was seen.
    pub(super) memory_limit: Count,
    pub(super) max_connections: Count,
    pub(super) max_flows: Count,
    pub(super) max_buffered_bytes: Count,
    engine_busy_since: Mutex<Option<Instant>>,
    certificate_expiries: Mutex<Vec<CertificateExpiry>>,
}

/// When the first certificate of a listener expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// The Gateway, as namespace/name.
    pub gateway: String,
    /// Name of the listener.
    pub listener: Arc<str>,
    /// Seconds since the epoch.
    pub not_after: i64,
}

/// Listeners whose certificates are told of.
const MAX_EXPIRIES: usize = 1_000;

// === impl ControlMetrics ===

impl Default for ControlMetrics {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            snapshot_generation: Count::default(),
            snapshot_digest: Count::default(),
            translate: Histogram::default(),
            table_build: Histogram::default(),
            ring_builds: Count::default(),
            maglev_builds: Count::default(),
            tables_being_built: Count::default(),
            draining_hosts: Count::default(),
            remapped: Histogram::default(),
            needlessly_remapped: Histogram::default(),
            rejected_objects: Count::default(),
            notices: Count::default(),
            hostname_conflicts: Count::default(),
            config_changes: Count::default(),
            engine_panics: Count::default(),
            engine_last_success: Count::default(),
            access_log_dropped: Arc::default(),
            overload_level: Count::default(),
            memory_used: Count::default(),
            memory_limit: Count::default(),
            max_connections: Count::default(),
            max_flows: Count::default(),
            max_buffered_bytes: Count::default(),
            engine_busy_since: Mutex::new(None),
            certificate_expiries: Mutex::default(),
        }
    }
}

impl ControlMetrics {
    /// The engine begins to work on changes.
    pub fn engine_started(&self) {
        self.set_busy_since(Some(Instant::now()));
    }

    /// The engine has published this generation, having worked for `duration`.
    pub fn engine_finished(&self, generation: u64, duration: Duration) {
        self.snapshot_generation.set(generation);
        self.translate.observe(micros(duration), &TRANSLATE_BOUNDS);
        self.engine_last_success.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        self.set_busy_since(None);
    }

    /// A number that replicas which serve the same have in common.
    pub fn set_snapshot_digest(&self, digest: u64) {
        self.snapshot_digest.set(digest);
    }

    /// The engine's work panicked.
    pub fn engine_panicked(&self) {
        self.engine_panics.add_shared(1);
        self.set_busy_since(None);
    }

    /// How long the engine has been at its current work; zero when idle.
    pub fn engine_busy(&self) -> Duration {
        let since = self.engine_busy_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| since.elapsed()).unwrap_or_default()
    }

    /// So many tables were built in `duration`.
    pub fn tables_built(&self, rings: u64, maglevs: u64, duration: Duration) {
        self.ring_builds.add(rings);
        self.maglev_builds.add(maglevs);
        self.table_build.observe(micros(duration), &TRANSLATE_BOUNDS);
    }

    /// Hosts that serve the sessions that they have, and get no new ones.
    pub fn set_draining_hosts(&self, hosts: usize) {
        self.draining_hosts.set(hosts as u64);
    }

    /// Hash tables that clusters wait for.
    pub fn set_tables_being_built(&self, tables: usize) {
        self.tables_being_built.set(tables as u64);
    }

    /// A table was replaced: these shares (0 to 1) of the keys moved, and moved needlessly.
    pub fn remapped(&self, moved: f64, needlessly: f64) {
        self.remapped.observe(millionths(moved), &SHARE_BOUNDS);
        self.needlessly_remapped.observe(millionths(needlessly), &SHARE_BOUNDS);
    }

    /// Objects in whose status something is refused, and current notices.
    pub fn set_findings(&self, rejected: usize, notices: usize) {
        self.rejected_objects.set(rejected as u64);
        self.notices.set(notices as u64);
    }

    /// Hostnames that routes of several namespaces claim on one listener.
    pub fn set_hostname_conflicts(&self, conflicts: usize) {
        self.hostname_conflicts.set(conflicts as u64);
    }

    /// Changes of objects were taken in.
    pub fn config_changed(&self, changes: usize) {
        self.config_changes.add(changes as u64);
    }

    /// Memory was looked at.
    pub fn set_memory(&self, reading: MemoryReading, level: OverloadLevel) {
        self.memory_used.set(reading.used);
        self.memory_limit.set(reading.limit);
        self.overload_level.set(level as u64);
    }

    /// Connections of clients and flows of UDP that may be open, and bytes that may be buffered, at a time.
    pub fn set_ceilings(&self, connections: usize, flows: usize, buffered_bytes: u64) {
        self.max_connections.set(connections as u64);
        self.max_flows.set(flows as u64);
        self.max_buffered_bytes.set(buffered_bytes);
    }

    /// Certificates that listeners serve now, all of them.
    pub fn set_certificate_expiries(&self, mut expiries: Vec<CertificateExpiry>) {
        expiries
            .sort_by(|one, other| (one.not_after, &one.gateway, &one.listener).cmp(&(other.not_after, &other.gateway, &other.listener)));
        expiries.truncate(MAX_EXPIRIES);
        *self.lock_expiries() = expiries;
    }

    pub(super) fn certificate_expiries(&self) -> Vec<CertificateExpiry> {
        self.lock_expiries().clone()
    }

    fn lock_expiries(&self) -> MutexGuard<'_, Vec<CertificateExpiry>> {
        self.certificate_expiries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Objects in whose status something is refused.
    pub fn rejected_objects(&self) -> u64 {
        self.rejected_objects.get()
    }

    /// Hash tables that clusters wait for.
    pub fn tables_being_built(&self) -> u64 {
        self.tables_being_built.get()
    }

    /// Panics of the engine so far.
    pub fn engine_panics(&self) -> u64 {
        self.engine_panics.get()
    }

    /// Counts lines that the access log had to drop.
    pub fn access_log_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.access_log_dropped)
    }

    pub(super) fn dropped_lines(&self) -> u64 {
        self.access_log_dropped.load(Relaxed)
    }

    fn set_busy_since(&self, since: Option<Instant>) {
        *self.engine_busy_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millionths(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * 1e6).round() as u64
}
