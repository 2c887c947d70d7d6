//! What is collected for the spans of a request that is recorded.

use std::{sync::Arc, time::Duration};

use crate::base::trace::{SpanContext, SpanId};

use super::shown::Shown;

/// The spans of a request: its own, and one for each attempt at it.
#[derive(Clone)]
pub struct RequestTrace {
    /// The ids.
    pub context: SpanContext,
    /// Scheme of the request: `http` or `https`.
    pub scheme: &'static str,
    /// Generation of the snapshot that decided about it; 0 where none did.
    pub generation: u64,
    /// The path of the match that was found, as its route writes it; `None` where none was.
    pub route: Option<Box<str>>,
    /// The attempts, the oldest first.
    pub attempts: Vec<AttemptTrace>,
}

/// An attempt at a request: a connection to a host and what came of it. Times count from the request's head.
#[derive(Clone)]
pub struct AttemptTrace {
    /// Its span, which the host sees as its parent.
    pub span: SpanId,
    /// Address of the host.
    pub host: Arc<str>,
    /// The pod behind it, where known.
    pub pod: Option<Shown>,
    /// When it began.
    pub begun: Duration,
    /// How it ended; `None`: with the request.
    pub end: Option<AttemptEnd>,
}

/// How an attempt ended that was not the request's last, or had no answer.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnd {
    /// When.
    pub at: Duration,
    /// The host's status; `None` without an answer.
    pub status: Option<u16>,
    /// Why there was no answer, of a bounded set.
    pub failure: Option<&'static str>,
}

/// The parent's span in the head that was sent, and the one that takes its place.
pub type SpanChange = (SpanId, SpanId);

// === impl RequestTrace ===

impl RequestTrace {
    /// A trace of which only the head is known.
    pub fn new(context: SpanContext, scheme: &'static str) -> Self {
        Self { context, scheme, generation: 0, route: None, attempts: Vec::new() }
    }

    /// An attempt is made on this host, if one is not under way already.
    pub fn attempt_on(&mut self, host: &Arc<str>, pod: Option<Shown>, now: Duration) {
        if self.attempts.last().is_some_and(|last| last.end.is_none()) {
            return;
        }
        let span = self.context.sent.span;
        self.attempts.push(AttemptTrace { span, host: Arc::clone(host), pod, begun: now, end: None });
    }

    /// The attempt under way has ended, and the request has not.
    pub fn attempt_ended(&mut self, end: AttemptEnd) {
        if let Some(last) = self.attempts.last_mut() {
            last.end.get_or_insert(end);
        }
    }

    /// Another attempt gets a span of its own: what to change in the head that was sent.
    pub fn next_attempt(&mut self, random: &mut fastrand::Rng) -> SpanChange {
        let (old, new) = (self.context.sent.span, SpanId::random(random));
        self.context.sent.span = new;
        (old, new)
    }

    /// Bytes of memory that it holds on to, apart from names that are part of the configuration.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.attempts.capacity() * size_of::<AttemptTrace>()
            + self.route.as_ref().map_or(0, |route| route.len())
            + self.context.state.as_ref().map_or(0, |state| state.len())
    }

    /// Spans that it makes.
    pub(super) fn spans(&self) -> u64 {
        1 + self.attempts.len() as u64
    }
}
