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
mod report;
mod rights;
mod routes;
mod tables;

pub use gathered::{Asked, Gathered, Listed, Place, PodAnswer, Right, RightAnswer};
pub use install::{Install, installs};
pub use page::{Format, write};
pub use replicas::is_unsettled;
pub use report::{Check, Finding, Outcome, Report, Verdict};
pub use rights::needed_rights;

use gathered::Unasked;

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
        outcomes: Check::ALL.into_iter().map(|check| (check, carry_out(check, gathered))).collect(),
    }
}

fn carry_out(check: Check, gathered: &Gathered) -> Outcome {
    let mut outcome = Outcome::default();
    let done = match check {
        Check::Crds => crds::check(gathered, &mut outcome),
        Check::Rights => rights::check(gathered, &mut outcome),
        Check::Pods => pods::check_pods(gathered, &mut outcome),
        Check::Leader => pods::check_leader(gathered, &mut outcome),
        Check::Classes => gateways::check_classes(gathered, &mut outcome),
        Check::Gateways => gateways::check_gateways(gathered, &mut outcome),
        Check::Routes => routes::check(gathered, &mut outcome),
        Check::Backends => backends::check(gathered, &mut outcome),
        Check::Affinity => affinity::check(gathered, &mut outcome),
        Check::Replicas => replicas::check_replicas(gathered, &mut outcome),
        Check::Certificates => replicas::check_certificates(gathered, &mut outcome),
        Check::Limits => replicas::check_limits(gathered, &mut outcome),
    };
    if let Err(Unasked(why)) = done {
        outcome.unasked.push(why);
    }
    outcome
}
