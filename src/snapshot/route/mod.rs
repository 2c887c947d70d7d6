//! Routes of one hostname, in order of precedence.

mod rule;

use std::{cmp::Ordering, sync::Arc};

use smallvec::SmallVec;

use super::{Hostname, Matcher, PathMatch, matcher_index::PathIndex};

pub use rule::{Action, Backend, FixedReply, Forward, RouteEntry, RouteName, Rule, Target};

/// All routes that serve one hostname of a listener, indexed by path.
///
/// Precedence (Gateway API HTTPRoute): the more specific of the hostnames that the routes themselves write, where the listener's hostname narrows
/// them to one; Exact > RegularExpression (by `RegexOrder`) > PathPrefix (longer first), then method, number of
/// headers, number of query parameters, age of the route, namespace/name, order in the route.
#[derive(Clone, Debug)]
pub struct HostRoutes {
    /// The hostname that listener and routes have in common.
    pub hostname: Hostname,
    /// All entries in order of precedence; the index below points into it. Dump, explain and tests read it.
    entries: Box<[Arc<RouteEntry>]>,
    /// The tiers, the most specific first; mostly there is one.
    tiers: SmallVec<[Tier; 1]>,
}

/// Which of two regular expressions comes first. The Gateway API leaves it to the implementation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegexOrder {
    /// The longer pattern, before method, headers and query parameters are compared.
    #[default]
    LongestFirst,
    /// Patterns are equals: method, headers, query parameters, age and order decide (Gloo: `projects/gateway2/translator/routeutils/sort.go`).
    Equals,
}

/// Entries of routes whose own hostnames are equally specific. They follow each other in `entries`.
#[derive(Clone, Debug)]
struct Tier {
    /// The index behind the last of them. They begin where those of the tier before end.
    end: u32,
    index: PathIndex,
}

/// A match that was found for a request.
#[derive(Clone, Copy, Debug)]
pub struct MatchedRoute<'a> {
    /// The entry that matched.
    pub entry: &'a Arc<RouteEntry>,
    /// For a prefix match, the length of the matched prefix in bytes (without a trailing slash); else the length of the path.
    pub matched_len: usize,
}

// === impl HostRoutes ===

impl HostRoutes {
    /// Indexes the matches of a hostname. They come in the order of last resort (age of the route, namespace/name, rule, match), which the
    /// precedence of paths, methods, headers and query parameters is laid over.
    pub fn build(hostname: Hostname, entries: Vec<impl Into<Arc<RouteEntry>>>) -> Self {
        Self::build_tiers(hostname, RegexOrder::default(), std::iter::once(entries))
    }

    /// The same for routes whose own hostnames differ: tier by tier, those of the most specific hostname first. A match of a later tier is
    /// looked for where none of an earlier one is found.
    pub fn build_tiers<E: Into<Arc<RouteEntry>>>(hostname: Hostname, order: RegexOrder, tiers: impl IntoIterator<Item = Vec<E>>) -> Self {
        let mut all: Vec<Arc<RouteEntry>> = Vec::new();
        let mut built = SmallVec::new();
        for entries in tiers {
            let mut entries: Vec<Arc<RouteEntry>> = entries.into_iter().map(Into::into).collect();
            entries.sort_by(|a, b| precedence(a, b, order));
            let index = PathIndex::build(&entries);
            all.append(&mut entries);
            built.push(Tier { end: u32::try_from(all.len()).unwrap_or(u32::MAX), index });
        }
        Self { hostname, entries: all.into(), tiers: built }
    }

    /// The first match, in order of precedence, for a normalised path without query, among those whose other conditions `accept` finds to hold.
    pub fn find(&self, path: &str, accept: impl Fn(&Matcher) -> bool) -> Option<MatchedRoute<'_>> {
        let mut begin = 0;
        self.tiers.iter().find_map(|tier| {
            let entries = self.entries.get(begin..tier.end as usize)?;
            begin = tier.end as usize;
            let (entry, matched_len) = tier.index.find(entries, path, |entry| accept(&entry.matcher))?;
            Some(MatchedRoute { entry, matched_len })
        })
    }

    /// All matches in order of precedence. Among exact paths of one length, and among prefixes of one length, which cannot match the same
    /// request, the order is that of the text.
    pub fn entries(&self) -> &[Arc<RouteEntry>] {
        &self.entries
    }
}

fn precedence(a: &RouteEntry, b: &RouteEntry, order: RegexOrder) -> Ordering {
    path_precedence(&a.path, &b.path, order)
        .then_with(|| b.matcher.method.is_some().cmp(&a.matcher.method.is_some()))
        .then_with(|| b.matcher.headers.len().cmp(&a.matcher.headers.len()))
        .then_with(|| b.matcher.query.len().cmp(&a.matcher.query.len()))
}

fn path_precedence(a: &PathMatch, b: &PathMatch, order: RegexOrder) -> Ordering {
    let longer_first = |a: &str, b: &str| b.len().cmp(&a.len());
    match (a, b) {
        // Texts of one length that differ cannot match the same path: ordering them makes equal ones neighbours.
        (PathMatch::Exact(a), PathMatch::Exact(b)) | (PathMatch::Prefix(a), PathMatch::Prefix(b)) => {
            longer_first(a, b).then_with(|| a.cmp(b))
        }
        (PathMatch::Regex(a), PathMatch::Regex(b)) => match order {
            RegexOrder::LongestFirst => longer_first(a.source(), b.source()),
            RegexOrder::Equals => Ordering::Equal,
        },
        _ => path_rank(a).cmp(&path_rank(b)),
    }
}

fn path_rank(path: &PathMatch) -> u8 {
    match path {
        PathMatch::Exact(_) => 0,
        PathMatch::Regex(_) => 1,
        PathMatch::Prefix(_) => 2,
    }
}

#[cfg(test)]
mod tests;
