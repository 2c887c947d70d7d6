//! What becomes of a request's trace headers, and which spans are recorded of it.

use crate::base::head::HeaderMap;

use super::{Sampler, SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent};

/// Most bytes of `tracestate` that a recorded span repeats; a longer one is left out of the span. The specification asks for 512.
const STATE_LIMIT: usize = 1_024;

/// The ids under which a request is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// The span of the client, if it named one.
    pub parent: Option<SpanId>,
    /// The span of the request.
    pub span: SpanId,
    /// What the host is sent: the span of the attempt.
    pub sent: TraceParent,
    /// The client's `tracestate`.
    pub state: Option<Box<str>>,
}

/// Continues the trace of a request, or begins one where it has none. The ids of what is to be recorded; `None`: nothing is.
///
/// The head says afterwards what the host shall see. A request that is recorded gets a new span id, so that the host's spans hang below ours.
/// One that is not, and whose client agrees, passes as it came. Where the gateway decides alone, the host learns of that as well: else it
/// would record the half of a trace.
pub fn continue_trace(headers: &mut HeaderMap, sampler: &Sampler, random: &mut fastrand::Rng) -> Option<SpanContext> {
    let parent = TraceParent::of(headers);
    let trace = parent.map_or_else(|| TraceId::random(random), |parent| parent.trace);
    let is_sampled = sampler.samples(trace, parent.as_ref());
    if !is_sampled && parent.is_some_and(|parent| !parent.is_sampled()) {
        return None;
    }
    let attempt = SpanId::random(random);
    let sent = match parent {
        Some(parent) => parent.followed_by(attempt, is_sampled),
        None => TraceParent::first(trace, attempt, is_sampled),
    };
    if parent.is_none() {
        // It belongs to the parent that could not be read (section 4.3 of the specification).
        headers.remove(TRACESTATE);
    }
    if let Some(value) = sent.value() {
        headers.insert(TRACEPARENT, value);
    }
    is_sampled.then(|| SpanContext { parent: parent.map(|parent| parent.span), span: SpanId::random(random), sent, state: state(headers) })
}

/// The fields of `tracestate` as one.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let joined = headers.get_all(TRACESTATE).map(|value| value.to_str().ok()).collect::<Option<Vec<_>>>()?.join(",");
    (!joined.is_empty() && joined.len() <= STATE_LIMIT).then(|| joined.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::trace::SamplerKind;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse::<http::HeaderValue>().unwrap())).collect()
    }

    fn run(kind: SamplerKind, percentage: f64, lines: &[(&'static str, &str)]) -> (HeaderMap, Option<SpanContext>) {
        let mut headers = headers(lines);
        let context = continue_trace(&mut headers, &Sampler::new(kind, percentage), &mut fastrand::Rng::with_seed(3));
        (headers, context)
    }

    #[test]
    fn a_recorded_request_goes_on_under_a_span_of_ours() {
        let sent = [("traceparent", &*format!("{PARENT}01")), ("tracestate", "a=1"), ("tracestate", "b=2"), ("x", "y")];
        let (headers, context) = run(SamplerKind::ParentBased, 0.0, &sent);
        let context = context.unwrap();
        assert_eq!(context.parent.unwrap().to_string(), "b7ad6b7169203331");
        assert_eq!(headers.get("traceparent").unwrap(), context.sent.to_string());
        let ours = context.sent.to_string();
        assert!(ours.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && ours.ends_with("-01"), "{ours}");
        assert!(context.sent.span != context.span && context.sent.span != context.parent.unwrap());
        assert_eq!(headers.get_all("tracestate").collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(context.state.as_deref(), Some("a=1,b=2"));
    }

    #[test]
    fn without_a_parent_a_trace_begins_and_says_whether_it_is_recorded() {
        for (percentage, flags) in [(100.0, "-01"), (0.0, "-00")] {
            let (headers, context) = run(SamplerKind::ParentBased, percentage, &[("x", "y")]);
            let sent = headers.get("traceparent").unwrap().to_str().unwrap();
            assert!(sent.ends_with(flags), "{sent}");
            assert_eq!(
                context.map(|context| (context.parent, context.sent.to_string())),
                (percentage > 0.0).then(|| (None, sent.to_owned()))
            );
        }
    }

    #[test]
    fn what_is_not_recorded_passes_as_it_came() {
        // A later version too, with all that follows.
        for parent in [format!("{PARENT}00"), format!("cc{}02-more", &PARENT[2..])] {
            let sent = [("traceparent", &*parent), ("tracestate", "a=1"), ("tracestate", "")];
            for kind in [SamplerKind::ParentBased, SamplerKind::TraceIdRatio] {
                assert_eq!(run(kind, 0.0, &sent), (headers(&sent), None));
            }
        }
    }

    #[test]
    fn who_must_not_decide_is_contradicted() {
        let (headers, context) = run(SamplerKind::TraceIdRatio, 0.0, &[("traceparent", &format!("{PARENT}01")), ("tracestate", "a=1")]);
        assert_eq!((context, headers.get("tracestate").unwrap().to_str().unwrap()), (None, "a=1"));
        let sent = headers.get("traceparent").unwrap().to_str().unwrap();
        assert!(sent.starts_with(&PARENT[..36]) && sent.ends_with("-00") && !sent.contains("b7ad6b7169203331"), "{sent}");
        let (headers, context) = run(SamplerKind::TraceIdRatio, 100.0, &[("traceparent", &format!("{PARENT}00"))]);
        assert!(context.is_some() && headers.get("traceparent").unwrap().to_str().unwrap().ends_with("-01"));
    }

    #[test]
    fn a_parent_that_cannot_be_read_is_replaced_with_its_state() {
        let valid = format!("{PARENT}01");
        for broken in [&[("traceparent", "ff-x")][..], &[("traceparent", &valid), ("traceparent", &valid)], &[]] {
            let lines: Vec<_> = broken.iter().copied().chain([("tracestate", "a=1")]).collect();
            for percentage in [0.0, 100.0] {
                let (headers, context) = run(SamplerKind::ParentBased, percentage, &lines);
                assert_eq!(headers.get("tracestate"), None);
                assert_eq!(headers.get_all("traceparent").count(), 1);
                assert!(!headers.get("traceparent").unwrap().to_str().unwrap().contains("0af7651916cd43dd"), "{headers:?}");
                assert_eq!(context.is_some(), percentage > 0.0);
            }
        }
    }

    #[test]
    fn a_state_that_is_too_long_is_passed_on_and_not_kept() {
        let long = format!("a={}", "x".repeat(STATE_LIMIT));
        let (headers, context) = run(SamplerKind::ParentBased, 0.0, &[("traceparent", &format!("{PARENT}01")), ("tracestate", &long)]);
        assert_eq!((headers.get("tracestate").unwrap().to_str().unwrap(), context.unwrap().state), (&*long, None));
    }
}
