//! How a listener terminates TLS.

use std::sync::Arc;

use crate::snapshot::{Certificate, TlsSettings};
use crate::translate::condition::Refusal;

/// How an HTTPS listener terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::translate) struct ListenerTls {
    /// In the order of the references; without any, the listener does not serve.
    pub(super) certificates: Arc<[Arc<Certificate>]>,
    pub(super) settings: TlsSettings,
    /// What of the references does not hold.
    pub(in crate::translate) unresolved: Option<Refusal>,
    /// Which listeners of the port have hostnames in common with this one.
    pub(in crate::translate::gateway) overlaps: Option<String>,
    /// The listener is refused for what it asks of clients: it has no certificate, and its hostname stays its own.
    pub(in crate::translate::gateway) is_withheld: bool,
    /// What an operator should read although the listener serves.
    pub(super) remarks: Vec<String>,
}

// === impl ListenerTls ===

impl ListenerTls {
    /// Whether handshakes can be answered.
    pub(in crate::translate::gateway) fn is_usable(&self) -> bool {
        !self.certificates.is_empty()
    }
}
