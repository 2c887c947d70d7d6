//! Looks into changes of tables, on a thread of its own: which share of the sessions moved, how many of them needlessly, and why.
//!
//! The engine says which tables it replaced; nothing that serves requests waits for what is reckoned here.

mod ledger;
mod mailbox;
mod publication;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use crate::base::{Published, TableDigests};
use crate::telemetry::Metrics;

use ledger::Ledger;
pub(super) use mailbox::{Mailbox, Sender};
pub use publication::Moved;
pub(super) use publication::{Publication, TableChange};

/// Told of every change that moved sessions: once for a backend at a publication.
pub type MoveObserver = Box<dyn FnMut(Moved) + Send>;

/// Starts the thread; it ends with the engine's end of its mailbox.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    metrics: Arc<Metrics>,
    digests: Arc<Published<TableDigests>>,
    observer: Option<MoveObserver>,
) -> std::io::Result<Sender> {
    let mailbox = Arc::<Mailbox>::default();
    let sender = Sender::of(&mailbox);
    thread::Builder::new().name("moves".into()).spawn(move || {
        let (mut ledger, mut observer) = (Ledger::new(metrics, digests), observer);
        while let Some(publication) = mailbox.next() {
            let entered = catch_unwind(AssertUnwindSafe(|| ledger.enter(publication))).unwrap_or_else(|_| {
                tracing::error!("what a change of tables moved cannot be told, requests are served as before; please report this");
                Vec::new()
            });
            for moved in entered {
                tracing::debug!(object = %moved.object, "{}", moved.moved);
                if let Some(observer) = &mut observer {
                    observer(moved);
                }
            }
        }
    })?;
    Ok(sender)
}
