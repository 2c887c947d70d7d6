//! Regular expressions of routes and RouteOptions: each compiled once, shared by all that have it, and within budgets.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    sync::{Arc, Weak},
};

use regex::Regex;

use crate::snapshot::{Extent, Pattern};

/// Most that the regular expressions of one object may cost together (`Pattern::price`): about a hundred plain ones, compiled within 50 ms.
pub(super) const OBJECT_BUDGET: u64 = 1 << 20;

/// A pattern as it is written, and where it is to be found.
pub(super) type Key = (Extent, Box<str>);

/// The patterns that something uses. An unused one is let go of with its last user.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    known: RefCell<HashMap<Key, Known>>,
    /// Number of the translation.
    translation: Cell<u64>,
}

/// What became of a pattern.
#[derive(Debug)]
enum Known {
    /// It was compiled; with its price.
    Compiled(u64, Weak<Pattern>),
    /// It is none, or too large, for this reason. It is as expensive to find that out again as to compile one, so it is remembered; with the
    /// translation that asked for it last.
    Refused(String, Cell<u64>),
}

/// Patterns that are going to be needed and are not compiled yet.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Each with its price.
    pub(super) wanted: Vec<(Key, u64)>,
    /// Sum of the prices.
    pub(super) price: u64,
}

/// What one object may spend on patterns.
#[derive(Debug)]
pub(super) struct Allowance<'a> {
    patterns: &'a Patterns,
    /// Nothing is compiled: what would be is written down here.
    plan: Option<RefCell<Plan>>,
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
    /// It is only planned.
    #[error("it is not compiled yet")]
    Planned,
}

// === impl Patterns ===

impl Patterns {
    /// For an object: `available` is what the others of the process leave.
    pub(super) fn allowance(&self, available: u64) -> Allowance<'_> {
        Allowance { patterns: self, plan: None, available, spent: Cell::new(0), denied: Cell::new(false), own: RefCell::default() }
    }

    /// For an object that is not translated yet: says what it is going to need.
    pub(super) fn planning(&self) -> Allowance<'_> {
        Allowance { plan: Some(RefCell::default()), ..self.allowance(u64::MAX) }
    }

    /// A translation begins.
    pub(super) fn begin(&self) {
        self.translation.set(self.translation.get() + 1);
    }

    /// A pattern, compiled now or before.
    ///
    /// # Errors
    /// It is none, or too large; one sentence for a status message.
    pub(super) fn get(&self, key: &Key, price: u64) -> Result<Arc<Pattern>, String> {
        match self.known.borrow().get(key) {
            Some(Known::Compiled(_, pattern)) => {
                if let Some(pattern) = pattern.upgrade() {
                    return Ok(pattern);
                }
            }
            Some(Known::Refused(why, asked)) => {
                asked.set(self.translation.get());
                return Err(why.clone());
            }
            None => {}
        }
        let compiled = Pattern::compile(&key.1, key.0).map(Arc::new);
        let outcome = match &compiled {
            Ok(pattern) => Known::Compiled(price, Arc::downgrade(pattern)),
            Err(why) => Known::Refused(why.clone(), Cell::new(self.translation.get())),
        };
        self.remember(key, outcome);
        compiled
    }

    fn remember(&self, key: &Key, outcome: Known) {
        let mut known = self.known.borrow_mut();
        // As often as the map would grow, so that the work is that of growing it.
        if known.len() == known.capacity() {
            let lately = self.translation.get().saturating_sub(1);
            known.retain(|_, known| match known {
                Known::Compiled(_, pattern) => pattern.strong_count() > 0,
                Known::Refused(_, asked) => asked.get() >= lately,
            });
        }
        known.insert(key.clone(), outcome);
    }

    /// What a pattern costs, without parsing it a second time where it is in use.
    fn price(&self, key: &Key) -> Result<u64, String> {
        match self.known.borrow().get(key) {
            Some(Known::Compiled(price, _)) => Ok(*price),
            Some(Known::Refused(..)) | None => Pattern::price(&key.1),
        }
    }

    /// Whether nothing has to be compiled for it.
    fn is_settled(&self, key: &Key) -> bool {
        self.known.borrow().get(key).is_some_and(|known| match known {
            Known::Compiled(_, pattern) => pattern.strong_count() > 0,
            Known::Refused(..) => true,
        })
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
        let price = self.patterns.price(&key).map_err(PatternError::Wrong)?;
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
        if let Some(plan) = &self.plan {
            plan.borrow_mut().note(key, price, self.patterns);
            return Err(PatternError::Planned);
        }
        let pattern = self.patterns.get(&key, price).map_err(PatternError::Wrong)?;
        self.own.borrow_mut().insert(key, Arc::clone(&pattern));
        Ok(pattern)
    }

    /// What the object asks for, and whether it had to do without some of it.
    pub(super) fn spent(&self) -> (u64, bool) {
        (self.spent.get(), self.denied.get())
    }

    /// What was planned.
    pub(super) fn into_plan(self) -> Plan {
        self.plan.map(RefCell::into_inner).unwrap_or_default()
    }
}

// === impl Plan ===

impl Plan {
    fn note(&mut self, key: Key, price: u64, patterns: &Patterns) {
        if !patterns.is_settled(&key) {
            self.price = self.price.saturating_add(price);
            self.wanted.push((key, price));
        }
    }
}

/// RE2's `\1` and `\\` in the regex crate's syntax.
pub(super) fn substitution(text: &str, pattern: &Regex) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    if group >= pattern.captures_len() {
                        return Err(format!(
                            "\\{digit} names a group that the pattern does not have: expected at most \\{}",
                            pattern.captures_len() - 1
                        ));
                    }
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                _ => return Err("expected a digit or a backslash after \\".to_owned()),
            },
            char if char.is_ascii_graphic() => out.push(char),
            _ => return Err("expected printable ASCII without spaces".to_owned()),
        }
    }
    Ok(out)
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
        assert!(
            known.len() < 500 && known.values().all(|known| matches!(known, Known::Compiled(_, pattern) if pattern.strong_count() == 0)),
            "{}",
            known.len()
        );
    }

    #[test]
    fn what_cannot_be_compiled_is_found_out_once_and_forgotten_later() {
        let patterns = Patterns::default();
        let key = |number: u32| (Extent::Whole, Box::from(format!("(?:[a-z]{{900}}){{40}}{number}")));
        patterns.begin();
        let first = patterns.get(&key(0), 1).unwrap_err();
        assert!(patterns.is_settled(&key(0)));
        assert_eq!(patterns.get(&key(0), 1).unwrap_err(), first);
        for number in 0..40 {
            patterns.get(&key(number), 1).unwrap_err();
        }
        assert_eq!(patterns.known.borrow().len(), 40, "all of this translation are remembered");
        for number in 0..100 {
            patterns.begin();
            patterns.get(&(Extent::Whole, Box::from(format!("/{number}"))), 1).unwrap();
        }
        assert!(!patterns.is_settled(&key(7)), "nobody has asked for it for long");
    }

    #[test]
    fn what_is_planned_is_what_is_not_known_and_within_the_budget() {
        let patterns = Patterns::default();
        let known = patterns.allowance(u64::MAX).compile("/known", Extent::Whole).unwrap();
        let planning = patterns.planning();
        for source in ["/known", "/new", "/new", "("] {
            assert!(planning.compile(source, Extent::Whole).is_err());
        }
        let expensive = "[a-z]{60000}";
        assert!(matches!(planning.compile(expensive, Extent::Whole), Err(PatternError::OverBudget(_))));
        let plan = planning.into_plan();
        assert_eq!(plan.wanted.iter().map(|(key, _)| &*key.1).collect::<Vec<_>>(), ["/new", "/new"]);
        assert!(plan.price > 0 && plan.price < OBJECT_BUDGET);
        drop(known);
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
