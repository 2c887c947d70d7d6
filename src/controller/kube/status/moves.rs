//! Events of sessions that moved, on the Service or Upstream: `kubectl describe` says what a change of pods did.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::base::TokenBucket;
use crate::controller::moves::Moved;

use super::{
    super::client::{FIELD_MANAGER, call, chain},
    StatusContext, events,
};

/// Events that may go out at once, and then per second.
const BURST: u32 = 20;
const PER_SECOND: u32 = 1;

/// Changes that wait for their event. Of more, the oldest are told by the metrics alone.
const MOST: usize = 100;

/// Changes of tables that have not been told yet. It outlives the writer.
#[derive(Debug, Default)]
pub(in crate::controller::kube) struct SharedMoves {
    waiting: Mutex<VecDeque<Moved>>,
    changed: Notify,
}

// === impl SharedMoves ===

impl SharedMoves {
    /// Sessions moved.
    pub(in crate::controller::kube) fn push(&self, moved: Moved) {
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back(moved);
        drop(waiting);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Moved>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes an event for each change while this process is the leader, else forgets it: the leader has seen it too. Never ends.
pub(in crate::controller::kube) async fn write_moves(
    client: Client,
    moves: Arc<SharedMoves>,
    leader: watch::Receiver<bool>,
    context: StatusContext,
) {
    let mut bucket = TokenBucket::new(BURST, PER_SECOND, Instant::now());
    loop {
        let next = if *leader.borrow() {
            moves.lock().pop_front()
        } else {
            moves.lock().clear();
            None
        };
        let Some(moved) = next else {
            moves.changed.notified().await;
            continue;
        };
        while let Err(wait) = bucket.check(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
        bucket.take();
        let event = events::of_move(&moved, &context.controller_name, &context.identity);
        let api = Api::namespaced(client.clone(), &moved.object.name.namespace);
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        if let Err(error) = call(api.create(&parameters, &event)).await {
            tracing::debug!(object = %moved.object, error = &*chain(&error), "the event could not be written");
        }
    }
}
