//! Regular expressions of routes and RouteOptions: each compiled once, shared by all that have it, and within budgets.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::snapshot::{Extent, Pattern};

/// Most that the regular expressions of one object may cost together (`Pattern::price`): about a hundred plain ones, compiled within 50 ms.
pub(super) const OBJECT_BUDGET: u64 = 1 << 20;

/// A pattern as it is written, and where it is to be found.
type Key = (Extent, Box<str>);

/// The patterns that something uses. An unused one is let go of with its last user.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: RefCell<HashMap<Key, Weak<Pattern>>>,
}

/// What one object may spend on patterns.
#[derive(Debug)]
pub(super) struct Allowance<'a> {
    patterns: &'a Patterns,
    /// What the others of the process leave.
    available: u64,
    spent: Cell<u64>,
    denied: Cell<bool>,
    /// Those it has already: using one twice costs nothing more.
    own: RefCell<HashMap<Key, Arc<Pattern>>>,
}

/// A pattern is not compiled; one sentence for a status message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    /// It is no regular expression, or a single one that is too large.
    #[error("{0}")]
    Wrong(String),
    /// A budget is spent.
    #[error("{0}")]
    OverBudget(String),
}

// === impl Patterns ===

impl Patterns {
    /// For an object: `available` is what the others of the process leave.
    pub(super) fn allowance(&self, available: u64) -> Allowance<'_> {
        Allowance { patterns: self, available, spent: Cell::new(0), denied: Cell::new(false), own: RefCell::default() }
    }

    fn get(&self, key: &Key) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.known.borrow().get(key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let pattern = Arc::new(Pattern::compile(&key.1, key.0)?);
        let mut known = self.known.borrow_mut();
        // As often as the map would grow, so that the work is that of growing it.
        if known.len() == known.capacity() {
            known.retain(|_, pattern| pattern.strong_count() > 0);
        }
        known.insert(key.clone(), Arc::downgrade(&pattern));
        Ok(pattern)
    }
}

// === impl Allowance ===

impl Allowance<'_> {
    /// A pattern, compiled now or before.
    ///
    /// # Errors
    /// It is none, or a budget is spent.
    pub(super) fn compile(&self, source: &str, extent: Extent) -> Result<Arc<Pattern>, PatternError> {
        let key = (extent, Box::from(source));
        if let Some(own) = self.own.borrow().get(&key) {
            return Ok(Arc::clone(own));
        }
        let price = Pattern::price(source).map_err(PatternError::Wrong)?;
        let spent = self.spent.get().saturating_add(price);
        if spent > OBJECT_BUDGET {
            return Err(PatternError::OverBudget(format!(
                "the regular expressions of one object may cost {OBJECT_BUDGET} together; with this one, which costs {price}, they cost {spent}"
            )));
        }
        self.spent.set(spent);
        if spent > self.available {
            self.denied.set(true);
            return Err(PatternError::OverBudget(format!(
                "it costs {price}, and the regular expressions of other objects leave no room for those of this one"
            )));
        }
        let pattern = self.patterns.get(&key).map_err(PatternError::Wrong)?;
        self.own.borrow_mut().insert(key, Arc::clone(&pattern));
        Ok(pattern)
    }

    /// What the object asks for, and whether it had to do without some of it.
    pub(super) fn spent(&self) -> (u64, bool) {
        (self.spent.get(), self.denied.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_once_and_let_go_of() {
        let patterns = Patterns::default();
        let first = patterns.allowance(u64::MAX).compile("/a.*", Extent::Whole).unwrap();
        let allowance = patterns.allowance(u64::MAX);
        let again = allowance.compile("/a.*", Extent::Whole).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert!(!Arc::ptr_eq(&first, &allowance.compile("/a.*", Extent::Anywhere).unwrap()), "another extent is another pattern");
        drop((first, again, allowance));
        for number in 0..1000 {
            patterns.allowance(u64::MAX).compile(&format!("/{number}"), Extent::Whole).unwrap();
        }
        let known = patterns.known.borrow();
        assert!(known.len() < 500 && known.values().filter(|known| known.strong_count() > 0).count() == 0, "{}", known.len());
    }

    #[test]
    fn budgets_are_told_apart() {
        let patterns = Patterns::default();
        let large = |number: u32| format!("[a-z]{{2000}}{number}");
        let allowance = patterns.allowance(u64::MAX);
        let errors: Vec<_> = (0..100).filter_map(|number| allowance.compile(&large(number), Extent::Whole).err()).collect();
        assert!(errors.len() > 80 && errors[0].to_string().contains("of one object may cost"), "{errors:?}");
        assert!(allowance.compile(&large(0), Extent::Whole).is_ok(), "what it has already costs nothing");
        assert!(!allowance.spent().1 && allowance.spent().0 <= OBJECT_BUDGET);
        let poor = patterns.allowance(100);
        assert!(poor.compile("/a", Extent::Whole).unwrap_err().to_string().contains("other objects"));
        assert_eq!((poor.spent().0 > 0, poor.spent().1), (true, true));
    }
}
