//! Shares equal values. Values that come one after the other are often equal, so only the last few are compared.

use std::{collections::VecDeque, sync::Arc};

/// How many values are looked at for an equal one.
const LOOKED_AT: usize = 8;

/// The values given out last.
#[derive(Debug)]
pub(super) struct Recent<T: ?Sized> {
    values: VecDeque<Arc<T>>,
}

// === impl Recent ===

impl<T: ?Sized> Default for Recent<T> {
    fn default() -> Self {
        Self { values: VecDeque::new() }
    }
}

impl<T: ?Sized> Recent<T> {
    /// A value given out lately that `is_same` says yes to.
    pub(super) fn find(&self, is_same: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        self.values.iter().find(|known| is_same(known)).map(Arc::clone)
    }

    /// Remembers a value for a while.
    pub(super) fn add(&mut self, value: Arc<T>) -> Arc<T> {
        self.values.truncate(LOOKED_AT - 1);
        self.values.push_front(Arc::clone(&value));
        value
    }
}

impl<T: PartialEq> Recent<T> {
    /// An equal value that was given out lately, or this one.
    pub(super) fn share(&mut self, value: T) -> Arc<T> {
        match self.find(|known| *known == value) {
            Some(known) => known,
            None => self.add(Arc::new(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_neighbours_are_one() {
        let mut recent = Recent::default();
        let first = recent.share(1);
        assert!(Arc::ptr_eq(&first, &recent.share(1)));
        for other in 2..10 {
            recent.share(other);
        }
        let again = recent.share(1);
        assert_eq!(again, first);
        assert!(!Arc::ptr_eq(&first, &again), "only the last ones are remembered");
    }
}
