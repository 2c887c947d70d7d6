//! One value, written by one thread, read by all: arc-swap plus a generation that wakes every reader.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// An immutable value that is replaced as a whole. Readers never wait; every replacement wakes those who watch the generation.
#[derive(Debug)]
pub struct Published<T> {
    current: ArcSwap<Versioned<T>>,
    generation: watch::Sender<u64>,
}

/// A value together with the generation in which it was published.
#[derive(Debug)]
pub struct Versioned<T> {
    /// 1 for the first value, one more for each replacement.
    pub generation: u64,
    /// The value itself.
    pub value: Arc<T>,
}

/// A reader's own handle: checking for a newer value costs one atomic load.
#[derive(Debug)]
pub struct Cached<T> {
    published: Arc<Published<T>>,
    seen: Arc<Versioned<T>>,
}

// === impl Published ===

impl<T> Published<T> {
    /// Publishes the first value, generation 1.
    pub fn new(value: Arc<T>) -> Self {
        let (generation, _) = watch::channel(1);
        Self { current: ArcSwap::from_pointee(Versioned { generation: 1, value }), generation }
    }

    /// Replaces the value and wakes every watcher; returns the new generation. Only one writer may call this at a time.
    pub fn publish(&self, value: Arc<T>) -> u64 {
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(Versioned { generation, value }));
        self.generation.send_replace(generation);
        generation
    }

    /// The current value with its generation.
    pub fn load(&self) -> Arc<Versioned<T>> {
        self.current.load_full()
    }

    /// A receiver that changes with every replacement; it holds the newest generation.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

// === impl Cached ===

impl<T> Cached<T> {
    /// A handle that starts with the current value.
    pub fn new(published: Arc<Published<T>>) -> Self {
        let seen = published.load();
        Self { published, seen }
    }

    /// A receiver that changes with every replacement.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.published.watch()
    }

    /// The current value; an atomic load where nothing changed.
    pub fn get(&mut self) -> &Arc<Versioned<T>> {
        let newest = self.published.current.load();
        if !Arc::ptr_eq(&newest, &self.seen) {
            self.seen = Arc::clone(&newest);
        }
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_reader_sees_every_replacement_and_lets_the_old_value_go() {
        let first = Arc::new(1);
        let published = Arc::new(Published::new(Arc::clone(&first)));
        let mut cached = Cached::new(Arc::clone(&published));
        assert_eq!((*cached.get().value, cached.get().generation), (1, 1));
        assert_eq!(published.publish(Arc::new(2)), 2);
        assert_eq!((*cached.get().value, cached.get().generation), (2, 2));
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
