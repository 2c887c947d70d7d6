//! What `validate` says of a directory: the statuses as they would be written, and in a line each what is rejected and why.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::base::{Kind, Message, ObjectRef, text::word};
use crate::translate::{
    Condition, GlooState, ListenerStatus, Options, Resources, RouteStatus, Status, Translation,
    condition::{kind, reason},
    gateway::infrastructure,
    last_good,
};

/// What is rejected, or served with a reservation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// The part of it (a listener, a parentRef), if not all of it.
    pub part: Option<String>,
    /// Whether it is rejected; else it works, but not as its author may think.
    pub rejected: bool,
    /// What is not as it should be: a condition with its reason (`Accepted=False/UnsupportedValue`), or Gloo's state.
    pub state: String,
    /// For people.
    pub message: Message,
}

/// A report on a translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In order of kind, namespace and name.
    pub findings: Vec<Finding>,
}

/// Reports on a translation of `resources`.
pub fn report(resources: &Resources, translation: &Translation, options: &Options) -> Report {
    let mut found: Vec<Finding> = translation.statuses.iter().flat_map(|(object, status)| findings(object, status, options)).collect();
    let reported: BTreeSet<_> = found.iter().filter(|finding| finding.rejected).map(|finding| finding.object.clone()).collect();
    // What has no status of ours: never decoded, or of a kind without one.
    for (object, refused) in resources.all_refused().iter().filter(|(object, _)| !reported.contains(*object)) {
        let message = resources
            .generation(object)
            .map_or_else(|| refused.message.clone(), |serving| Message::of_status(last_good::message(refused, serving)));
        found.push(Finding { object: object.clone(), part: None, rejected: true, state: "Undecodable".to_owned(), message });
    }
    found.sort();
    Report { findings: found }
}

/// Every object that has a status of ours as one YAML document each: apiVersion, kind, metadata and status.
///
/// # Errors
/// What the YAML writer says.
pub fn statuses_yaml(translation: &Translation) -> Result<String, serde_saphyr::ser::Error> {
    let mut text = String::new();
    for document in status_documents(translation) {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&document)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// Every object that has a status of ours, in order of kind, namespace and name.
pub fn status_documents(translation: &Translation) -> impl Iterator<Item = Value> {
    translation.statuses.iter().map(|(object, status)| {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(object.name.name));
        if object.kind.is_namespaced() {
            metadata.insert("namespace".to_owned(), json!(object.name.namespace));
        }
        json!({"apiVersion": api_version(object.kind), "kind": object.kind.as_str(), "metadata": metadata, "status": **status})
    })
}

fn api_version(kind: Kind) -> String {
    let version = kind.facts().versions.first().copied().unwrap_or("v1");
    if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) }
}

/// What one status says is rejected, or served with a reservation.
pub fn findings(object: &ObjectRef, status: &Status, options: &Options) -> Vec<Finding> {
    match status {
        Status::GatewayClass(status) => conditions(object, None, &status.conditions),
        Status::Gateway(status) => with_listeners(object, &status.conditions, &status.listeners),
        Status::ListenerSet(status) => with_listeners(object, &status.conditions, &status.listeners),
        Status::Route(status) => route(object, status),
        Status::Policy(status) => {
            let of_ancestor = |ancestor: &crate::translate::AncestorStatus| {
                conditions(object, Some(format!("ancestor {}", word(&ancestor.ancestor_ref.name))), &ancestor.conditions)
            };
            status.ancestors.iter().flat_map(of_ancestor).collect()
        }
        Status::Gloo(statuses) => {
            let ours = statuses.statuses.get(&*options.status_key).filter(|status| status.state != GlooState::Accepted);
            let one_by_one = ours.into_iter().flat_map(|status| gloo_findings(&status.reason));
            let finding = |(state, message): (GlooState, &str)| Finding {
                object: object.clone(),
                part: None,
                rejected: state == GlooState::Rejected,
                state: format!("{state:?}"),
                message: Message::of_status(message),
            };
            one_by_one.map(finding).collect()
        }
    }
}

/// The findings in a reason as `gloo::findings::Findings` lays it out: a line each, errors with a bullet, warnings after a heading.
fn gloo_findings(reason: &str) -> impl Iterator<Item = (GlooState, &str)> {
    let mut state = GlooState::Rejected;
    reason.lines().filter_map(move |line| {
        let message = match line.trim_start().strip_prefix("* ") {
            Some(error) if state == GlooState::Rejected => error,
            _ if line.starts_with("warning:") => {
                state = GlooState::Warning;
                return None;
            }
            _ if state == GlooState::Warning => line.trim(),
            _ => return None,
        };
        (!message.is_empty()).then_some((state, message))
    })
}

fn with_listeners(object: &ObjectRef, whole: &[Condition], listeners: &[ListenerStatus]) -> Vec<Finding> {
    let mut findings = conditions(object, None, whole);
    for listener in listeners {
        findings.extend(conditions(object, Some(format!("listener {}", word(&listener.name))), &listener.conditions));
    }
    findings
}

fn route(object: &ObjectRef, status: &RouteStatus) -> Vec<Finding> {
    let of_parent = |parent: &crate::translate::ParentStatus| {
        let reference = &parent.parent_ref;
        let section = reference.section_name.as_ref().map(|section| format!(" {}", word(section))).unwrap_or_default();
        let port = reference.port.map(|port| format!(":{port}")).unwrap_or_default();
        conditions(object, Some(format!("parent {}{port}{section}", word(&reference.name))), &parent.conditions)
    };
    status.parents.iter().flat_map(of_parent).collect()
}

fn conditions(object: &ObjectRef, part: Option<String>, conditions: &[Condition]) -> Vec<Finding> {
    let troubling = conditions.iter().filter(|condition| match condition.condition_type {
        // Negative polarity: trouble where it holds.
        kind::CONFLICTED | kind::OVERLAPPING_TLS_CONFIG | kind::PARTIALLY_INVALID => condition.status == "True",
        _ => condition.status == "False",
    });
    let finding = |condition: &Condition| Finding {
        object: object.clone(),
        part: part.clone(),
        // What is still to come is not refused, nor are listeners that overlap: each serves what is its own. The last two are no fault of the
        // object.
        rejected: condition.reason != reason::PENDING
            && !matches!(condition.condition_type, kind::OVERLAPPING_TLS_CONFIG | kind::AGREED | kind::SLOTS_WRITTEN),
        state: format!("{}={}/{}", condition.condition_type, condition.status, condition.reason),
        message: condition.message.clone(),
    };
    troubling.map(finding).collect()
}

// === impl Finding ===

impl Finding {
    /// Whether only the leader finds it, and in the cluster, not in the object: another replica has not one refused object less.
    pub fn is_of_the_leader(&self) -> bool {
        self.state.split_once('=').is_some_and(|(condition, _)| matches!(condition, kind::AGREED | kind::SLOTS_WRITTEN))
    }

    /// Whether it only says that something is on its way.
    pub fn is_on_its_way(&self) -> bool {
        let reason = self.state.rsplit_once('/').map_or("", |(_, reason)| reason);
        infrastructure::is_on_its_way(reason, &self.message)
    }
}

// === impl Report ===

impl Report {
    /// Whether anything is rejected.
    pub fn is_rejected(&self) -> bool {
        self.findings.iter().any(|finding| finding.rejected)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = self.part.as_ref().map(|part| format!(" {part}")).unwrap_or_default();
        let mark = if self.rejected { "rejected" } else { "warning" };
        write!(f, "{mark}: {}{part}: {}: {}", self.object, self.state, self.message)
    }
}
