//! Envoy's response flags.

/// Why a request ended as it did, by Envoy's response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// `-`: nothing to say.
    #[default]
    None,
    /// `NR`: no route.
    NoRoute,
    /// `NC`: the route's backend is invalid or refused.
    NoCluster,
    /// `UH`: no host that may be chosen.
    NoHealthyUpstream,
    /// `UF`: no connection to a host.
    UpstreamConnectionFailure,
    /// `UC`: the host ended the connection.
    UpstreamConnectionTermination,
    /// `UT`: the host did not answer in time.
    UpstreamRequestTimeout,
    /// `UR`: the host reset the stream.
    UpstreamRemoteReset,
    /// `UPE`: the host's answer is not HTTP.
    UpstreamProtocolError,
    /// `UO`: more is going on at the backend than may.
    UpstreamOverflow,
    /// `URX`: no retry is left.
    UpstreamRetryLimitExceeded,
    /// `DC`: the client went away.
    DownstreamConnectionTermination,
    /// `DR`: the client reset the stream.
    DownstreamRemoteReset,
    /// `DPE`: the client's request is malformed.
    DownstreamProtocolError,
    /// `SI`: nothing happened for too long.
    StreamIdleTimeout,
    /// `DT`: the request took too long altogether.
    DurationTimeout,
    /// `OM`: refused because of overload.
    Overload,
}

// === impl ResponseFlag ===

impl ResponseFlag {
    /// All flags, in order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::None,
        Self::NoRoute,
        Self::NoCluster,
        Self::NoHealthyUpstream,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamRequestTimeout,
        Self::UpstreamRemoteReset,
        Self::UpstreamProtocolError,
        Self::UpstreamOverflow,
        Self::UpstreamRetryLimitExceeded,
        Self::DownstreamConnectionTermination,
        Self::DownstreamRemoteReset,
        Self::DownstreamProtocolError,
        Self::StreamIdleTimeout,
        Self::DurationTimeout,
        Self::Overload,
    ];

    /// Envoy's letters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamRequestTimeout => "UT",
            Self::UpstreamRemoteReset => "UR",
            Self::UpstreamProtocolError => "UPE",
            Self::UpstreamOverflow => "UO",
            Self::UpstreamRetryLimitExceeded => "URX",
            Self::DownstreamConnectionTermination => "DC",
            Self::DownstreamRemoteReset => "DR",
            Self::DownstreamProtocolError => "DPE",
            Self::StreamIdleTimeout => "SI",
            Self::DurationTimeout => "DT",
            Self::Overload => "OM",
        }
    }
}
