//! The last requests of a worker that went to a host: which key went where. The page shows from them where sessions are.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
};

use tokio::time::Instant;

/// Requests that are kept of each worker: 64 KiB.
const KEPT: usize = 2048;

/// Bits of a stamp that tell apart what happens within one millisecond.
const TURN_BITS: u32 = 20;

/// The last requests of one worker. Only the worker's own thread writes, by plain stores, and any thread reads.
#[derive(Debug)]
pub(super) struct RecentRequests {
    began: Instant,
    next: AtomicU64,
    kept: Box<[Kept]>,
}

/// A request that went to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentRequest {
    /// When, in milliseconds since the process counts.
    pub at: u64,
    /// `ClusterId` of the backend.
    pub cluster: u32,
    /// The host, as `host_number` gives it.
    pub host: u64,
    /// The hash of the key; `None` without a key.
    pub hash: Option<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// When and which; 0 while the rest is written.
    stamp: AtomicU64,
    hash: AtomicU64,
    host: AtomicU64,
    /// The cluster, and whether there is a hash.
    cluster: AtomicU64,
}

/// A number that stands for an address: its own for IPv4, one that no other host of a backend has in practice for IPv6.
pub fn host_number(address: SocketAddr) -> u64 {
    let port = u64::from(address.port());
    match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()) << 16 | port,
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            ((bits >> 64) as u64).rotate_left(29) ^ (bits as u64).rotate_left(16) ^ port
        }
    }
}

// === impl RecentRequests ===

impl Default for RecentRequests {
    fn default() -> Self {
        Self { began: Instant::now(), next: AtomicU64::new(0), kept: (0..KEPT).map(|_| Kept::default()).collect() }
    }
}

impl RecentRequests {
    /// Keeps a request in the place of the oldest one.
    pub(super) fn note(&self, at: Instant, cluster: u32, address: SocketAddr, hash: Option<u64>) {
        let turn = self.next.load(Relaxed);
        self.next.store(turn.wrapping_add(1), Relaxed);
        let Some(kept) = self.kept.get(turn as usize % KEPT) else { return };
        let milliseconds = at.saturating_duration_since(self.began).as_millis() as u64;
        // The lowest bit is set, since 0 means that there is nothing to read.
        let stamp = milliseconds << TURN_BITS | (turn << 1 | 1) & ((1 << TURN_BITS) - 1);
        kept.stamp.store(0, Relaxed);
        fence(Release);
        kept.hash.store(hash.unwrap_or_default(), Relaxed);
        kept.host.store(host_number(address), Relaxed);
        kept.cluster.store(u64::from(cluster) << 1 | u64::from(hash.is_some()), Relaxed);
        kept.stamp.store(stamp, Release);
    }

    /// What is kept, in no order. What is written at this moment is left out.
    pub(super) fn read(&self) -> impl Iterator<Item = RecentRequest> {
        self.kept.iter().filter_map(Kept::read)
    }
}

// === impl Kept ===

impl Kept {
    fn read(&self) -> Option<RecentRequest> {
        let stamp = self.stamp.load(Acquire);
        let (hash, host, cluster) = (self.hash.load(Relaxed), self.host.load(Relaxed), self.cluster.load(Relaxed));
        fence(Acquire);
        (stamp != 0 && self.stamp.load(Relaxed) == stamp).then(|| RecentRequest {
            at: stamp >> TURN_BITS,
            cluster: u32::try_from(cluster >> 1).unwrap_or(u32::MAX),
            host,
            hash: (cluster & 1 == 1).then_some(hash),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn the_last_ones_are_kept() {
        let recent = RecentRequests::default();
        assert_eq!(recent.read().count(), 0);
        recent.note(recent.began, 7, address(1), None);
        recent.note(recent.began + Duration::from_millis(1500), 8, address(2), Some(0));
        let read: Vec<_> = recent.read().collect();
        let expected = [
            RecentRequest { at: 0, cluster: 7, host: host_number(address(1)), hash: None },
            RecentRequest { at: 1500, cluster: 8, host: host_number(address(2)), hash: Some(0) },
        ];
        assert_eq!(read, expected);
        for turn in 0..KEPT as u64 {
            recent.note(recent.began, 1, address(1), Some(turn));
        }
        assert_eq!(recent.read().count(), KEPT);
        assert!(recent.read().all(|request| request.cluster == 1), "the first two are gone");
    }

    #[test]
    fn hosts_have_numbers_of_their_own() {
        let texts = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:81", "[fd00::1]:80", "[fd00::2]:80", "[fd00::1]:81", "[fd00:1::1]:80"];
        let numbers: std::collections::BTreeSet<_> = texts.iter().map(|text| host_number(text.parse().unwrap())).collect();
        assert_eq!(numbers.len(), texts.len());
    }

    #[test]
    fn a_reader_never_sees_half_of_a_request() {
        let recent = Arc::new(RecentRequests::default());
        let writer = std::thread::spawn({
            let recent = Arc::clone(&recent);
            move || {
                for turn in 0..200_000_u32 {
                    recent.note(recent.began, turn, SocketAddr::from((turn.to_be_bytes(), 0)), Some(u64::from(turn)));
                }
            }
        });
        while !writer.is_finished() {
            for request in recent.read() {
                assert_eq!((request.host >> 16, request.hash), (u64::from(request.cluster), Some(u64::from(request.cluster))));
            }
        }
        writer.join().unwrap();
        assert_eq!(recent.read().count(), KEPT);
    }
}
