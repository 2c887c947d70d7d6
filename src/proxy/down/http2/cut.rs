//! Why a stream ends before its response is complete.

use crate::{
    proxy::{state::flight::Flight, wire::reason::Reason},
    telemetry::ResponseFlag,
};

/// Why a stream ends before its response is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client has reset it, or it was reset for what the client did.
    ByClient(Reason),
    /// The connection is gone.
    Gone,
    /// It is reset with this code.
    Reset(Reason),
}

// === impl Cut ===

impl Cut {
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
