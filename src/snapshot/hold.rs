//! Sessions that stay on their host while it serves: what carries a host's tag, and the tags of a cluster's hosts.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::HeaderName;

use crate::base::{AffinityKeys, SessionToken, Tag};

use super::hash_policy::CookiePolicy;

/// Tags of hosts that are gone, remembered for each cluster: nobody waits for such a host.
const DEPARTED_MOST: usize = 1024;

/// How sessions are held on their hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What carries the tag of the host.
    pub carrier: TagCarrier,
    /// What a rule asks of its persistent sessions (GEP-1619); `None`: an AffinityPolicy holds them, as long as their host serves.
    pub persistence: Option<Persistence>,
}

/// How long persistent sessions last, and where they hold (GEP-1619).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Where a session holds: that of another rule does not.
    pub scope: Box<str>,
    /// A session is over after so much time.
    pub absolute_timeout: Option<Duration>,
    /// A session is over when it was not used for so much time.
    pub idle_timeout: Option<Duration>,
    /// The cookie outlives the browser: it has a `Max-Age`.
    pub is_permanent: bool,
    /// `Path` of the cookie.
    pub path: CookiePath,
}

/// `Path` of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CookiePath {
    /// None: the client takes that of the request.
    Unset,
    /// This one.
    Is(Box<str>),
    /// That of the match by which the request came.
    OfMatch,
}

/// What carries the tag of a session's host from the gateway to the client and back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagCarrier {
    /// The generated cookie that is the key too, behind its value: `VALUE.TAG`.
    KeyCookie(CookiePolicy),
    /// A cookie of its own.
    Cookie(CookiePolicy),
    /// A header of requests and responses.
    Header(HeaderName),
}

/// The hosts of a cluster that holds sessions, by their tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldHosts {
    /// How many hosts, the last ones, are for sessions that they have already: they are about to end.
    draining: usize,
    /// The tag that each host's new sessions get, in the order of the hosts.
    made: Box<[Tag]>,
    /// Tags that lead to a host, sorted.
    known: Box<[(Tag, u32)]>,
    /// Tags of hosts that are gone, the last ones last.
    departed: Arc<[Tag]>,
    /// What the tags were made with.
    keys: Option<Arc<AffinityKeys>>,
}

/// What a tag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagMeaning {
    /// It is this host's, an index into `Cluster::hosts`.
    Host(u32),
    /// Its host is gone.
    Departed,
    /// It was never seen: it is of a host that others know already, or is none of ours.
    Unknown,
}

// === impl Persistence ===

impl Persistence {
    /// Whether a session is over at this time, in milliseconds since the epoch. Of idle ones it is known within the step of their renewals:
    /// none is over too early.
    pub fn is_over(&self, token: &SessionToken, now: u64) -> bool {
        let lasted = self.absolute_timeout.is_some_and(|most| now.saturating_sub(token.started) >= millis(most));
        let rested = self.idle_timeout.is_some_and(|most| now.saturating_sub(token.used) >= millis(most) + idle_step(most));
        lasted || rested
    }

    /// Whether the client should be told that its session was used: not for each request, but so often that idle ones are known.
    pub fn is_due(&self, token: &SessionToken, now: u64) -> bool {
        self.idle_timeout.is_some_and(|most| now.saturating_sub(token.used) >= idle_step(most))
    }

    /// Seconds until a session is over, rounded up; `None`: it has no such time.
    pub fn seconds_left(&self, token: &SessionToken, now: u64) -> Option<u64> {
        let most = millis(self.absolute_timeout?);
        Some(most.saturating_sub(now.saturating_sub(token.started)).div_ceil(1_000))
    }
}

/// Milliseconds between two renewals of a session that is used all the time: a sixteenth of its idle timeout.
fn idle_step(idle_timeout: Duration) -> u64 {
    (millis(idle_timeout) / 16).max(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

// === impl HeldHosts ===

impl HeldHosts {
    /// `keys`: what the hosts' tags are made with, in the order of the hosts: `hosts` is what each is known by. `draining`: how many of them, the
    /// last ones, are about to end. `before`: what the cluster had.
    pub fn of_hosts<'h>(
        keys: &Arc<AffinityKeys>,
        hosts: impl IntoIterator<Item = Cow<'h, [u8]>>,
        draining: usize,
        before: Option<&Self>,
    ) -> Self {
        let tags: Vec<_> = hosts.into_iter().map(|host| keys.tags(&host)).collect();
        Self { keys: Some(Arc::clone(keys)), ..Self::new(&tags, draining, before) }
    }

    /// `tags`: of each host, the one for new sessions and another one that is good.
    fn new(tags: &[(Tag, Option<Tag>)], draining: usize, before: Option<&Self>) -> Self {
        let mut known: Vec<(Tag, u32)> = Vec::with_capacity(2 * tags.len());
        for (host, (made, other)) in (0..).zip(tags) {
            known.extend([Some(*made), *other].into_iter().flatten().map(|tag| (tag, host)));
        }
        known.sort_unstable();
        known.dedup_by_key(|(tag, _)| *tag);
        let mut held = Self { draining, made: tags.iter().map(|(made, _)| *made).collect(), known: known.into(), ..Self::default() };
        if let Some(before) = before {
            held.departed = held.departed_since(before);
        }
        held
    }

    fn departed_since(&self, before: &Self) -> Arc<[Tag]> {
        let is_gone = |tag: &Tag| self.host(*tag).is_none();
        let gone: Vec<Tag> = before.known.iter().map(|(tag, _)| *tag).filter(is_gone).collect();
        if gone.is_empty() && before.departed.iter().all(is_gone) {
            return Arc::clone(&before.departed);
        }
        let all: Vec<Tag> = before.departed.iter().copied().filter(is_gone).chain(gone).collect();
        all.get(all.len().saturating_sub(DEPARTED_MOST)..).unwrap_or_default().into()
    }

    fn host(&self, tag: Tag) -> Option<u32> {
        let place = self.known.binary_search_by_key(&tag, |(known, _)| *known).ok()?;
        self.known.get(place).map(|(_, host)| *host)
    }

    /// What a tag says.
    pub fn meaning(&self, tag: Tag) -> TagMeaning {
        match self.host(tag) {
            Some(host) => TagMeaning::Host(host),
            None if self.departed.contains(&tag) => TagMeaning::Departed,
            None => TagMeaning::Unknown,
        }
    }

    /// The tag for new sessions of a host.
    pub fn tag(&self, host: u32) -> Option<Tag> {
        self.made.get(host as usize).copied()
    }

    /// What the tags were made with, and what else clients keep is signed with.
    pub fn keys(&self) -> Option<&AffinityKeys> {
        self.keys.as_deref()
    }

    /// How many hosts are for the sessions that they have, and for no new ones.
    pub fn draining(&self) -> usize {
        self.draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(tags: &[u64], draining: usize, before: Option<&HeldHosts>) -> HeldHosts {
        let tags: Vec<_> = tags.iter().map(|tag| (Tag(*tag), Some(Tag(tag + 1000)))).collect();
        HeldHosts::new(&tags, draining, before)
    }

    #[test]
    fn both_tags_lead_to_a_host_and_those_of_gone_hosts_are_remembered() {
        let first = held(&[30, 10, 20], 0, None);
        assert_eq!(
            [10, 1010, 20, 40].map(|tag| first.meaning(Tag(tag))),
            [TagMeaning::Host(1), TagMeaning::Host(1), TagMeaning::Host(2), TagMeaning::Unknown]
        );
        assert_eq!((first.tag(0), first.tag(3)), (Some(Tag(30)), None));
        let second = held(&[10, 20], 1, Some(&first));
        assert_eq!(second.meaning(Tag(30)), TagMeaning::Departed);
        assert_eq!(second.meaning(Tag(1030)), TagMeaning::Departed);
        assert_eq!(second.draining(), 1);
        let third = held(&[30, 10, 20], 0, Some(&second));
        assert_eq!(third.meaning(Tag(30)), TagMeaning::Host(0), "it is back");
    }

    #[test]
    fn the_memory_of_gone_hosts_is_bounded() {
        let mut last = held(&[1], 0, None);
        for tag in 2..900 {
            last = held(&[tag], 0, Some(&last));
        }
        assert_eq!(last.departed.len(), DEPARTED_MOST);
        assert_eq!(last.meaning(Tag(898)), TagMeaning::Departed);
        assert_eq!(last.meaning(Tag(1)), TagMeaning::Unknown);
    }
}
