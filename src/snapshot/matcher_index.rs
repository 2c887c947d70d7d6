//! Index of the paths of one hostname: exact paths and prefixes by hash, regular expressions in order.

use std::{ops::Range, sync::Arc};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{PathMatch, RouteEntry};

/// Up to this many entries are tried one after the other: it is as quick, and most hostnames have one or two.
const FEW_ENTRIES: usize = 8;

/// Finds the entries whose path matches, best first.
#[derive(Clone, Debug, Default)]
pub(super) struct PathIndex {
    /// None where there are few entries.
    tables: Option<Box<Tables>>,
}

/// Entries of one exact path or one prefix are neighbours; the tables hold the first.
#[derive(Clone, Debug, Default)]
struct Tables {
    exact: HashTable<Group>,
    prefix: HashTable<Group>,
    regexes: Range<u32>,
    /// Bytes of the longest prefix: an element boundary beyond it cannot end one.
    max_prefix_len: usize,
    /// Most elements of any prefix.
    max_prefix_elements: usize,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    hash: u64,
    first: u32,
    count: u32,
}

/// An element boundary of a path: everything before `end`, with the hash of it.
#[derive(Clone, Copy)]
struct Boundary {
    end: usize,
    hash: u64,
}

const HASH_SEED: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0000_0100_0000_01b3;

impl PathIndex {
    /// Indexes entries that are sorted by precedence.
    pub(super) fn build(entries: &[Arc<RouteEntry>]) -> Self {
        let tables = (entries.len() > FEW_ENTRIES).then(|| Box::new(Tables::build(entries)));
        Self { tables }
    }

    /// The first entry, in order of precedence, whose path matches and which is accepted, with the length matched.
    pub(super) fn find<'a>(
        &self,
        entries: &'a [Arc<RouteEntry>],
        path: &str,
        accept: impl Fn(&RouteEntry) -> bool,
    ) -> Option<(&'a Arc<RouteEntry>, usize)> {
        match &self.tables {
            Some(tables) => tables.find(entries, path, accept),
            None => entries.iter().find_map(|entry| {
                let matched = matched_len(&entry.path, path)?;
                accept(entry).then_some((entry, matched))
            }),
        }
    }
}

/// The length of the part of the path that matches.
fn matched_len(path_match: &PathMatch, path: &str) -> Option<usize> {
    match path_match {
        PathMatch::Exact(exact) => (**exact == *path).then_some(path.len()),
        PathMatch::Prefix(prefix) => {
            let rest = path.strip_prefix(&**prefix)?;
            let ends_element = (rest.is_empty() && !path.is_empty()) || rest.starts_with('/');
            ends_element.then_some(prefix.len())
        }
        PathMatch::Regex(regex) => regex.is_match(path).then_some(path.len()),
    }
}

impl Tables {
    fn build(entries: &[Arc<RouteEntry>]) -> Self {
        let mut index = Self::default();
        let mut first = 0;
        for group in entries.chunk_by(|a, b| same_group(&a.path, &b.path)) {
            let count = to_u32(group.len());
            match group.first().map(|entry| &entry.path) {
                Some(PathMatch::Exact(path)) => insert(&mut index.exact, Group { hash: hash_of(path), first, count }),
                Some(PathMatch::Prefix(prefix)) => {
                    insert(&mut index.prefix, Group { hash: hash_of(prefix), first, count });
                    index.max_prefix_len = index.max_prefix_len.max(prefix.len());
                    index.max_prefix_elements = index.max_prefix_elements.max(prefix.bytes().filter(|&b| b == b'/').count());
                }
                Some(PathMatch::Regex(_)) => index.regexes = first..first + count,
                None => {}
            }
            first += count;
        }
        index.exact.shrink_to_fit(|group| group.hash);
        index.prefix.shrink_to_fit(|group| group.hash);
        index
    }

    fn find<'a>(
        &self,
        entries: &'a [Arc<RouteEntry>],
        path: &str,
        accept: impl Fn(&RouteEntry) -> bool,
    ) -> Option<(&'a Arc<RouteEntry>, usize)> {
        let accepted = |group: &'a [Arc<RouteEntry>]| group.iter().find(|entry| accept(entry));
        if !self.exact.is_empty()
            && let Some(entry) = group_of(&self.exact, entries, hash_of(path), path).and_then(accepted)
        {
            return Some((entry, path.len()));
        }
        let regexes = entries.get(self.regexes.start as usize..self.regexes.end as usize).unwrap_or_default();
        if let Some(entry) = regexes.iter().find(|entry| matched_len(&entry.path, path).is_some() && accept(entry)) {
            return Some((entry, path.len()));
        }
        if self.prefix.is_empty() {
            return None;
        }
        self.boundaries(path).iter().rev().find_map(|boundary| {
            let prefix = path.get(..boundary.end)?;
            let entry = group_of(&self.prefix, entries, boundary.hash, prefix).and_then(accepted)?;
            Some((entry, boundary.end))
        })
    }

    /// The places where a prefix may end, from short to long; one pass over at most the longest prefix's bytes.
    fn boundaries(&self, path: &str) -> SmallVec<[Boundary; 12]> {
        let mut boundaries = SmallVec::new();
        let mut hash = HASH_SEED;
        let mut elements = 0;
        for (end, &byte) in path.as_bytes().iter().enumerate() {
            if byte == b'/' {
                boundaries.push(Boundary { end, hash: finish(hash) });
                elements += 1;
                if elements > self.max_prefix_elements {
                    return boundaries;
                }
            }
            if end >= self.max_prefix_len {
                return boundaries;
            }
            hash = step(hash, byte);
        }
        boundaries.push(Boundary { end: path.len(), hash: finish(hash) });
        boundaries
    }
}

/// Whether two neighbours can only match together: one exact path, one prefix, or any regular expressions.
fn same_group(a: &PathMatch, b: &PathMatch) -> bool {
    match (a, b) {
        (PathMatch::Exact(a), PathMatch::Exact(b)) | (PathMatch::Prefix(a), PathMatch::Prefix(b)) => a == b,
        (PathMatch::Regex(_), PathMatch::Regex(_)) => true,
        _ => false,
    }
}

fn insert(table: &mut HashTable<Group>, group: Group) {
    table.insert_unique(group.hash, group, |group| group.hash);
}

fn group_of<'a>(table: &HashTable<Group>, entries: &'a [Arc<RouteEntry>], hash: u64, path: &str) -> Option<&'a [Arc<RouteEntry>]> {
    let entries_of = |group: &Group| entries.get(group.first as usize..).and_then(|rest| rest.get(..group.count as usize));
    let is_path = |group: &Group| group.hash == hash && entries_of(group).and_then(<[_]>::first).is_some_and(|e| text(&e.path) == path);
    table.find(hash, is_path).and_then(entries_of)
}

fn text(path: &PathMatch) -> &str {
    match path {
        PathMatch::Exact(text) | PathMatch::Prefix(text) => text,
        PathMatch::Regex(regex) => regex.source(),
    }
}

/// FNV-1a from the left, so that one pass over a path gives the hash of every prefix of it.
fn hash_of(path: &str) -> u64 {
    finish(path.bytes().fold(HASH_SEED, step))
}

fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(HASH_PRIME)
}

/// The table reads the top and the bottom bits; FNV mixes neither well.
fn finish(hash: u64) -> u64 {
    let mixed = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 32)
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
