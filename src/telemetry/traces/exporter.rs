//! The exporter's loop: gathers batches, sends them, waits while the collector is gone.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::base::{Backoff, trace::TracingConfig};

use super::{
    collector::{Collector, Export},
    counts::SpanResult,
    otlp::Encoder,
    queue::{BATCH, Recorded, Shared},
};

/// How long a span waits for others at most.
const GATHER: Duration = Duration::from_secs(1);
/// Waits between attempts to reach a collector that is gone.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What was told of the collector last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Fine,
    Gone,
    Refuses,
}

/// Takes spans out of the queue and sends them.
pub(super) struct Exporter {
    queue: mpsc::Receiver<Box<Recorded>>,
    shared: Arc<Shared>,
    closing: watch::Receiver<Option<Instant>>,
    encoder: Encoder,
    collector: Collector,
    backoff: Backoff,
    told: Told,
    /// Spans that are taken out of the queue, and are not counted yet.
    in_hand: u64,
}

/// Returns once the process is to end and the time for that is over.
async fn overdue(closing: &mut watch::Receiver<Option<Instant>>) {
    match closing.wait_for(Option::is_some).await.map(|deadline| *deadline) {
        Ok(Some(deadline)) => sleep_until(deadline).await,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(
        config: TracingConfig,
        queue: mpsc::Receiver<Box<Recorded>>,
        shared: Arc<Shared>,
        closing: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            queue,
            shared,
            closing,
            encoder: Encoder::new(&config.resource),
            collector: Collector::new(config.endpoint, config.roots, config.headers),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            told: Told::Nothing,
            in_hand: 0,
        }
    }

    /// Until it is told to end, and what is queued by then is sent or out of time.
    pub(super) async fn run(mut self) {
        while self.deadline().is_none() {
            tokio::select! {
                () = sleep(GATHER) => {}
                () = self.shared.batch_waits.notified() => {}
                closed = self.closing.changed() => if closed.is_err() { break },
            }
            let mut closing = self.closing.clone();
            tokio::select! {
                () = self.send_queued() => {}
                () = overdue(&mut closing) => break,
            }
        }
        if let Some(deadline) = self.deadline() {
            let _ = timeout_at(deadline, self.send_queued()).await;
        }
        self.give_up();
    }

    /// When all is to be over, once that is known.
    fn deadline(&self) -> Option<Instant> {
        *self.closing.borrow()
    }

    async fn send_queued(&mut self) {
        loop {
            let batch = self.take_batch();
            if batch.is_empty() {
                return;
            }
            self.in_hand = batch.iter().map(|recorded| recorded.trace.spans()).sum();
            let message = self.encoder.encode(&batch);
            drop(batch);
            self.deliver(&message).await;
        }
    }

    #[expect(clippy::vec_box, reason = "the records come in boxes, and stay in them")]
    fn take_batch(&mut self) -> Vec<Box<Recorded>> {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Ok(recorded) = self.queue.try_recv()
        {
            self.shared.queued.fetch_sub(1, Relaxed);
            self.shared.queued_bytes.fetch_sub(recorded.bytes(), Relaxed);
            batch.push(recorded);
        }
        batch
    }

    /// Sends a batch until the collector has said something about it. At the end of the process there is one attempt.
    async fn deliver(&mut self, message: &[u8]) {
        loop {
            let ends = self.deadline();
            match self.collector.export(message).await {
                Export::Accepted { rejected, why } => {
                    self.backoff.reset();
                    self.settle(SpanResult::Refused, rejected);
                    self.settle(SpanResult::Exported, u64::MAX);
                    self.tell(if rejected > 0 { Told::Refuses } else { Told::Fine }, &why);
                    return;
                }
                Export::Refused(why) => {
                    self.settle(SpanResult::Refused, u64::MAX);
                    self.tell(Told::Refuses, &why);
                    return;
                }
                Export::Unavailable(why) => self.tell(Told::Gone, &why),
            }
            if ends.is_some() {
                return self.settle(SpanResult::Unsent, u64::MAX);
            }
            let wait = self.backoff.next_wait(fastrand::f64());
            tokio::select! {
                () = sleep(wait) => {}
                _ = self.closing.changed() => {}
            }
        }
    }

    /// At most so many of the spans in hand had this result.
    fn settle(&mut self, result: SpanResult, spans: u64) {
        let spans = spans.min(self.in_hand);
        self.in_hand -= spans;
        self.shared.counts.add(result, spans);
    }

    /// What is left is not sent any more.
    fn give_up(&mut self) {
        self.settle(SpanResult::Unsent, u64::MAX);
        self.queue.close();
        while let Ok(recorded) = self.queue.try_recv() {
            self.shared.counts.add(SpanResult::Unsent, recorded.trace.spans());
        }
    }

    /// One line for each change, not for each batch.
    fn tell(&mut self, news: Told, why: &str) {
        let before = std::mem::replace(&mut self.told, news);
        if before == news {
            return;
        }
        let collector = self.collector.name();
        match news {
            Told::Fine if before == Told::Nothing => tracing::info!(collector, "the collector takes spans"),
            Told::Fine | Told::Nothing => tracing::info!(collector, "the collector takes spans again"),
            Told::Gone => {
                tracing::warn!(collector, reason = why, "spans cannot be sent; they wait, and are dropped while the queue is full");
            }
            Told::Refuses => tracing::warn!(collector, reason = why, "the collector refuses spans; they are lost"),
        }
    }
}
