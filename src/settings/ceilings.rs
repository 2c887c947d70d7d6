//! The ceilings of the data plane: those that were asked for, else what descriptors, memory and processors allow.

use super::error::{SettingsError, refused};

/// Memory for each connection, in bytes. An idle one with TLS holds half of that at most; the other half is for what is in flight.
const BYTES_PER_CONNECTION: u64 = 64 * 1024;

/// Fewest and most connections that are chosen without being asked for.
const FEWEST_CONNECTIONS: usize = 64;
const MOST_CONNECTIONS: usize = 1_000_000;

/// Most flows of UDP that are chosen without being asked for. Each has a socket with a port of its own, of which Linux has 28,232 by default.
const MOST_FLOWS: usize = 20_000;

/// Handshakes in progress for each worker. More would not make them faster: the processor is busy with these.
const HANDSHAKES_PER_WORKER: usize = 256;

/// Bytes buffered where nothing limits memory.
const UNLIMITED_BUFFERS: u64 = 1 << 30;

/// Least memory that a gateway can work with.
const LEAST_HEAP: u64 = 32 << 20;

/// Least bytes for buffers: less than a few connections need would slow everything down.
const LEAST_BUFFERS: u64 = 1 << 20;

/// Ceilings that were asked for; `None`: chosen at the start by what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CeilingSettings {
    /// Connections of clients at a time.
    pub max_connections: Option<usize>,
    /// Connections of clients at a time on one port.
    pub max_connections_per_listener: Option<usize>,
    /// Flows of UDP at a time.
    pub max_udp_flows: Option<usize>,
    /// Flows of UDP at a time on one port.
    pub max_udp_flows_per_listener: Option<usize>,
    /// TLS handshakes in progress at a time.
    pub max_tls_handshakes: Option<usize>,
    /// Bytes buffered at a time for all connections together.
    pub max_buffered_bytes: Option<u64>,
    /// Resident memory, in bytes, against which the process is held besides its cgroup's limit; `None`: that alone.
    pub max_heap_size: Option<u64>,
}

/// Ceilings as they were given; 0 is the default, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCeilings {
    /// `--max-connections`.
    pub max_connections: Option<usize>,
    /// `--max-connections-per-listener`.
    pub max_connections_per_listener: Option<usize>,
    /// `--max-udp-flows`.
    pub max_udp_flows: Option<usize>,
    /// `--max-udp-flows-per-listener`.
    pub max_udp_flows_per_listener: Option<usize>,
    /// `--max-tls-handshakes`.
    pub max_tls_handshakes: Option<usize>,
    /// `--max-buffered-bytes`.
    pub max_buffered_bytes: Option<u64>,
    /// `--max-heap-size`.
    pub max_heap_size: Option<u64>,
}

/// What the system grants.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Connections of clients for which there are descriptors.
    pub connections: usize,
    /// The least memory limit, in bytes; `None`: there is none.
    pub memory: Option<u64>,
}

/// Ceilings that are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CeilingsInForce {
    /// Connections of clients at a time.
    pub connections: usize,
    /// Connections of clients at a time on one port.
    pub connections_per_listener: usize,
    /// Flows of UDP at a time.
    pub flows: usize,
    /// Flows of UDP at a time on one port.
    pub flows_per_listener: usize,
    /// TLS handshakes in progress at a time.
    pub tls_handshakes: usize,
    /// Bytes buffered at a time for all connections together.
    pub buffered_bytes: u64,
}

// === impl RawCeilings ===

impl RawCeilings {
    /// Validates.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub(super) fn validate(self) -> Result<CeilingSettings, SettingsError> {
        let given = |value: Option<usize>| value.filter(|value| *value > 0);
        let max_connections = given(self.max_connections);
        let max_connections_per_listener = given(self.max_connections_per_listener);
        let max_udp_flows = given(self.max_udp_flows);
        let max_udp_flows_per_listener = given(self.max_udp_flows_per_listener);
        for (flag, per_listener, of_all, most) in [
            ("--max-connections-per-listener", max_connections_per_listener, "--max-connections", max_connections),
            ("--max-udp-flows-per-listener", max_udp_flows_per_listener, "--max-udp-flows", max_udp_flows),
        ] {
            if let (Some(most), Some(per_listener)) = (most, per_listener)
                && per_listener > most
            {
                return Err(refused(flag, format!("{per_listener} is more than {of_all}, {most}")));
            }
        }
        Ok(CeilingSettings {
            max_connections,
            max_connections_per_listener,
            max_udp_flows,
            max_udp_flows_per_listener,
            max_tls_handshakes: given(self.max_tls_handshakes),
            max_buffered_bytes: at_least("--max-buffered-bytes", self.max_buffered_bytes, LEAST_BUFFERS)?,
            max_heap_size: at_least("--max-heap-size", self.max_heap_size, LEAST_HEAP)?,
        })
    }
}

fn at_least(flag: &'static str, given: Option<u64>, least: u64) -> Result<Option<u64>, SettingsError> {
    match given.filter(|bytes| *bytes > 0) {
        Some(bytes) if bytes < least => {
            Err(refused(flag, format!("{bytes} bytes are too few; expected at least {}Mi, or 0 for the default", least >> 20)))
        }
        given => Ok(given),
    }
}

// === impl CeilingSettings ===

impl CeilingSettings {
    /// What is in force where the system grants this much.
    pub fn within(&self, granted: Granted, workers: usize) -> CeilingsInForce {
        let connections = self.max_connections.unwrap_or_else(|| granted.connections());
        let flows = self.max_udp_flows.unwrap_or_else(|| granted.flows());
        // Four fifths: a flood on one port leaves room on the others.
        let per_listener = self.max_connections_per_listener.unwrap_or(connections - connections / 5);
        let flows_per_listener = self.max_udp_flows_per_listener.unwrap_or(flows - flows / 5);
        CeilingsInForce {
            connections,
            connections_per_listener: per_listener.min(connections),
            flows,
            flows_per_listener: flows_per_listener.min(flows),
            tls_handshakes: self.max_tls_handshakes.unwrap_or(HANDSHAKES_PER_WORKER * workers),
            buffered_bytes: self.max_buffered_bytes.unwrap_or_else(|| granted.buffers()),
        }
    }
}

// === impl Granted ===

impl Granted {
    fn connections(self) -> usize {
        let by_memory = self.memory.and_then(|most| usize::try_from(most / BYTES_PER_CONNECTION).ok()).unwrap_or(usize::MAX);
        self.connections.min(by_memory).clamp(FEWEST_CONNECTIONS, MOST_CONNECTIONS)
    }

    /// Half as many as connections: clients of UDP need not even exist, and must not take all descriptors.
    fn flows(self) -> usize {
        (self.connections() / 2).clamp(FEWEST_CONNECTIONS, MOST_FLOWS)
    }

    /// A quarter of what there is: the rest is for connections, for configuration, for what the kernel buffers, and for memory that the
    /// allocator has not given back yet.
    fn buffers(self) -> u64 {
        self.memory.map_or(UNLIMITED_BUFFERS, |most| (most / 4).max(LEAST_BUFFERS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn chosen(connections: usize, memory: Option<u64>) -> CeilingsInForce {
        CeilingSettings::default().within(Granted { connections, memory }, 2)
    }

    #[test]
    fn connections_follow_the_scarcer_of_descriptors_and_memory() {
        for (granted, memory, connections, per_listener) in [
            (10_000, None, 10_000, 8_000),
            (10_000, Some(128 * MIB), 2_048, 1_639),
            (10_000, Some(8 << 30), 10_000, 8_000),
            (295, Some(128 * MIB), 295, 236),
            (10, None, 64, 52),
            (usize::MAX, None, 1_000_000, 800_000),
            (usize::MAX, Some(u64::MAX), 1_000_000, 800_000),
        ] {
            let chosen = chosen(granted, memory);
            assert_eq!((chosen.connections, chosen.connections_per_listener), (connections, per_listener), "{granted} {memory:?}");
            assert_eq!(chosen.tls_handshakes, 512);
            assert_eq!(chosen.flows, (connections / 2).clamp(64, 20_000), "{granted} {memory:?}");
            assert_eq!(chosen.flows_per_listener, chosen.flows - chosen.flows / 5);
        }
    }

    #[test]
    fn buffers_get_a_quarter_of_the_memory() {
        for (memory, expected) in [(None, 1 << 30), (Some(128 * MIB), 32 * MIB), (Some(MIB), MIB)] {
            assert_eq!(chosen(1_000, memory).buffered_bytes, expected, "{memory:?}");
        }
    }

    #[test]
    fn what_is_given_holds_and_zero_is_the_default() {
        let granted = Granted { connections: 1_000, memory: Some(MIB) };
        let given = RawCeilings {
            max_connections: Some(7),
            max_connections_per_listener: Some(7),
            max_udp_flows: Some(9),
            max_udp_flows_per_listener: Some(8),
            max_tls_handshakes: Some(1),
            max_buffered_bytes: Some(2 * MIB),
            max_heap_size: Some(32 * MIB),
        };
        let expected = CeilingsInForce {
            connections: 7,
            connections_per_listener: 7,
            flows: 9,
            flows_per_listener: 8,
            tls_handshakes: 1,
            buffered_bytes: 2 * MIB,
        };
        assert_eq!(given.validate().unwrap().within(granted, 2), expected);
        let zeros = RawCeilings {
            max_connections: Some(0),
            max_connections_per_listener: Some(0),
            max_udp_flows: Some(0),
            max_udp_flows_per_listener: Some(0),
            max_tls_handshakes: Some(0),
            max_buffered_bytes: Some(0),
            max_heap_size: Some(0),
        };
        assert_eq!(zeros.validate(), Ok(CeilingSettings::default()));
        let one_port = RawCeilings { max_connections_per_listener: Some(5_000), ..RawCeilings::default() };
        assert_eq!(one_port.validate().unwrap().within(granted, 2).connections_per_listener, 64, "no more than the process may have");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_flag() {
        for (raw, expected) in [
            (
                RawCeilings { max_connections: Some(10), max_connections_per_listener: Some(11), ..Default::default() },
                "--max-connections-per-listener: 11 is more than --max-connections, 10",
            ),
            (
                RawCeilings { max_udp_flows: Some(10), max_udp_flows_per_listener: Some(11), ..Default::default() },
                "--max-udp-flows-per-listener: 11 is more than --max-udp-flows, 10",
            ),
            (
                RawCeilings { max_heap_size: Some(MIB), ..Default::default() },
                "--max-heap-size: 1048576 bytes are too few; expected at least 32Mi, or 0 for the default",
            ),
            (
                RawCeilings { max_buffered_bytes: Some(1), ..Default::default() },
                "--max-buffered-bytes: 1 bytes are too few; expected at least 1Mi, or 0 for the default",
            ),
        ] {
            assert_eq!(raw.validate().unwrap_err().to_string(), expected);
        }
    }
}
