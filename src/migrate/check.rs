//! What Clingfish would say of the outcome: it is translated, and what is refused or warned of goes into the report.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{self, Document};
use crate::base::{Kind, ObjectName};
use crate::snapshot::Observed;
use crate::translate::{
    AssumedClasses, CONTROLLER_NAME, Change, CrossNamespace, Options, Resources,
    report::{Finding, report},
    translate,
};

use super::{
    document::{GATEWAY_API, Subject, items, text},
    installation::Installation,
    names::MigrationOptions,
    output::Output,
    report::Effect,
};

/// Translates the output together with what stays as it is. Of Upstreams that no route uses nothing is told: Gloo's discovery writes one for
/// every port of every Service.
pub(super) fn check(installation: &Installation, used: &BTreeSet<ObjectName>, options: &MigrationOptions, output: &mut Output) {
    let documents = documents(installation, options, output);
    let mut unread = BTreeSet::new();
    let plain = documents.iter().map(|document| without_missing_secrets(document.clone(), installation, &mut unread)).collect();
    let mut found = findings(plain);
    found.retain(|finding| finding.object.kind != Kind::Upstream || used.contains(&finding.object.name));
    if !unread.is_empty() {
        // What is wrong with a listener's TLS settings is told also where its Secret is missing.
        found.extend(findings(documents).into_iter().filter(is_of_listener));
    }
    for (gateway, secret) in unread {
        output.note(Effect::ToDo, gateway, format!("Secret {secret} is not in the export, and is not checked"));
    }
    for finding in found {
        let part = finding.part.as_ref().map(|part| format!(" {part}")).unwrap_or_default();
        let effect = if finding.rejected { Effect::Refused } else { Effect::Lost };
        output.note(effect, format!("{}{part}", finding.object), format!("{}: {}", finding.state, finding.message));
    }
}

/// The class of the twins, the output, and what of the installation neither is replaced by it nor stays Gloo's.
fn documents(installation: &Installation, options: &MigrationOptions, output: &Output) -> Vec<Value> {
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": options.class}, "spec": {"controllerName": CONTROLLER_NAME},
    });
    let documents: Vec<Value> = std::iter::once(class).chain(output.files.values().cloned()).collect();
    let written: BTreeSet<Subject> = documents.iter().map(Subject::of).collect();
    let stays = installation.objects().filter(|(subject, _)| !written.contains(*subject) && !is_of_gloo(subject));
    documents.into_iter().chain(stays.map(|(_, document)| document.clone())).collect()
}

/// What would be refused or warned of.
fn findings(documents: Vec<Value>) -> Vec<Finding> {
    let mut resources = Resources::default();
    documents.into_iter().filter_map(change).for_each(|change| resources.apply(change));
    let options = as_cluster();
    let translation = translate(&resources, &Observed { ipv6: true, ..Observed::default() }, &options, None);
    report(&resources, &translation, &options).findings
}

/// As the chart installs it beside Gloo: an Upstream may lead to a Service of any namespace.
fn as_cluster() -> Options {
    Options {
        any_controller: false,
        assumed_classes: AssumedClasses::None,
        allow_local_endpoints: false,
        cross_namespace: CrossNamespace::Any,
        ..Options::validate()
    }
}

/// Whether it says that a listener is refused.
fn is_of_listener(finding: &Finding) -> bool {
    finding.object.kind == Kind::Gateway && finding.part.is_some() && finding.state.starts_with("Accepted=False")
}

/// Classes and Gateways that stay Gloo's are none of ours.
fn is_of_gloo(subject: &Subject) -> bool {
    subject.group == GATEWAY_API && matches!(subject.kind.as_str(), "GatewayClass" | "Gateway")
}

fn change(document: Value) -> Option<Change> {
    match api::decode_manifest(document, &mut Vec::new()) {
        Ok(Document::Object(object)) => Some(Change::apply(object)),
        Ok(Document::List(_) | Document::Other(_)) => None,
        Err(error) => Some(Change::Undecodable(error)),
    }
}

/// Secrets are not exported as a rule. A listener of a Gateway without its Secret becomes one without TLS, so that all else can be told.
fn without_missing_secrets(mut document: Value, installation: &Installation, unread: &mut BTreeSet<(String, String)>) -> Value {
    let subject = Subject::of(&document);
    if (subject.group.as_str(), subject.kind.as_str()) != (GATEWAY_API, "Gateway") {
        return document;
    }
    for listener in document.pointer_mut("/spec/listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        let secrets = items(listener, "/tls/certificateRefs").map(|(_, reference)| {
            let namespace = reference.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
            ObjectName::new(namespace, text(reference, "/name"))
        });
        let missing: Vec<_> = secrets.filter(|secret| installation.get("", Kind::Secret.as_str(), secret).is_none()).collect();
        if let Some(listener) = listener.as_object_mut().filter(|_| !missing.is_empty()) {
            listener.remove("tls");
            listener.insert("protocol".to_owned(), json!("HTTP"));
            unread.extend(missing.into_iter().map(|secret| (subject.to_string(), secret.to_string())));
        }
    }
    document
}
