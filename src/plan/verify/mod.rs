//! Whether requests that another gateway has sent to a host would go to the same one here: its access log, replayed.

mod line;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::explain::Decision;

pub use line::{LoggedRequest, read_line};

/// Requests that are told one by one.
const MOST_EXAMPLES: usize = 10;

/// What became of a request of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It would go to the same host.
    Same,
    /// It would go elsewhere.
    Elsewhere(Elsewhere),
    /// Nothing can be said.
    NotCompared(NotCompared),
}

/// Why a request would go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Elsewhere {
    /// The log says that it was sent more than once.
    Retried,
    /// It went to the host that is next for its key: the first one failed, or was not there.
    Next,
    /// The gateway would answer by itself.
    Answered,
    /// Its key leads elsewhere.
    OtherKey,
}

/// Why nothing can be said of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NotCompared {
    /// It was sent to no host.
    NotSent,
    /// It has no key, as far as the log tells: its host is random.
    NoKey,
}

/// What a log says of all its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Lines with a request.
    pub requests: u64,
    /// Requests that would go to the same host.
    pub same: u64,
    /// Requests that would go elsewhere, by reason.
    pub elsewhere: BTreeMap<String, u64>,
    /// Requests of which nothing can be said, by reason.
    pub not_compared: BTreeMap<String, u64>,
    /// Lines that cannot be read.
    pub unreadable: u64,
    /// The first requests that would go elsewhere, and the first lines that cannot be read.
    pub examples: Vec<String>,
}

// === impl Verdict ===

impl Verdict {
    fn of(logged: &LoggedRequest, decision: &Decision) -> Self {
        let Some(upstream) = &logged.upstream else { return Self::NotCompared(NotCompared::NotSent) };
        match &decision.host {
            Some(host) if host == upstream => Self::Same,
            None if decision.status.is_none() => Self::NotCompared(NotCompared::NoKey),
            None => Self::Elsewhere(Elsewhere::Answered),
            Some(_) if logged.is_retried => Self::Elsewhere(Elsewhere::Retried),
            Some(_) if decision.next.contains(upstream) && decision.next.first() == Some(upstream) => Self::Elsewhere(Elsewhere::Next),
            Some(_) => Self::Elsewhere(Elsewhere::OtherKey),
        }
    }
}

// === impl Elsewhere ===

impl Elsewhere {
    fn words(self) -> &'static str {
        match self {
            Self::Retried => "it was sent more than once",
            Self::Next => "it went to the next host of its key: the first one failed or was not there",
            Self::Answered => "the gateway would answer by itself",
            Self::OtherKey => "its key leads elsewhere: the hosts, the table or the policies are others",
        }
    }
}

// === impl NotCompared ===

impl NotCompared {
    fn words(self) -> &'static str {
        match self {
            Self::NotSent => "sent to no host",
            Self::NoKey => "no key in the log: the host is random",
        }
    }
}

// === impl Verification ===

impl Verification {
    /// Counts a request of this line.
    pub fn count(&mut self, line: u64, logged: &LoggedRequest, decision: &Decision) {
        self.requests += 1;
        match Verdict::of(logged, decision) {
            Verdict::Same => self.same += 1,
            Verdict::NotCompared(why) => *self.not_compared.entry(why.words().to_owned()).or_default() += 1,
            Verdict::Elsewhere(why) => {
                *self.elsewhere.entry(why.words().to_owned()).or_default() += 1;
                let to = decision.host.as_deref().unwrap_or("no host");
                let logged_to = logged.upstream.as_deref().unwrap_or_default();
                self.tell(format!("line {line}: {} went to {logged_to}, would go to {to}: {}", logged.request.url, why.words()));
            }
        }
    }

    /// Counts a line that cannot be read, or is no question.
    pub fn count_unreadable(&mut self, line: u64, why: &str) {
        self.unreadable += 1;
        self.tell(format!("line {line}: {why}"));
    }

    /// Whether every request that could be compared would go to the same host.
    pub fn agrees(&self) -> bool {
        self.elsewhere.is_empty()
    }

    fn tell(&mut self, example: String) {
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(example);
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elsewhere: u64 = self.elsewhere.values().sum();
        let compared = self.same + elsewhere;
        writeln!(f, "{} requests, {compared} compared: {} to the same host, {elsewhere} elsewhere", self.requests, self.same)?;
        for (why, count) in &self.elsewhere {
            writeln!(f, "  elsewhere     {count:>9}  {why}")?;
        }
        for (why, count) in &self.not_compared {
            writeln!(f, "  not compared  {count:>9}  {why}")?;
        }
        if self.unreadable > 0 {
            writeln!(f, "  unreadable    {:>9}", self.unreadable)?;
        }
        self.examples.iter().try_for_each(|example| writeln!(f, "{example}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(upstream: Option<&str>, is_retried: bool) -> LoggedRequest {
        LoggedRequest { request: crate::plan::ExplainRequest::default(), upstream: upstream.map(Into::into), is_retried }
    }

    #[test]
    fn every_request_has_one_verdict() {
        let to = |host: &str| Decision { host: Some(host.into()), next: vec!["b".into(), "c".into()], ..Decision::default() };
        let random = Decision::default();
        let answered = Decision { status: Some(404), ..Decision::default() };
        for (logged, decision, expected) in [
            (logged(Some("a"), false), to("a"), Verdict::Same),
            (logged(Some("a"), true), to("a"), Verdict::Same),
            (logged(None, false), to("a"), Verdict::NotCompared(NotCompared::NotSent)),
            (logged(Some("a"), false), random, Verdict::NotCompared(NotCompared::NoKey)),
            (logged(Some("a"), false), answered, Verdict::Elsewhere(Elsewhere::Answered)),
            (logged(Some("b"), true), to("a"), Verdict::Elsewhere(Elsewhere::Retried)),
            (logged(Some("b"), false), to("a"), Verdict::Elsewhere(Elsewhere::Next)),
            (logged(Some("c"), false), to("a"), Verdict::Elsewhere(Elsewhere::OtherKey)),
        ] {
            assert_eq!(Verdict::of(&logged, &decision), expected);
        }
    }

    #[test]
    fn examples_are_bounded_and_counts_are_not() {
        let mut found = Verification::default();
        for line in 1..=20 {
            found.count_unreadable(line, "no line");
            found.count(line, &logged(Some("b"), false), &Decision { host: Some("a".into()), ..Decision::default() });
        }
        assert_eq!((found.unreadable, found.requests, found.examples.len()), (20, 20, MOST_EXAMPLES));
        assert!(
            !found.agrees() && found.to_string().starts_with("20 requests, 20 compared: 0 to the same host, 20 elsewhere\n"),
            "{found}"
        );
    }
}
