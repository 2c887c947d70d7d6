//! What clients do to the gateway on purpose or by mistake.

/// Why a client's HTTP/2 connection was ended with `ENHANCE_YOUR_CALM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Abuse {
    /// Most of its streams were reset before they were answered.
    PrematureResets,
    /// It sent many frames that carry neither a request nor data.
    ControlFrames,
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
