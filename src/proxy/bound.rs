//! What the workers listen on.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::snapshot::{BindAddress, BindState};

/// What all workers have bound. `Programmed` is reported once its generation is bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    workers: Box<[WorkerBound]>,
}

/// What one worker has bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct WorkerBound {
    generation: u64,
    binds: BTreeMap<BindAddress, BindOutcome>,
}

/// What became of one socket on one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BindOutcome {
    /// It listens there; the address differs from the one asked for where that has port 0.
    Bound(SocketAddr),
    /// It could not be bound; the system's words.
    Failed(Box<str>),
    /// Its IP address is none of this machine's; the system's words.
    NoAddress(Box<str>),
}

// === impl Bound ===

impl Bound {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: vec![WorkerBound::default(); workers].into_boxed_slice() }
    }

    pub(super) fn note(&mut self, worker: usize, generation: u64, binds: Vec<(BindAddress, BindOutcome)>) {
        if let Some(entry) = self.workers.get_mut(worker) {
            *entry = WorkerBound { generation, binds: binds.into_iter().collect() };
        }
    }

    /// The newest generation that every worker follows; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.workers.iter().map(|worker| worker.generation).min().unwrap_or(0)
    }

    /// The sockets that all workers listen on or that one could not bind. A socket that some worker has not tried yet is absent.
    pub fn states(&self) -> BTreeMap<BindAddress, BindState> {
        let mut states = BTreeMap::new();
        for address in self.workers.iter().flat_map(|worker| worker.binds.keys()) {
            if let Some(state) = self.state(*address) {
                states.insert(*address, state);
            }
        }
        states
    }

    /// The state of one socket; `None` until every worker has tried it.
    pub fn state(&self, address: BindAddress) -> Option<BindState> {
        let mut state = BindState::Bound;
        for worker in &self.workers {
            match worker.binds.get(&address)? {
                BindOutcome::Bound(_) => {}
                BindOutcome::Failed(reason) => state = BindState::Failed(reason.clone()),
                BindOutcome::NoAddress(reason) => state = BindState::NoAddress(reason.clone()),
            }
        }
        Some(state)
    }

    /// The address really listened on: the one asked for, with the system's choice of port where that was 0.
    pub fn local(&self, address: BindAddress) -> Option<SocketAddr> {
        match self.workers.first()?.binds.get(&address)? {
            BindOutcome::Bound(local) => Some(*local),
            BindOutcome::Failed(_) | BindOutcome::NoAddress(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_bound_when_every_worker_says_so() {
        let local: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let address = BindAddress::tcp(local);
        let mut bound = Bound::new(2);
        bound.note(0, 7, vec![(address, BindOutcome::Bound(local))]);
        assert_eq!((bound.generation(), bound.state(address)), (0, None));
        bound.note(1, 6, vec![(address, BindOutcome::Bound(local))]);
        assert_eq!((bound.generation(), bound.state(address)), (6, Some(BindState::Bound)));
        bound.note(1, 7, vec![(address, BindOutcome::Failed("in use".into()))]);
        assert_eq!(bound.states().get(&address), Some(&BindState::Failed("in use".into())));
    }
}
