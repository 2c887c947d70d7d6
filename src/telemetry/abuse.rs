//! What clients, and load balancers before them, do to the gateway on purpose or by mistake.

/// Why a client's HTTP/2 connection was ended with `ENHANCE_YOUR_CALM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Abuse {
    /// Most of its streams were reset before they were answered.
    PrematureResets,
    /// It sent many frames that carry neither a request nor data.
    ControlFrames,
}

/// What came of the PROXY protocol's header of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolResult {
    /// It names the client.
    Client,
    /// It names nobody: the connection is the load balancer's own.
    Local,
    /// There is none where one has to be, or it is malformed.
    Malformed,
    /// The connection ended before it.
    Closed,
    /// It did not come in time.
    TimedOut,
}

// === impl ProxyProtocolResult ===

impl ProxyProtocolResult {
    /// All results, in order of their numbers.
    pub const ALL: [Self; 5] = [Self::Client, Self::Local, Self::Malformed, Self::Closed, Self::TimedOut];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Local => "local",
            Self::Malformed => "malformed",
            Self::Closed => "closed",
            Self::TimedOut => "timed_out",
        }
    }
}

// === impl Http2Abuse ===

impl Http2Abuse {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 2] = [Self::PrematureResets, Self::ControlFrames];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PrematureResets => "premature_resets",
            Self::ControlFrames => "control_frames",
        }
    }
}
