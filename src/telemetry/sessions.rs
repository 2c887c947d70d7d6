//! Sessions that are held on their hosts.

/// What a request to a backend that holds sessions was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionResult {
    /// Of a session whose host serves: it went there.
    Bound,
    /// Of a session of which this process heard while the request waited: it went to its host.
    Waited,
    /// Of a new session.
    New,
    /// Of a session whose host is gone: another one has taken over.
    Lost,
    /// With a tag that leads nowhere: made up, or of a host that was gone before this process began.
    Unknown,
    /// Of a session whose host serves and did not answer: another one has.
    Failed,
}

/// A stream that was told to go, since its session belongs to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovedStream {
    /// A WebSocket.
    WebSocket,
    /// A call of gRPC.
    Grpc,
    /// A connection of TCP or TLS that is not looked at.
    Tcp,
}

// === impl MovedStream ===

impl MovedStream {
    /// All kinds, in order of their numbers.
    pub const ALL: [Self; 3] = [Self::WebSocket, Self::Grpc, Self::Tcp];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

// === impl SessionResult ===

impl SessionResult {
    /// All results, in order of their numbers.
    pub const ALL: [Self; 6] = [Self::Bound, Self::Waited, Self::New, Self::Lost, Self::Unknown, Self::Failed];

    /// Value of the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Waited => "waited",
            Self::New => "new",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}
