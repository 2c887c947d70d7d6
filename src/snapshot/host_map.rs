//! Lookup by hostname: exact, wildcard, any.

use std::{fmt, sync::Arc};

/// Greatest length of a DNS name in text; a longer host matches `Hostname::Any` only.
const MAX_HOST_LENGTH: usize = 255;

/// Values per shard that a map is laid out for. More shards make replacing dearer, fuller shards make looking up dearer.
const SHARD_FILL: usize = 8;

/// Values per shard from which on `HostMap::with` lays the map out anew.
const SHARD_OVERFULL: usize = 4 * SHARD_FILL;

/// Most shards of a map.
const MAX_SHARDS: usize = 4096;

/// A hostname of a listener or a route, lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// Exactly this name.
    Exact(Box<str>),
    /// `*.suffix`: one or more labels before the suffix; holds the suffix without `*.`.
    Wildcard(Box<str>),
    /// No hostname: every request.
    #[default]
    Any,
}

/// How specific a hostname is, the least first (Gateway API, `HTTPRouteSpec.hostnames`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Specificity {
    /// None is given.
    Any,
    /// A wildcard, with the bytes of its suffix.
    Wildcard(u8),
    /// A whole name.
    Exact,
}

/// Values by hostname. The cost of a lookup does not grow with the number of hostnames, that of replacing one value hardly.
pub struct HostMap<T> {
    /// A power of two of them; a hostname's hash says which one holds it.
    shards: Box<[Arc<Shard<T>>]>,
    /// The value of `Hostname::Any`, which no hash finds.
    any: Option<(Hostname, Arc<T>)>,
    len: usize,
    wildcards: usize,
}

/// Collects the values of a `HostMap`.
#[derive(Debug)]
pub struct HostMapBuilder<T> {
    entries: Vec<(Hostname, Arc<T>)>,
}

/// The values whose hash ends in the same bits, in order of hash and hostname.
struct Shard<T>(Box<[Slot<T>]>);

struct Slot<T> {
    hash: u64,
    hostname: Hostname,
    value: Arc<T>,
}

// === impl Hostname ===

impl Hostname {
    /// Reads a hostname of a listener or route: empty or `*` is any, `*.x` a wildcard; turned to lower case.
    pub fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "" | "*" => Self::Any,
            name => match name.strip_prefix("*.") {
                Some(suffix) => Self::Wildcard(suffix.into()),
                None => Self::Exact(text.into()),
            },
        }
    }

    /// The hostname that both have in common (Gateway API: of a listener and a route); `None` if no request can match both.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => Some(one.clone()),
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (Self::Exact(name), Self::Wildcard(suffix)) => is_below(name, suffix).then(|| self.clone()),
            (Self::Wildcard(suffix), Self::Exact(name)) => is_below(name, suffix).then(|| other.clone()),
            (Self::Wildcard(a), Self::Wildcard(b)) if a == b || is_below(a, b) => Some(self.clone()),
            (Self::Wildcard(a), Self::Wildcard(b)) => is_below(b, a).then(|| other.clone()),
        }
    }

    /// How specific it is.
    pub fn specificity(&self) -> Specificity {
        match self {
            Self::Exact(_) => Specificity::Exact,
            Self::Wildcard(suffix) => Specificity::Wildcard(u8::try_from(suffix.len()).unwrap_or(u8::MAX)),
            Self::Any => Specificity::Any,
        }
    }

    /// Whether a request to `host` (lower case, without port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => is_below(host, suffix),
            Self::Any => true,
        }
    }

    fn hash(&self) -> u64 {
        match self {
            Self::Exact(name) => finish(hash_from_right(HASH_SEED, name.as_bytes()), HostKind::Exact),
            Self::Wildcard(suffix) => finish(hash_from_right(HASH_SEED, suffix.as_bytes()), HostKind::Wildcard),
            Self::Any => 0,
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Whether `name` is at least one label below `suffix`.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).and_then(|labels| labels.strip_suffix('.')).is_some_and(|labels| !labels.is_empty())
}

// === hashing ===

const HASH_SEED: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0000_0100_0000_01b3;

#[derive(Clone, Copy)]
enum HostKind {
    Exact,
    Wildcard,
}

/// FNV-1a over the bytes from the last to the first, so that one pass over a host gives the hash of every suffix of it.
fn hash_from_right(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(state, |state, &byte| step(state, byte))
}

fn step(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(HASH_PRIME)
}

/// FNV's low bits are weak and shards are chosen by them; the kinds must not collide systematically.
fn finish(state: u64, kind: HostKind) -> u64 {
    let salt = match kind {
        HostKind::Exact => 0,
        HostKind::Wildcard => 0x9e37_79b9_7f4a_7c15,
    };
    let mixed = (state ^ salt).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 32)
}

// === impl HostMap ===

impl<T> HostMap<T> {
    /// The most specific value for a host that is lower case and without port: exact, then the longest wildcard, then any.
    pub fn get(&self, host: &str) -> Option<&Arc<T>> {
        if self.shards.is_empty() || host.len() > MAX_HOST_LENGTH {
            return self.any_value();
        }
        let hash = finish(hash_from_right(HASH_SEED, host.as_bytes()), HostKind::Exact);
        let exact = self.slot(hash, |name| matches!(name, Hostname::Exact(name) if **name == *host));
        match exact {
            Some(slot) => Some(&slot.value),
            None if self.wildcards > 0 => self.longest_wildcard(host).or_else(|| self.any_value()),
            None => self.any_value(),
        }
    }

    /// The value of exactly this hostname.
    pub fn get_exact(&self, hostname: &Hostname) -> Option<&Arc<T>> {
        match hostname {
            Hostname::Any => self.any_value(),
            Hostname::Exact(_) | Hostname::Wildcard(_) => self.slot(hostname.hash(), |name| name == hostname).map(|slot| &slot.value),
        }
    }

    /// A map with values replaced, added (`Some`) and removed (`None`). Shards without a change are shared with this one.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (Hostname, Option<Arc<T>>)>) -> Self {
        let mut next = self.clone();
        for (hostname, value) in changes {
            next.change(hostname, value);
        }
        if next.len > next.shards.len().saturating_mul(SHARD_OVERFULL) && next.shards.len() < MAX_SHARDS {
            return next.iter().map(|(hostname, value)| (hostname.clone(), Arc::clone(value))).collect::<HostMapBuilder<T>>().build();
        }
        next
    }

    /// All values, by hostname: exact ones, wildcards, any.
    pub fn iter(&self) -> impl Iterator<Item = (&Hostname, &Arc<T>)> {
        let slots = self.shards.iter().flat_map(|shard| shard.0.iter()).map(|slot| (&slot.hostname, &slot.value));
        let mut all: Vec<_> = slots.chain(self.any.iter().map(|(hostname, value)| (hostname, value))).collect();
        all.sort_unstable_by_key(|(hostname, _)| *hostname);
        all.into_iter()
    }

    /// Number of hostnames.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no hostname at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn any_value(&self) -> Option<&Arc<T>> {
        self.any.as_ref().map(|(_, value)| value)
    }

    fn longest_wildcard(&self, host: &str) -> Option<&Arc<T>> {
        let mut state = HASH_SEED;
        let mut longest = None;
        for (at, &byte) in host.as_bytes().iter().enumerate().rev() {
            if byte == b'.' && at > 0 {
                let suffix = host.get(at + 1..).unwrap_or_default();
                let is_suffix = |name: &Hostname| matches!(name, Hostname::Wildcard(name) if **name == *suffix);
                longest = self.slot(finish(state, HostKind::Wildcard), is_suffix).or(longest);
            }
            state = step(state, byte);
        }
        longest.map(|slot| &slot.value)
    }

    fn slot(&self, hash: u64, is_wanted: impl Fn(&Hostname) -> bool) -> Option<&Slot<T>> {
        let shard = self.shards.get(shard_of(hash, self.shards.len()))?;
        let start = shard.0.partition_point(|slot| slot.hash < hash);
        shard.0.get(start..)?.iter().take_while(|slot| slot.hash == hash).find(|slot| is_wanted(&slot.hostname))
    }

    fn change(&mut self, hostname: Hostname, value: Option<Arc<T>>) {
        let had = self.get_exact(&hostname).is_some();
        let has = value.is_some();
        self.len = self.len + usize::from(has) - usize::from(had);
        match &hostname {
            Hostname::Any => {
                self.any = value.map(|value| (hostname, value));
                return;
            }
            Hostname::Wildcard(_) => self.wildcards = self.wildcards + usize::from(has) - usize::from(had),
            Hostname::Exact(_) => {}
        }
        if self.shards.is_empty() {
            self.shards = Box::new([Arc::new(Shard(Box::default()))]);
        }
        let hash = hostname.hash();
        let shards = self.shards.len();
        if let Some(shard) = self.shards.get_mut(shard_of(hash, shards)) {
            *shard = Arc::new(shard.with(hash, hostname, value));
        }
    }
}

fn shard_of(hash: u64, shards: usize) -> usize {
    usize::try_from(hash & (shards as u64).wrapping_sub(1)).unwrap_or(0)
}

impl<T> Shard<T> {
    fn with(&self, hash: u64, hostname: Hostname, value: Option<Arc<T>>) -> Self {
        let kept = self.0.iter().filter(|slot| slot.hostname != hostname).map(Slot::clone);
        let mut slots: Vec<Slot<T>> = kept.collect();
        if let Some(value) = value {
            let at = slots.partition_point(|slot| (slot.hash, &slot.hostname) < (hash, &hostname));
            slots.insert(at, Slot { hash, hostname, value });
        }
        Self(slots.into())
    }
}

// Written out because the derives would ask the same of `T`, which is behind an `Arc`.
impl<T> Clone for HostMap<T> {
    fn clone(&self) -> Self {
        Self { shards: self.shards.clone(), any: self.any.clone(), len: self.len, wildcards: self.wildcards }
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, hostname: self.hostname.clone(), value: Arc::clone(&self.value) }
    }
}

impl<T: fmt::Debug> fmt::Debug for HostMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { shards: Box::default(), any: None, len: 0, wildcards: 0 }
    }
}

// === impl HostMapBuilder ===

impl<T> HostMapBuilder<T> {
    /// Without any value.
    pub fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a value; a later one replaces an earlier one of the same hostname.
    pub fn insert(&mut self, hostname: Hostname, value: Arc<T>) {
        self.entries.push((hostname, value));
    }

    /// The finished map.
    pub fn build(self) -> HostMap<T> {
        let mut entries = self.entries;
        // The sort is stable, so the last one of a run of equals is the one inserted last.
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.reverse();
        entries.dedup_by(|(a, _), (b, _)| a == b);
        let mut map = HostMap { len: entries.len(), ..HostMap::default() };
        if matches!(entries.first(), Some((Hostname::Any, _))) {
            map.any = Some(entries.swap_remove(0));
        }
        map.wildcards = entries.iter().filter(|(hostname, _)| matches!(hostname, Hostname::Wildcard(_))).count();
        map.shards = into_shards(entries);
        map
    }
}

fn into_shards<T>(entries: Vec<(Hostname, Arc<T>)>) -> Box<[Arc<Shard<T>>]> {
    if entries.is_empty() {
        return Box::default();
    }
    let shards = entries.len().div_ceil(SHARD_FILL).next_power_of_two().min(MAX_SHARDS);
    let mut slots: Vec<Slot<T>> = entries.into_iter().map(|(hostname, value)| Slot { hash: hostname.hash(), hostname, value }).collect();
    slots.sort_unstable_by(|a, b| {
        let key = |slot: &Slot<T>| (shard_of(slot.hash, shards), slot.hash);
        key(a).cmp(&key(b)).then_with(|| a.hostname.cmp(&b.hostname))
    });
    let mut slots = slots.into_iter().peekable();
    (0..shards)
        .map(|shard| {
            let own: Vec<Slot<T>> = std::iter::from_fn(|| slots.next_if(|slot| shard_of(slot.hash, shards) == shard)).collect();
            Arc::new(Shard(own.into()))
        })
        .collect()
}

impl<T> Default for HostMapBuilder<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FromIterator<(Hostname, Arc<T>)> for HostMapBuilder<T> {
    fn from_iter<I: IntoIterator<Item = (Hostname, Arc<T>)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(hostnames: &[&str]) -> HostMap<String> {
        hostnames.iter().map(|text| (Hostname::parse(text), Arc::new((*text).to_owned()))).collect::<HostMapBuilder<_>>().build()
    }

    #[test]
    fn the_most_specific_hostname_wins() {
        let map = map(&["a.example.com", "*.example.com", "*.b.example.com", "*.com", ""]);
        for (host, expected) in [
            ("a.example.com", "a.example.com"),
            ("c.example.com", "*.example.com"),
            ("x.y.example.com", "*.example.com"),
            ("x.b.example.com", "*.b.example.com"),
            ("b.example.com", "*.example.com"),
            ("example.com", "*.com"),
            ("com", ""),
            (".com", ""),
            ("", ""),
            ("a.example.org", ""),
        ] {
            assert_eq!(map.get(host).map(|v| v.as_str()), Some(expected), "{host}");
        }
    }

    #[test]
    fn nothing_matches_without_an_any() {
        let map = map(&["*.example.com"]);
        for host in ["example.com", "notexample.com", ".example.com", "", "example.com.evil"] {
            assert_eq!(map.get(host), None, "{host}");
        }
        assert!(HostMap::<String>::default().get("a").is_none());
    }

    #[test]
    fn a_host_that_is_no_dns_name_matches_any_only() {
        let long = format!("{}.example.com", "a.".repeat(200));
        assert_eq!(map(&["*.example.com"]).get(&long), None);
        assert_eq!(map(&["*.example.com", ""]).get(&long).map(|v| v.as_str()), Some(""));
    }

    #[test]
    fn hostnames_intersect_as_the_gateway_api_says() {
        for (a, b, expected) in [
            ("", "", Some("*")),
            ("", "a.com", Some("a.com")),
            ("a.com", "A.com", Some("a.com")),
            ("a.com", "b.com", None),
            ("*.com", "a.com", Some("a.com")),
            ("*.com", "a.b.com", Some("a.b.com")),
            ("*.com", "com", None),
            ("*.b.com", "*.com", Some("*.b.com")),
            ("*.b.com", "*.b.com", Some("*.b.com")),
            ("*.b.com", "*.c.com", None),
            ("*.b.com", "xb.com", None),
        ] {
            let both = |a: &str, b: &str| Hostname::parse(a).intersect(&Hostname::parse(b)).map(|h| h.to_string());
            assert_eq!(both(a, b).as_deref(), expected, "{a} {b}");
            assert_eq!(both(b, a).as_deref(), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_later_of_equal_hostnames_counts() {
        let mut builder = HostMapBuilder::new();
        builder.insert(Hostname::parse("a"), Arc::new(1));
        builder.insert(Hostname::Any, Arc::new(2));
        builder.insert(Hostname::parse("a"), Arc::new(3));
        let map = builder.build();
        assert_eq!((map.len(), map.get("a").map(|v| **v), map.get("b").map(|v| **v)), (2, Some(3), Some(2)));
    }

    #[test]
    fn replacing_one_value_shares_every_other_shard() {
        let hostnames: Vec<String> = (0..2000).map(|n| format!("host{n}.example.com")).collect();
        let before = map(&hostnames.iter().map(String::as_str).collect::<Vec<_>>());
        let after = before.with([(Hostname::parse("host7.example.com"), Some(Arc::new("new".to_owned())))]);
        let changed = before.shards.iter().zip(&after.shards).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!(changed, 1);
        assert!(before.shards.iter().all(|shard| shard.0.len() < SHARD_OVERFULL), "shards must stay small");
    }

    fn hostname() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "*", "com"]), 0..4).prop_map(|labels| {
            let name = labels.join(".");
            if name.get(1..).is_some_and(|rest| rest.contains('*')) { String::new() } else { name }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn lookup_equals_a_linear_search(names in prop::collection::vec(hostname(), 0..30), host in "[abc]{0,1}(\\.[abc]|\\.com){0,3}") {
            let map = map(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let rank = |name: &Hostname| match name {
                Hostname::Exact(_) => 1000,
                Hostname::Wildcard(suffix) => suffix.len() + 1,
                Hostname::Any => 0,
            };
            let expected = names.iter().map(|n| Hostname::parse(n)).filter(|n| n.matches(&host)).max_by_key(|n| rank(n));
            prop_assert_eq!(map.get(&host).map(|v| Hostname::parse(v)), expected);
        }

        #[test]
        fn changes_equal_a_rebuild(
            first in prop::collection::vec((hostname(), 0..100u32), 0..40),
            changes in prop::collection::vec((hostname(), prop::option::of(0..100u32)), 0..150),
            many in 0..400u32,
        ) {
            let mut model = std::collections::BTreeMap::new();
            let mut map = HostMap::default();
            let changes = first.into_iter().map(|(n, v)| (n, Some(v)))
                .chain((0..many).map(|n| (format!("h{n}.com"), Some(n)))).chain(changes);
            for (name, value) in changes {
                let name = Hostname::parse(&name);
                map = map.with([(name.clone(), value.map(Arc::new))]);
                match value {
                    Some(value) => model.insert(name, value),
                    None => model.remove(&name),
                };
            }
            let rebuilt = model.iter().map(|(n, v)| (n.clone(), Arc::new(*v))).collect::<HostMapBuilder<_>>().build();
            let content = |map: &HostMap<u32>| map.iter().map(|(n, v)| (n.clone(), **v)).collect::<Vec<_>>();
            prop_assert_eq!(content(&map), content(&rebuilt));
            prop_assert_eq!((map.len(), map.wildcards), (model.len(), rebuilt.wildcards));
            for name in model.keys() {
                prop_assert_eq!(map.get_exact(name).map(|v| **v), model.get(name).copied());
            }
        }
    }
}
