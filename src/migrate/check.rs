//! What Clingfish would say of the outcome: it is translated, and what is refused or warned of goes into the report.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::{self, Document};
use crate::base::{Kind, ObjectName, text::word};
use crate::snapshot::Observed;
use crate::translate::{AssumedClasses, CONTROLLER_NAME, Change, CrossNamespace, Options, Resources, report, translate};

use super::{
    Effect, MigrationOptions, Output, Step,
    document::{Subject, items, text},
    installation::{GATEWAY_API, Installation},
};

/// Translates the output together with what stays as it is. Of Upstreams that no route uses nothing is told: Gloo's discovery writes one for every
/// port of every Service.
pub(super) fn check(installation: &Installation, used: &BTreeSet<ObjectName>, options: &MigrationOptions, output: &mut Output) {
    let mut resources = Resources::default();
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": options.class}, "spec": {"controllerName": CONTROLLER_NAME},
    });
    let mut documents = vec![class];
    let mut unread = BTreeSet::new();
    for ((step, _), document) in &output.files {
        let checked =
            if *step == Step::New { without_missing_secrets(document.clone(), installation, &mut unread) } else { document.clone() };
        documents.push(checked);
    }
    let written: BTreeSet<Subject> = documents.iter().map(Subject::of).collect();
    let stays = installation.objects().filter(|(subject, _)| !written.contains(*subject) && !is_of_gloo(subject));
    documents.extend(stays.map(|(_, document)| document.clone()));
    documents.into_iter().flat_map(change).for_each(|change| resources.apply(change));
    for (gateway, secret) in unread {
        let what = format!("Secret {secret} is not in the export: neither it nor the TLS settings of its listeners are checked");
        output.note(Effect::ToDo, gateway, what);
    }
    let as_cluster = as_cluster();
    let translation = translate(&resources, &Observed { ipv6: true, ..Observed::default() }, &as_cluster, None);
    let findings = report::report(&resources, &translation, &as_cluster).findings.into_iter();
    for finding in findings.filter(|finding| finding.object.kind != Kind::Upstream || used.contains(&finding.object.name)) {
        let part = finding.part.as_ref().map(|part| format!(" {part}")).unwrap_or_default();
        let effect = if finding.rejected { Effect::Refused } else { Effect::Lost };
        output.note(effect, format!("{}{part}", finding.object), format!("{}: {}", finding.state, finding.message));
    }
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

/// Secrets are not exported as a rule. A listener without its Secret is looked at as one without TLS, so that all else can be told.
fn without_missing_secrets(mut document: Value, installation: &Installation, unread: &mut BTreeSet<(String, String)>) -> Value {
    let subject = Subject::of(&document);
    for listener in document.pointer_mut("/spec/listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        let secrets = items(listener, "/tls/certificateRefs").map(|(_, reference)| {
            let namespace = reference.get("namespace").and_then(Value::as_str).unwrap_or(&subject.namespace);
            ObjectName::new(namespace, text(reference, "/name"))
        });
        let missing: Vec<_> = secrets.filter(|secret| installation.get("", Kind::Secret.as_str(), secret).is_none()).collect();
        if let Some(listener) = listener.as_object_mut().filter(|_| !missing.is_empty()) {
            listener.remove("tls");
            listener.insert("protocol".to_owned(), json!("HTTP"));
            unread.extend(
                missing
                    .into_iter()
                    .map(|secret| (format!("Gateway {}/{}", word(&subject.namespace), word(&subject.name)), secret.to_string())),
            );
        }
    }
    document
}
