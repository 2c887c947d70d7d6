//! What the doctor says: checks, their outcomes, and what they come to.

use crate::base::Message;

/// What is looked at, in the order of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// CustomResourceDefinitions and their versions.
    Crds,
    /// Rights of the pods' service account.
    Rights,
    /// The pods themselves.
    Pods,
    /// Who writes into the cluster.
    Leader,
    /// GatewayClasses.
    Classes,
    /// Gateways and their addresses.
    Gateways,
    /// HTTPRoutes, RouteOptions and Upstreams that are refused.
    Routes,
    /// Backends without endpoints.
    Backends,
    /// What chooses a pod behind the gateway's back.
    Affinity,
    /// Whether the pods serve the same.
    Replicas,
    /// Certificates that expire.
    Certificates,
    /// Limits that were reached.
    Limits,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The object, or the pod.
    pub object: Message,
    /// What is wrong with it.
    pub what: Message,
    /// What to do about it.
    pub to_do: Message,
}

/// The outcome of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is wrong, in order.
    pub findings: Vec<Finding>,
    /// What could not be asked, and why.
    pub unasked: Vec<Message>,
    /// What was looked at, in a few words.
    pub looked_at: String,
}

/// What a doctor has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The install, in a line.
    pub install: Message,
    /// Every check with its outcome.
    pub outcomes: Vec<(Check, Outcome)>,
}

/// What a report comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything could be asked, and nothing is wrong.
    Good,
    /// Something is wrong.
    Findings,
    /// Nothing wrong was found, but not everything could be asked.
    Unasked,
}

// === impl Check ===

impl Check {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Crds,
        Self::Rights,
        Self::Pods,
        Self::Leader,
        Self::Classes,
        Self::Gateways,
        Self::Routes,
        Self::Backends,
        Self::Affinity,
        Self::Replicas,
        Self::Certificates,
        Self::Limits,
    ];

    /// Its name on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crds => "crds",
            Self::Rights => "rights",
            Self::Pods => "pods",
            Self::Leader => "leader",
            Self::Classes => "classes",
            Self::Gateways => "gateways",
            Self::Routes => "routes",
            Self::Backends => "backends",
            Self::Affinity => "affinity",
            Self::Replicas => "replicas",
            Self::Certificates => "certificates",
            Self::Limits => "limits",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    pub(super) fn finding(&mut self, object: impl Into<Message>, what: impl Into<Message>, to_do: impl Into<Message>) {
        self.findings.push(Finding { object: object.into(), what: what.into(), to_do: to_do.into() });
    }
}

// === impl Report ===

impl Report {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        let any = |holds: fn(&Outcome) -> bool| self.outcomes.iter().any(|(_, outcome)| holds(outcome));
        if any(|outcome| !outcome.findings.is_empty()) {
            Verdict::Findings
        } else if any(|outcome| !outcome.unasked.is_empty()) {
            Verdict::Unasked
        } else {
            Verdict::Good
        }
    }
}
