//! How long a client's connection may keep quiet. Pure: the worker's tick tells what it sees, and this decides which timeout has passed.

use std::time::Duration;

use tokio::time::Instant;

use super::config::Limits;

/// What the tick sees of a connection at one time.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct ConnectionSample {
    /// Protocol, once its first bytes have arrived.
    pub(in crate::proxy) protocol: Option<Protocol>,
    /// Requests whose response has not ended.
    pub(in crate::proxy) requests: u32,
    /// Requests that have ended so far, wrapping.
    pub(in crate::proxy) served: u32,
    /// Reads so far, wrapping.
    pub(in crate::proxy) reads: u32,
    /// A frame or a header block of HTTP/2, or much of a record of TLS, has come and not its end.
    pub(in crate::proxy) within_head: bool,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Protocol {
    Http1,
    Http2,
}

/// A timeout of the client that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum ClientTimeout {
    /// Nothing was ever sent.
    FirstByte,
    /// A request head does not end.
    Head,
    /// No request comes.
    KeepAlive,
}

/// What the tick remembers of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Timing {
    state: ConnectionState,
    since: Instant,
    reads: u32,
    served: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    /// It waits for the first byte.
    FirstByte,
    /// It waits for the rest of a request head.
    Head,
    /// It waits for the next request.
    Idle,
    /// It serves a request.
    Busy,
}

/// How long a client has not taken what waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct Stall {
    since: Option<Instant>,
    writes: u32,
}

// === impl Stall ===

impl Stall {
    /// Looks at a connection: whether something waits to be written, and how many writes there were (wrapping). True once nothing could be
    /// written for `limit`.
    pub(in crate::proxy) fn look(&mut self, stalled: bool, writes: u32, now: Instant, limit: Duration) -> bool {
        if !stalled {
            self.since = None;
            return false;
        }
        let since = self.since.filter(|_| self.writes == writes).unwrap_or(now);
        *self = Self { since: Some(since), writes };
        now.duration_since(since) >= limit
    }
}

// === impl Timing ===

impl Timing {
    /// A connection accepted now.
    pub(in crate::proxy) fn new(now: Instant) -> Self {
        Self { state: ConnectionState::FirstByte, since: now, reads: 0, served: 0 }
    }

    /// Looks at the connection; `Some` once its time is up.
    pub(in crate::proxy) fn look(&mut self, sample: ConnectionSample, now: Instant, limits: &Limits) -> Option<ClientTimeout> {
        let state = self.state_of(sample);
        let restart = state != self.state || self.served != sample.served;
        if restart {
            *self = Self { state, since: now, reads: sample.reads, served: sample.served };
        }
        let (limit, timeout) = match state {
            ConnectionState::Busy => return None,
            ConnectionState::FirstByte => (limits.first_byte, ClientTimeout::FirstByte),
            ConnectionState::Head => (limits.request_head, ClientTimeout::Head),
            ConnectionState::Idle => (Self::idle_limit(sample, limits), ClientTimeout::KeepAlive),
        };
        (now.duration_since(self.since) >= limit).then_some(timeout)
    }

    /// Whether an HTTP/1 connection that was just looked at has waited long enough for its next request to do without its buffers.
    pub(in crate::proxy) fn may_rest(&self, sample: ConnectionSample, now: Instant, limits: &Limits) -> bool {
        sample.protocol == Some(Protocol::Http1)
            && self.state == ConnectionState::Idle
            && now.duration_since(self.since) >= limits.rest_after
    }

    fn state_of(&self, sample: ConnectionSample) -> ConnectionState {
        let Some(protocol) = sample.protocol else { return ConnectionState::FirstByte };
        if sample.requests > 0 {
            return ConnectionState::Busy;
        }
        if protocol == Protocol::Http2 {
            return if sample.within_head { ConnectionState::Head } else { ConnectionState::Idle };
        }
        if sample.within_head {
            return ConnectionState::Head;
        }
        if sample.served != self.served {
            return ConnectionState::Idle;
        }
        match self.state {
            // The first bytes were seen, so a head has begun.
            ConnectionState::FirstByte | ConnectionState::Head => ConnectionState::Head,
            ConnectionState::Idle if self.reads != sample.reads => ConnectionState::Head,
            ConnectionState::Idle | ConnectionState::Busy => ConnectionState::Idle,
        }
    }

    fn idle_limit(sample: ConnectionSample, limits: &Limits) -> Duration {
        match sample.protocol {
            Some(Protocol::Http2) => limits.http2_idle,
            Some(Protocol::Http1) | None => limits.keep_alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H1: ConnectionSample = ConnectionSample { protocol: Some(Protocol::Http1), requests: 0, served: 0, reads: 1, within_head: false };

    struct Watch {
        timing: Timing,
        start: Instant,
        limits: Limits,
    }

    impl Watch {
        fn new() -> Self {
            let start = Instant::now();
            Self { timing: Timing::new(start), start, limits: Limits::default() }
        }

        fn at(&mut self, second: u64, sample: ConnectionSample) -> Option<ClientTimeout> {
            self.timing.look(sample, self.start + Duration::from_secs(second), &self.limits)
        }
    }

    #[test]
    fn a_record_that_does_not_end_is_a_head_that_does_not() {
        let mut watch = Watch::new();
        assert_eq!(watch.at(0, ConnectionSample { requests: 1, ..H1 }), None);
        // It has come before the tick saw the end of the request.
        let sample = ConnectionSample { served: 1, within_head: true, ..H1 };
        assert_eq!((watch.at(1, sample), watch.at(10, sample)), (None, None));
        assert_eq!(watch.at(11, sample), Some(ClientTimeout::Head));
        assert_eq!(watch.at(11, ConnectionSample { within_head: false, reads: 2, ..sample }), Some(ClientTimeout::Head), "more has come");
    }

    #[test]
    fn a_silent_connection_ends_after_ten_seconds() {
        let mut watch = Watch::new();
        let silent = ConnectionSample { protocol: None, reads: 0, ..H1 };
        assert_eq!(watch.at(9, silent), None);
        assert_eq!(watch.at(10, silent), Some(ClientTimeout::FirstByte));
    }

    #[test]
    fn dripping_a_head_does_not_help() {
        let mut watch = Watch::new();
        for second in 0..10 {
            assert_eq!(watch.at(second, ConnectionSample { reads: second as u32, ..H1 }), None, "{second}");
        }
        assert_eq!(watch.at(10, ConnectionSample { reads: 10, ..H1 }), Some(ClientTimeout::Head));
    }

    #[test]
    fn keep_alive_outlives_the_head_limit_until_the_next_head_begins() {
        let mut watch = Watch::new();
        let idle = ConnectionSample { served: 1, reads: 2, ..H1 };
        assert_eq!(watch.at(1, ConnectionSample { requests: 1, ..H1 }), None);
        assert_eq!(watch.at(2, idle), None);
        assert_eq!(watch.at(70, idle), None);
        assert_eq!(watch.at(71, ConnectionSample { reads: 3, ..idle }), None);
        assert_eq!(watch.at(80, ConnectionSample { reads: 4, ..idle }), None);
        assert_eq!(watch.at(81, ConnectionSample { reads: 5, ..idle }), Some(ClientTimeout::Head));
    }

    #[test]
    fn an_idle_connection_ends_after_its_own_limit() {
        let mut watch = Watch::new();
        let idle = ConnectionSample { served: 1, reads: 2, ..H1 };
        assert_eq!(watch.at(2, idle), None);
        assert_eq!(watch.at(76, idle), None);
        assert_eq!(watch.at(77, idle), Some(ClientTimeout::KeepAlive));
    }

    #[test]
    fn only_an_idle_http1_connection_rests() {
        let idle = ConnectionSample { served: 1, reads: 2, ..H1 };
        let rests = |seen: &[(u64, ConnectionSample)]| {
            let mut watch = Watch::new();
            for (second, sample) in seen {
                assert_eq!(watch.at(*second, *sample), None);
            }
            let (second, sample) = seen.last().unwrap();
            watch.timing.may_rest(*sample, watch.start + Duration::from_secs(*second), &watch.limits)
        };
        assert!(rests(&[(1, idle), (2, idle)]));
        assert!(!rests(&[(1, idle)]), "it may have become idle just now");
        assert!(!rests(&[(1, H1), (5, H1)]), "a head has begun");
        assert!(!rests(&[(1, idle), (2, ConnectionSample { reads: 3, ..idle })]), "the next head has begun");
        assert!(!rests(&[(1, idle), (2, ConnectionSample { requests: 1, ..idle })]), "a request is in flight");
        let http2 = ConnectionSample { protocol: Some(Protocol::Http2), ..idle };
        assert!(!rests(&[(1, http2), (9, http2)]), "its state is not ours to take apart");
    }

    #[test]
    fn requests_between_two_looks_count() {
        let mut watch = Watch::new();
        for second in 0..200 {
            let served = second as u32 + 1;
            assert_eq!(watch.at(second, ConnectionSample { served, reads: served, ..H1 }), None, "{second}");
        }
    }

    #[test]
    fn a_request_in_flight_is_not_ours_to_end() {
        let mut watch = Watch::new();
        assert_eq!(watch.at(1_000_000, ConnectionSample { requests: 1, ..H1 }), None);
    }

    #[test]
    fn a_client_that_reads_nothing_is_told_from_one_that_reads_slowly() {
        let start = Instant::now();
        let mut stall = Stall::default();
        let mut at =
            |second: u64, stalled, writes| stall.look(stalled, writes, start + Duration::from_secs(second), Duration::from_secs(60));
        assert!(!at(0, true, 1));
        assert!(!at(59, true, 1));
        assert!(!at(60, true, 2), "something was read");
        assert!(!at(119, true, 2));
        assert!(!at(119, false, 2), "everything was read");
        assert!(!at(120, true, 2));
        assert!(at(180, true, 2));
    }

    #[test]
    fn an_http2_head_that_does_not_end_is_one_too() {
        let mut watch = Watch::new();
        let begun = ConnectionSample { protocol: Some(Protocol::Http2), within_head: true, ..H1 };
        assert_eq!(watch.at(0, begun), None);
        assert_eq!(watch.at(9, ConnectionSample { reads: 9, ..begun }), None);
        assert_eq!(watch.at(10, ConnectionSample { reads: 10, ..begun }), Some(ClientTimeout::Head));
    }

    #[test]
    fn http2_is_idle_without_streams_whatever_frames_arrive() {
        let mut watch = Watch::new();
        let idle = ConnectionSample { protocol: Some(Protocol::Http2), ..H1 };
        for second in 0..300 {
            assert_eq!(watch.at(second, ConnectionSample { reads: second as u32, ..idle }), None, "{second}");
        }
        assert_eq!(watch.at(300, ConnectionSample { reads: 300, ..idle }), Some(ClientTimeout::KeepAlive));
    }
}
