//! Conditions: their types and reasons as Gateway API names them, and how they are put together.

use crate::base::Message;
use crate::translate::Condition;

/// Condition types.
pub(super) mod kind {
    pub(in crate::translate) const ACCEPTED: &str = "Accepted";
    pub(in crate::translate) const AGREED: &str = "Agreed";
    pub(in crate::translate) const CONFLICTED: &str = "Conflicted";
    /// Negative polarity: never written as False.
    pub(in crate::translate) const INSECURE_FRONTEND_VALIDATION_MODE: &str = "InsecureFrontendValidationMode";
    /// Negative polarity: never written as False.
    pub(in crate::translate) const OVERLAPPING_TLS_CONFIG: &str = "OverlappingTLSConfig";
    /// Negative polarity: never written as False.
    pub(in crate::translate) const OVERRIDDEN: &str = "Overridden";
    pub(in crate::translate) const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    pub(in crate::translate) const PROGRAMMED: &str = "Programmed";
    pub(in crate::translate) const RESOLVED_REFS: &str = "ResolvedRefs";
    /// Only written as False: whether there is anything to write is seen when it is refused.
    pub(in crate::translate) const SLOTS_WRITTEN: &str = "SlotsWritten";
    pub(in crate::translate) const SUPPORTED_VERSION: &str = "SupportedVersion";
}

/// Condition reasons.
pub(super) mod reason {
    pub(in crate::translate) const ACCEPTED: &str = "Accepted";
    pub(in crate::translate) const ADDRESS_NOT_ASSIGNED: &str = "AddressNotAssigned";
    pub(in crate::translate) const ADDRESS_NOT_USABLE: &str = "AddressNotUsable";
    pub(in crate::translate) const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    pub(in crate::translate) const CONFIGURATION_CHANGED: &str = "ConfigurationChanged";
    pub(in crate::translate) const CONFLICTED: &str = "Conflicted";
    pub(in crate::translate) const HOSTNAME_CONFLICT: &str = "HostnameConflict";
    pub(in crate::translate) const INVALID: &str = "Invalid";
    pub(in crate::translate) const INVALID_CA_CERTIFICATE_KIND: &str = "InvalidCACertificateKind";
    pub(in crate::translate) const INVALID_CA_CERTIFICATE_REF: &str = "InvalidCACertificateRef";
    pub(in crate::translate) const INVALID_CERTIFICATE_REF: &str = "InvalidCertificateRef";
    pub(in crate::translate) const INVALID_CLIENT_CERTIFICATE_REF: &str = "InvalidClientCertificateRef";
    pub(in crate::translate) const INVALID_KIND: &str = "InvalidKind";
    pub(in crate::translate) const INVALID_PARAMETERS: &str = "InvalidParameters";
    pub(in crate::translate) const INVALID_ROUTE_KINDS: &str = "InvalidRouteKinds";
    pub(in crate::translate) const LISTENERS_NOT_RESOLVED: &str = "ListenersNotResolved";
    pub(in crate::translate) const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
    pub(in crate::translate) const NOT_ALLOWED: &str = "NotAllowed";
    pub(in crate::translate) const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
    pub(in crate::translate) const NO_CONFLICTS: &str = "NoConflicts";
    pub(in crate::translate) const NO_MATCHING_LISTENER_HOSTNAME: &str = "NoMatchingListenerHostname";
    pub(in crate::translate) const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    pub(in crate::translate) const NO_VALID_CA_CERTIFICATE: &str = "NoValidCACertificate";
    pub(in crate::translate) const OVERLAPPING_HOSTNAMES: &str = "OverlappingHostnames";
    pub(in crate::translate) const OVERRIDDEN: &str = "Overridden";
    pub(in crate::translate) const PARENT_NOT_ACCEPTED: &str = "ParentNotAccepted";
    pub(in crate::translate) const PENDING: &str = "Pending";
    pub(in crate::translate) const PORT_UNAVAILABLE: &str = "PortUnavailable";
    pub(in crate::translate) const PROGRAMMED: &str = "Programmed";
    pub(in crate::translate) const PROTOCOL_CONFLICT: &str = "ProtocolConflict";
    pub(in crate::translate) const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    pub(in crate::translate) const REPLICAS_AGREE: &str = "ReplicasAgree";
    pub(in crate::translate) const REPLICAS_DISAGREE: &str = "ReplicasDisagree";
    pub(in crate::translate) const RESOLVED_REFS: &str = "ResolvedRefs";
    pub(in crate::translate) const SLOTS_REFUSED: &str = "SlotsRefused";
    pub(in crate::translate) const SOLE_REPLICA: &str = "SoleReplica";
    pub(in crate::translate) const TARGET_NOT_FOUND: &str = "TargetNotFound";
    pub(in crate::translate) const UNSUPPORTED_ADDRESS: &str = "UnsupportedAddress";
    pub(in crate::translate) const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    pub(in crate::translate) const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    pub(in crate::translate) const SUPPORTED_VERSION: &str = "SupportedVersion";
    pub(in crate::translate) const UNSUPPORTED_VERSION: &str = "UnsupportedVersion";
}

/// Why something is refused: a reason of Gateway API and words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// One of `reason`.
    pub(super) reason: &'static str,
    /// Names object, field and expectation.
    pub(super) message: String,
}

// === impl Refusal ===

impl Refusal {
    /// A refusal with this reason.
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// A field holds a value that Clingfish does not serve.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(reason::UNSUPPORTED_VALUE, message)
    }
}

/// A condition that holds.
pub(super) fn holds(kind: &'static str, reason: &'static str, message: impl AsRef<str>, generation: Option<i64>) -> Condition {
    Condition { condition_type: kind, status: "True", reason, message: Message::of_status(message), observed_generation: generation }
}

/// A condition that does not hold.
pub(super) fn fails(kind: &'static str, reason: &'static str, message: impl AsRef<str>, generation: Option<i64>) -> Condition {
    Condition { condition_type: kind, status: "False", reason, message: Message::of_status(message), observed_generation: generation }
}

/// True with the given words, or False with the refusal's.
pub(super) fn from_refusal(
    kind: &'static str,
    refusal: Option<&Refusal>,
    otherwise: (&'static str, &str),
    generation: Option<i64>,
) -> Condition {
    match refusal {
        Some(refusal) => fails(kind, refusal.reason, &refusal.message, generation),
        None => holds(kind, otherwise.0, otherwise.1, generation),
    }
}
