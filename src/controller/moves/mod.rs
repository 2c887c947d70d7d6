//! Looks into changes of tables, on a thread of its own: which share of the sessions moved, how many of them needlessly, and why.
//!
//! The engine says which tables it replaced; nothing that serves requests waits for what is reckoned here.

mod ledger;
mod mailbox;

use std::{sync::Arc, thread};

use crate::base::{ObjectRef, Published, TableDigests};
use crate::snapshot::{Cluster, Move, Pods, Remapped};
use crate::telemetry::Metrics;

use ledger::Ledger;
pub(super) use mailbox::{Mailbox, Sender};

/// A table that replaced another one, or began.
#[derive(Debug)]
pub(super) struct TableChange {
    /// The cluster whose table it replaced; `None`: no session was anywhere before, or this is not the table of its hosts yet.
    pub(super) old: Option<Arc<Cluster>>,
    /// The cluster now.
    pub(super) new: Arc<Cluster>,
    /// What it does to the keys, where whoever built it has found out.
    pub(super) remapped: Option<Remapped>,
    /// Pods that left and are there still, but not ready.
    pub(super) unready: Pods,
    /// The uid of the backend, where known.
    pub(super) uid: Option<Box<str>>,
}

/// What a publication did to the tables.
#[derive(Debug)]
pub(super) struct Publication {
    /// The tables that differ from those before.
    pub(super) changes: Vec<TableChange>,
    /// Generation of the snapshot.
    pub(super) generation: u64,
    /// All clusters, as they are now.
    pub(super) clusters: Arc<[Option<Arc<Cluster>>]>,
}

/// What happened to the sessions of a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// The Service or Upstream.
    pub object: ObjectRef,
    /// Its uid, where known.
    pub uid: Option<Box<str>>,
    /// What happened.
    pub moved: Move,
}

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
            for moved in ledger.enter(publication) {
                tracing::debug!(object = %moved.object, "{}", moved.moved);
                if let Some(observer) = &mut observer {
                    observer(moved);
                }
            }
        }
    })?;
    Ok(sender)
}
