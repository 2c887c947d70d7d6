//! What becomes of requests and connections to hosts.

/// Why a request was sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// No connection to the host.
    ConnectFailure,
    /// The connection ended before an answer.
    Reset,
    /// The rule's retry policy names the status.
    Status,
    /// An HTTP/2 host has said that it did not process the request.
    NotProcessed,
}

/// Why a connection of HTTP/2 to a host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2End {
    /// The gateway had no more use for it.
    Left,
    /// The host has taken leave of it (GOAWAY).
    GoAway,
    /// The host closed it, or it broke.
    Closed,
    /// The host broke the protocol, or a limit.
    ProtocolError,
    /// It was never made.
    NotMade,
}

/// What became of a copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorResult {
    /// The mirror answered, whatever its answer was.
    Answered,
    /// It could not be reached, did not answer, fell too far behind, or the request itself broke off.
    Failed,
}

// === impl MirrorResult ===

impl MirrorResult {
    /// All results, in order of their numbers.
    pub const ALL: [Self; 2] = [Self::Answered, Self::Failed];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
        }
    }
}

// === impl RetryReason ===

impl RetryReason {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 4] = [Self::ConnectFailure, Self::Reset, Self::Status, Self::NotProcessed];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectFailure => "connect_failure",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::NotProcessed => "not_processed",
        }
    }
}

// === impl Http2End ===

impl Http2End {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Left, Self::GoAway, Self::Closed, Self::ProtocolError, Self::NotMade];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::GoAway => "goaway",
            Self::Closed => "closed",
            Self::ProtocolError => "protocol_error",
            Self::NotMade => "not_made",
        }
    }
}
