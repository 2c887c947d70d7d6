//! An answer as text for a terminal: the same facts as the JSON, those that are null left out.

use std::fmt;

use super::{Decision, ExplainAnswer, slot};

impl fmt::Display for ExplainAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decision(decision) => decision.fmt(f),
            Self::Error { error } => writeln!(f, "error: {error}"),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: &str| writeln!(f, "{name:<11}{text}");
        let present = |text: &Option<String>| text.clone().into_iter();
        for gateway in present(&self.gateway) {
            line("gateway", &gateway)?;
        }
        for listener in present(&self.listener) {
            line("listener", &listener)?;
        }
        if let (Some(route), Some(rule), Some(match_index)) = (&self.route, self.rule, self.match_index) {
            line("route", &format!("{route}, rule {rule}, match {match_index}"))?;
        }
        for backend in present(&self.backend) {
            line("backend", &backend)?;
        }
        for cluster in present(&self.cluster) {
            line("cluster", &cluster)?;
        }
        for policy in &self.policies {
            let found = policy.value.as_ref().map_or_else(|| "not in the request".to_owned(), |value| format!("{value:?}"));
            let hash = policy.hash.as_ref().map(|hash| format!(", hash {hash}")).unwrap_or_default();
            line("policy", &format!("{}: {found}{hash}", policy.policy))?;
        }
        for hash in present(&self.hash) {
            line("hash", &hash)?;
        }
        if let Some(table) = &self.table {
            let entry = table.entry.map(|entry| format!(", entry {entry}")).unwrap_or_default();
            line("table", &format!("{} of {}{entry}", table.kind, table.size))?;
        }
        if let Some(slot) = &self.slot {
            line("slot", &slot::words(slot))?;
        }
        for host in present(&self.host) {
            line("host", &host)?;
        }
        if !self.next.is_empty() {
            line("next", &self.next.join(", "))?;
        }
        for cookie in present(&self.set_cookie) {
            line("set-cookie", &cookie)?;
        }
        if let Some(status) = self.status {
            line("status", &status.to_string())?;
        }
        line("why", &self.reason)
    }
}
