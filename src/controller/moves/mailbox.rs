//! What waits for the thread that looks into changes of tables.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::publication::{Publication, TableChange};

/// Publications that may wait. Later ones are added to the last of these: a flood of changes takes no more memory than so many tables.
const MOST: usize = 64;

/// What waits for the thread that looks into changes of tables.
#[derive(Debug, Default)]
pub(in crate::controller) struct Mailbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    publications: VecDeque<Publication>,
    closed: bool,
}

/// The engine's end. Dropping it ends the thread, once it has looked into all that waits.
#[derive(Debug)]
pub(in crate::controller) struct Sender(Arc<Mailbox>);

// === impl Mailbox ===

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a publication; `None`: there will be none any more.
    pub(in crate::controller) fn next(&self) -> Option<Publication> {
        let mut waiting = self.lock();
        loop {
            if let Some(publication) = waiting.publications.pop_front() {
                return Some(publication);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

// === impl Sender ===

impl Sender {
    /// The engine's end of a mailbox.
    pub(in crate::controller) fn of(mailbox: &Arc<Mailbox>) -> Self {
        Self(Arc::clone(mailbox))
    }

    /// Hands a publication over.
    pub(in crate::controller) fn send(&self, publication: Publication) {
        let mut waiting = self.0.lock();
        if waiting.publications.len() < MOST {
            waiting.publications.push_back(publication);
        } else if let Some(last) = waiting.publications.back_mut() {
            add(last, publication);
        }
        drop(waiting);
        self.0.changed.notify_one();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

/// Makes two publications one, as if what lies between had not been published.
fn add(publication: &mut Publication, later: Publication) {
    (publication.generation, publication.clusters) = (later.generation, later.clusters);
    for change in later.changes {
        match publication.changes.iter_mut().find(|earlier| earlier.new.name == change.new.name) {
            Some(earlier) => {
                let old = earlier.old.take().or(change.old);
                *earlier = TableChange { old, remapped: None, ..change };
            }
            None => publication.changes.push(change),
        }
    }
}
