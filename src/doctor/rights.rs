//! Rights of the pods' service account: what the chart grants and something may have taken away.

use serde_json::Value;

use crate::base::{Kind, StatusShape};

use super::{
    gathered::{Asked, Gathered, Right, Unasked},
    install::Install,
    objects::{list, text},
    report::Outcome,
};

/// What the install needs. `crds`: the cluster's, since a status without a subresource is a part of its object.
pub fn needed_rights(install: &Install, crds: &[Value]) -> Vec<Right> {
    let mut rights = Vec::new();
    let mut needs = |verbs: &[&str], group: &str, resources: &[&str], namespace: &str, name: &str| {
        for resource in resources {
            rights.extend(verbs.iter().map(|verb| Right {
                verb: (*verb).to_owned(),
                group: group.to_owned(),
                resource: (*resource).to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }));
        }
    };
    let read = &["list", "watch"];
    let gateway_api = "gateway.networking.k8s.io";
    for kind in Kind::ALL {
        let facts = kind.facts();
        let verbs: &[&str] = if kind.is_read_by_name() { &["get"] } else { read };
        needs(verbs, facts.group, &[facts.plural], "", "");
        match facts.status {
            StatusShape::None => {}
            StatusShape::Gloo => needs(&["patch"], facts.group, &[&*status_of(facts.plural, facts.group, crds)], "", ""),
            StatusShape::Gateway | StatusShape::GatewayClass | StatusShape::ListenerSet | StatusShape::Policy | StatusShape::Route => {
                needs(&["patch"], facts.group, &[&*format!("{}/status", facts.plural)], "", "");
            }
        }
    }
    needs(&["get"], "apiextensions.k8s.io", &["customresourcedefinitions"], "", "gatewayclasses.gateway.networking.k8s.io");
    needs(&["list"], "coordination.k8s.io", &["leases"], "", "");
    if install.class_finalizer {
        needs(&["patch"], gateway_api, &["gatewayclasses"], "", "");
    }
    if install.node_addresses {
        needs(read, "", &["nodes"], "", "");
    }
    needs(&["create", "patch"], Kind::AffinitySlots.group(), &[Kind::AffinitySlots.facts().plural], "", "");
    needs(&["create"], "", &["events"], "", "");
    if install.external_names {
        needs(&["create", "patch", "delete"], "", &["services"], "", "");
    }
    let here = install.namespace.as_str();
    needs(&["create", "patch", "delete"], "", &["services"], here, "");
    needs(&["create"], "", &["configmaps"], here, "");
    for map in [install.instance.clone(), format!("{}-last-good", install.instance)] {
        needs(&["list", "watch", "patch"], "", &["configmaps"], here, &map);
    }
    needs(&["create"], "coordination.k8s.io", &["leases"], here, "");
    needs(&["get", "patch"], "coordination.k8s.io", &["leases"], here, &install.instance);
    needs(&["get"], "", &["configmaps"], here, &format!("{}-install", install.instance));
    needs(&["get", "patch"], "", &["secrets"], here, &format!("{}-affinity-keys", install.instance));
    for namespace in &install.secret_namespaces {
        needs(read, "", &["secrets"], namespace, "");
    }
    rights
}

/// `upstreams/status`, or `upstreams` where the CRD has no such subresource.
fn status_of(plural: &str, group: &str, crds: &[Value]) -> String {
    let crd = crds.iter().find(|crd| text(crd, "/metadata/name") == format!("{plural}.{group}"));
    let without = |crd: &Value| {
        let mut served = list(crd, "/spec/versions").iter().filter(|version| version.pointer("/served") == Some(&Value::Bool(true)));
        served.any(|version| version.pointer("/subresources/status").is_none())
    };
    if crd.is_some_and(without) { plural.to_owned() } else { format!("{plural}/status") }
}

pub(super) fn check(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let install = &gathered.install;
    let account = format!("ServiceAccount {}/{}", install.namespace, install.service_account);
    let refused = gathered.rights.iter().find_map(|answer| answer.refused.as_ref());
    if let Some(why) = refused {
        let hint = "it takes the right to create subjectaccessreviews";
        outcome.unasked.push(format!("the rights of {account} cannot be asked for: {why}; {hint}").into());
    }
    // Rights that differ in their verb alone make one line.
    let mut missing: Vec<(&Right, Vec<&str>)> = Vec::new();
    for answer in gathered.rights.iter().filter(|answer| !answer.allowed && answer.refused.is_none()) {
        let right = &answer.right;
        let same = |one: &Right| {
            (&one.group, &one.resource, &one.namespace, &one.name) == (&right.group, &right.resource, &right.namespace, &right.name)
        };
        match missing.iter_mut().find(|(one, _)| same(one)) {
            Some((_, verbs)) => verbs.push(&right.verb),
            None => missing.push((right, vec![&right.verb])),
        }
    }
    let to_do = format!(
        "give the chart's roles back with helm upgrade (the ClusterRole {0}:{1}, the Role {0}/{1}, and their bindings)",
        install.namespace, install.instance
    );
    for (right, verbs) in missing {
        outcome.finding(account.clone(), format!("it may not {} {right}", verbs.join(", ")), to_do.clone());
    }
    outcome.looked_at = format!("{account} has all {} rights that it needs", gathered.rights.len());
    // A CRD that could not be listed only makes one right a guess.
    gathered.list(Asked::CustomResourceDefinitions).map(drop)
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, " of {}", self.group)?;
        }
        if !self.name.is_empty() {
            write!(f, " named {}", self.name)?;
        }
        if self.namespace.is_empty() { f.write_str(" in the cluster") } else { write!(f, " in namespace {}", self.namespace) }
    }
}
