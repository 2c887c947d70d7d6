//! Requests of sessions whose host this process has not heard of yet.
//!
//! Another replica may have sent a session to a pod of which the watch of this one tells a moment later. The request waits for that moment: to
//! be sent elsewhere would move the session.

use std::{rc::Rc, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    plan::{Plan, Rebind},
    proxy::worker::Worker,
    snapshot::Bind,
};

/// Longest that a request waits.
const PATIENCE: Duration = Duration::from_millis(100);

/// Requests that may wait in one worker: tags that are made up must not fill it.
const MOST_WAITING: u32 = 64;

/// One of those that wait.
struct Waiting(Rc<Worker>);

impl Waiting {
    fn begin(worker: &Rc<Worker>) -> Option<Self> {
        let waiting = worker.waiting_sessions.get();
        (waiting < MOST_WAITING).then(|| {
            worker.waiting_sessions.set(waiting + 1);
            Self(Rc::clone(worker))
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting_sessions.set(self.0.waiting_sessions.get().saturating_sub(1));
    }
}

/// Waits until a snapshot has the host of the request's session, and leads the plan there. Returns the generation of that snapshot; `None`: the
/// plan stays as it is.
#[cold]
pub(super) async fn wait_for_host(worker: &Rc<Worker>, plan: &mut Plan, bind: &Bind) -> Option<u64> {
    let _waiting = Waiting::begin(worker)?;
    let deadline = Instant::now() + PATIENCE;
    // From before the first look: what comes between two looks wakes.
    let mut generation = worker.snapshot.borrow().watch();
    loop {
        let versioned = worker.snapshot.borrow_mut().get().clone();
        if plan.rebind(&versioned.value, bind) == Rebind::Bound {
            return Some(versioned.generation);
        }
        drop(versioned);
        timeout_at(deadline, generation.changed()).await.ok()?.ok()?;
    }
}
