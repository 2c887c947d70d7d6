//! Traces: how W3C Trace Context (<https://www.w3.org/TR/trace-context/>) is read and continued, which requests are recorded, and where their
//! spans go.

mod collector;
mod context;
mod parent;
mod sampler;

pub use collector::{CollectorEndpoint, CollectorError, CollectorProtocol, CollectorRoots, TracingConfig, collector_headers};
pub use context::{SpanContext, continue_trace};
pub use parent::{SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent};
pub use sampler::{Sampler, SamplerKind};
