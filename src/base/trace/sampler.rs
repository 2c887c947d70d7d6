//! Which traces are recorded.

use super::{TraceId, TraceParent};

/// How sampling is decided, in the words of OpenTelemetry (`OTEL_TRACES_SAMPLER`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplerKind {
    /// A request with a `traceparent` is recorded if that says so; any other by share.
    #[default]
    ParentBased,
    /// By share, whatever the client says.
    TraceIdRatio,
}

/// Decides which requests are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    kind: SamplerKind,
    /// Traces whose randomness is below are not recorded.
    threshold: u64,
}

/// Values that the randomness of a trace id has.
const RANGE: f64 = (1_u64 << 56) as f64;

// === impl Sampler ===

impl Sampler {
    /// `percentage`: the share of traces, from 0 to 100.
    pub fn new(kind: SamplerKind, percentage: f64) -> Self {
        let kept = (percentage / 100.0).clamp(0.0, 1.0);
        Self { kind, threshold: ((1.0 - kept) * RANGE).round() as u64 }
    }

    /// Whether a request is recorded. By share the trace id decides, so that all gateways that see a trace decide alike.
    pub fn samples(&self, trace: TraceId, parent: Option<&TraceParent>) -> bool {
        match (self.kind, parent) {
            (SamplerKind::ParentBased, Some(parent)) => parent.is_sampled(),
            (SamplerKind::ParentBased, None) | (SamplerKind::TraceIdRatio, _) => trace.randomness() >= self.threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::trace::SpanId;

    #[test]
    fn the_share_is_kept() {
        let mut random = fastrand::Rng::with_seed(1);
        for (percentage, least, most) in [(0.0, 0, 0), (100.0, 20_000, 20_000), (1.0, 140, 260), (50.0, 9_700, 10_300)] {
            let sampler = Sampler::new(SamplerKind::ParentBased, percentage);
            let kept = (0..20_000).filter(|_| sampler.samples(TraceId::random(&mut random), None)).count();
            assert!((least..=most).contains(&kept), "{percentage}: {kept}");
        }
    }

    #[test]
    fn the_parent_decides_where_it_is_asked() {
        let mut random = fastrand::Rng::with_seed(1);
        let (trace, span) = (TraceId::random(&mut random), SpanId::random(&mut random));
        for (kind, percentage, sampled, expected) in [
            (SamplerKind::ParentBased, 0.0, true, true),
            (SamplerKind::ParentBased, 100.0, false, false),
            (SamplerKind::TraceIdRatio, 0.0, true, false),
            (SamplerKind::TraceIdRatio, 100.0, false, true),
        ] {
            let parent = TraceParent::first(trace, span, sampled);
            assert_eq!(Sampler::new(kind, percentage).samples(trace, Some(&parent)), expected, "{kind:?} {percentage} {sampled}");
        }
    }
}
