//! Why a stream or a connection of HTTP/2 ends (RFC 9113 section 7).

/// An error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Reason(pub(in crate::proxy) u32);

// === impl Reason ===

impl Reason {
    pub(in crate::proxy) const NO_ERROR: Self = Self(0);
    pub(in crate::proxy) const PROTOCOL_ERROR: Self = Self(1);
    pub(in crate::proxy) const INTERNAL_ERROR: Self = Self(2);
    pub(in crate::proxy) const FLOW_CONTROL_ERROR: Self = Self(3);
    pub(in crate::proxy) const STREAM_CLOSED: Self = Self(5);
    pub(in crate::proxy) const FRAME_SIZE_ERROR: Self = Self(6);
    pub(in crate::proxy) const REFUSED_STREAM: Self = Self(7);
    pub(in crate::proxy) const CANCEL: Self = Self(8);
    pub(in crate::proxy) const COMPRESSION_ERROR: Self = Self(9);
    pub(in crate::proxy) const ENHANCE_YOUR_CALM: Self = Self(11);

    /// What a client has done for which its stream or connection ends so, for the log.
    pub(in crate::proxy) fn what_is_wrong(self) -> &'static str {
        match self {
            Self::PROTOCOL_ERROR => "malformed HTTP/2",
            Self::FLOW_CONTROL_ERROR => "more HTTP/2 data than there is window for",
            Self::STREAM_CLOSED => "a frame on a closed HTTP/2 stream",
            Self::FRAME_SIZE_ERROR => "an HTTP/2 frame of an invalid size",
            Self::COMPRESSION_ERROR => "an HTTP/2 header block that cannot be decoded",
            Self::ENHANCE_YOUR_CALM => "the client exceeds a limit of HTTP/2",
            _ => "an HTTP/2 error",
        }
    }
}
