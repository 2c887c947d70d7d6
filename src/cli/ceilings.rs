//! Flags that say how much the data plane takes on.

use clap::Args;

use crate::settings::RawCeilings;

/// Ceilings of the data plane, of every command that serves.
#[derive(Clone, Debug, Default, Args)]
pub struct CeilingArgs {
    /// Most connections of clients at a time; further ones are closed at once [default, and 0: what descriptors and memory allow]
    #[arg(long, env = "CLINGFISH_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<usize>,
    /// Most connections of clients of one port at a time [default, and 0: four fifths of --max-connections]
    #[arg(long, env = "CLINGFISH_MAX_CONNECTIONS_PER_LISTENER", value_name = "N")]
    pub max_connections_per_listener: Option<usize>,
    /// Most flows of UDP at a time; a new one takes the place of one that has been quiet, or is dropped [default, and 0: half of what descriptors
    /// and memory allow for connections, at most 20000]
    #[arg(long, env = "CLINGFISH_MAX_UDP_FLOWS", value_name = "N")]
    pub max_udp_flows: Option<usize>,
    /// Most flows of UDP of one port at a time [default, and 0: four fifths of --max-udp-flows]
    #[arg(long, env = "CLINGFISH_MAX_UDP_FLOWS_PER_LISTENER", value_name = "N")]
    pub max_udp_flows_per_listener: Option<usize>,
    /// Most TLS handshakes at a time; further ones wait [default, and 0: 256 for each worker]
    #[arg(long, env = "CLINGFISH_MAX_TLS_HANDSHAKES", value_name = "N")]
    pub max_tls_handshakes: Option<usize>,
    /// Most bytes buffered at a time for all connections together [default, and 0: a quarter of the memory limit, 1Gi without one]
    #[arg(long, env = "CLINGFISH_MAX_BUFFERED_BYTES", value_name = "BYTES", value_parser = bytes)]
    pub max_buffered_bytes: Option<u64>,
    /// Memory that the process should not exceed, beside its cgroup's limit; near it the gateway refuses new work, as docs/limits.md says
    #[arg(long, env = "CLINGFISH_MAX_HEAP_SIZE", value_name = "BYTES", value_parser = bytes)]
    pub max_heap_size: Option<u64>,
}

// === impl CeilingArgs ===

impl From<CeilingArgs> for RawCeilings {
    fn from(arguments: CeilingArgs) -> Self {
        Self {
            max_connections: arguments.max_connections,
            max_connections_per_listener: arguments.max_connections_per_listener,
            max_udp_flows: arguments.max_udp_flows,
            max_udp_flows_per_listener: arguments.max_udp_flows_per_listener,
            max_tls_handshakes: arguments.max_tls_handshakes,
            max_buffered_bytes: arguments.max_buffered_bytes,
            max_heap_size: arguments.max_heap_size,
        }
    }
}

/// A number of bytes, as Kubernetes writes quantities of memory: `134217728`, `128Mi`, `1G`.
fn bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?} is no number of bytes; expected for example 134217728, 128Mi or 1Gi");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return Err(expected()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_in_kubernetes() {
        for (text, expected) in [("0", 0), ("134217728", 128 << 20), ("128Mi", 128 << 20), ("64Ki", 65_536), ("2G", 2_000_000_000)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "Mi", "1.5Gi", "-1", "1 Gi", "1mi", "99999999999999999999", "18446744073709551615Ki"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
