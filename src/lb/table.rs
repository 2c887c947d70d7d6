//! A table whose hosts may be known by other numbers by now, or be gone.

use crate::lb::choice::Choice;
use crate::lb::selector::Selector;

/// A host of a table that is no longer there.
pub(super) const GONE: u32 = u32::MAX;

/// A table as its present hosts see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub(super) selector: &'a Selector,
    /// For a table of other hosts: the present index of each of these, or [`GONE`].
    pub(super) renamed: Option<&'a [u32]>,
}

impl<'a> Table<'a> {
    /// The host of a hash; `None` without hosts, or if there is no table.
    pub(super) fn choose_by_hash(self, hash: u64, attempt: u32) -> Option<Choice> {
        let choice = self.selector.choose_by_hash(hash, attempt)?;
        if self.renamed.is_none() { Some(choice) } else { self.owner(choice.entry as usize) }
    }

    /// The host of an entry of the table: its own, or if that is gone the host of the next entry whose host is still there.
    pub(super) fn owner(self, entry: usize) -> Option<Choice> {
        let owner = |entry: usize| Some(Choice { host: self.present(self.selector.entry(entry)?)?, entry: entry as u32 });
        (entry..self.selector.size()).chain(0..entry).find_map(owner)
    }

    /// The points of a ring and their hosts, in order; none of hosts that are gone.
    pub(super) fn points(self) -> impl Iterator<Item = (u64, u32)> + 'a {
        let ring = match self.selector {
            Selector::Ring(ring) => Some(ring),
            Selector::Maglev(_) | Selector::RoundRobin(_) | Selector::Random(_) | Selector::LeastRequest(_) => None,
        };
        ring.into_iter().flat_map(|ring| ring.points()).filter_map(move |(point, host)| Some((point, self.present(host)?)))
    }

    /// The present index of a host of the table, if it is still there.
    pub(super) fn present(self, host: u32) -> Option<u32> {
        match self.renamed {
            Some(renamed) => renamed.get(host as usize).copied().filter(|host| *host != GONE),
            None => Some(host),
        }
    }
}
