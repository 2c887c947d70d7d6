//! A registry with stable keys: what the worker's tick walks over.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Things that the tick looks at, in slots that are used again.
#[derive(Debug)]
pub(in crate::proxy) struct Slots<T> {
    slots: RefCell<Vec<Option<Rc<T>>>>,
    free: RefCell<Vec<u32>>,
    len: Cell<usize>,
}

/// Names a slot until it is removed.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct SlotKey(u32);

// === impl Slots ===

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: RefCell::default(), free: RefCell::default(), len: Cell::new(0) }
    }
}

impl<T> Slots<T> {
    /// Keeps a thing until `remove`.
    pub(in crate::proxy) fn insert(&self, item: Rc<T>) -> SlotKey {
        self.len.set(self.len.get() + 1);
        let mut slots = self.slots.borrow_mut();
        if let Some(index) = self.free.borrow_mut().pop()
            && let Some(slot) = slots.get_mut(index as usize)
        {
            *slot = Some(item);
            return SlotKey(index);
        }
        slots.push(Some(item));
        SlotKey(u32::try_from(slots.len() - 1).unwrap_or(u32::MAX))
    }

    /// Frees a slot.
    pub(in crate::proxy) fn remove(&self, key: SlotKey) {
        let removed = self.slots.borrow_mut().get_mut(key.0 as usize).and_then(Option::take);
        if removed.is_some() {
            self.len.set(self.len.get() - 1);
            self.free.borrow_mut().push(key.0);
        }
    }

    /// Things kept.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.len.get()
    }

    /// Visits everything; the visitor must not insert or remove.
    pub(in crate::proxy) fn for_each(&self, mut visit: impl FnMut(&T)) {
        self.for_each_shared(|item| visit(item));
    }

    /// The same, for a visitor that keeps some.
    pub(in crate::proxy) fn for_each_shared(&self, mut visit: impl FnMut(&Rc<T>)) {
        for item in self.slots.borrow().iter().flatten() {
            visit(item);
        }
    }

    /// Gives memory back after a crowd has left.
    pub(in crate::proxy) fn shrink(&self) {
        let mut slots = self.slots.borrow_mut();
        if self.len.get() == 0 && slots.capacity() > 1024 {
            *slots = Vec::new();
            *self.free.borrow_mut() = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_again() {
        let slots = Slots::default();
        let first = slots.insert(Rc::new(1));
        slots.insert(Rc::new(2));
        slots.remove(first);
        slots.remove(first);
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.insert(Rc::new(3)).0, first.0);
        let mut seen = Vec::new();
        slots.for_each(|item| seen.push(*item));
        assert_eq!(seen, [3, 2]);
    }
}
