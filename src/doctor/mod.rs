//! PURE: what was gathered of a cluster to a page that says what is wrong, and what to do.
//!
//! It decides about raw objects: what is wrong with them may be that they cannot be decoded.

mod affinity;
mod backends;
mod crds;
mod gateways;
mod gathered;
mod install;
mod objects;
mod page;
mod pods;
mod replicas;
mod rights;
mod routes;

pub use gathered::{Asked, Gathered, Listed, Place, PodAnswer};
pub use install::{Install, installs};
pub use page::{Format, write};
pub use replicas::is_unsettled;
pub use rights::{Right, RightAnswer, needed_rights};

use crate::base::Message;

use gathered::Unasked;

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

    fn carry_out(self, gathered: &Gathered) -> Outcome {
        let mut outcome = Outcome::default();
        let done = match self {
            Self::Crds => crds::check(gathered, &mut outcome),
            Self::Rights => rights::check(gathered, &mut outcome),
            Self::Pods => pods::check_pods(gathered, &mut outcome),
            Self::Leader => pods::check_leader(gathered, &mut outcome),
            Self::Classes => gateways::check_classes(gathered, &mut outcome),
            Self::Gateways => gateways::check_gateways(gathered, &mut outcome),
            Self::Routes => routes::check(gathered, &mut outcome),
            Self::Backends => backends::check(gathered, &mut outcome),
            Self::Affinity => affinity::check(gathered, &mut outcome),
            Self::Replicas => replicas::check_replicas(gathered, &mut outcome),
            Self::Certificates => replicas::check_certificates(gathered, &mut outcome),
            Self::Limits => replicas::check_limits(gathered, &mut outcome),
        };
        if let Err(Unasked(why)) = done {
            outcome.unasked.push(why);
        }
        outcome
    }
}

// === impl Outcome ===

impl Outcome {
    fn finding(&mut self, object: impl Into<Message>, what: impl Into<Message>, to_do: impl Into<Message>) {
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

/// Says what is wrong.
pub fn diagnose(gathered: &Gathered) -> Report {
    let install = &gathered.install;
    let api_server = gathered.kubernetes.as_deref().map(|version| format!(", Kubernetes {version}")).unwrap_or_default();
    let versions = replicas::versions(gathered);
    let version = if versions.is_empty() { String::new() } else { format!(", version {}", versions.join(" and ")) };
    let pods = gathered.pods.len();
    Report {
        install: format!(
            "Deployment {}/{} ({pods} {}{version}){api_server}",
            install.namespace,
            install.deployment,
            if pods == 1 { "pod" } else { "pods" }
        )
        .into(),
        outcomes: Check::ALL.into_iter().map(|check| (check, check.carry_out(gathered))).collect(),
    }
}
