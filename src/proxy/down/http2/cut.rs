//! Why a stream ends before its response is complete.

use h2::Reason;

use crate::{proxy::state::flight::Flight, telemetry::ResponseFlag};

/// Why a stream ends before its response is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client, or the library for what the client did, has reset it.
    ByClient(Reason),
    /// The connection is gone.
    Gone,
    /// It is reset with this code.
    Reset(Reason),
}

// === impl Cut ===

impl Cut {
    /// What a stream's end says that its client has brought about.
    pub(super) fn told(reset: Result<Reason, h2::Error>) -> Self {
        reset.map_or(Self::Gone, Self::ByClient)
    }

    /// The flag of a request that ends so; `None`: it has one of its own.
    pub(super) fn flag(self) -> Option<ResponseFlag> {
        match self {
            Self::Reset(_) => None,
            Self::Gone => Some(ResponseFlag::DownstreamConnectionTermination),
            Self::ByClient(
                Reason::PROTOCOL_ERROR
                | Reason::FLOW_CONTROL_ERROR
                | Reason::STREAM_CLOSED
                | Reason::FRAME_SIZE_ERROR
                | Reason::ENHANCE_YOUR_CALM,
            ) => Some(ResponseFlag::DownstreamProtocolError),
            Self::ByClient(_) => Some(ResponseFlag::DownstreamRemoteReset),
        }
    }

    /// Notes it before the request ends.
    pub(super) fn note(self, flight: &Flight) -> Self {
        if let Some(flag) = self.flag()
            && flight.outcome.flag.get() == ResponseFlag::None
        {
            flight.outcome.flag.set(flag);
        }
        self
    }
}
