//! CustomResourceDefinitions: whether they are there, in the right versions, and know all fields.

use serde_json::Value;

use crate::api;

use super::{
    gathered::{Asked, Gathered, Unasked},
    objects::{condition, few, list, mark, said, text},
    report::Outcome,
};

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// The Gateway API's CRDs that are read.
const OF_GATEWAY_API: [&str; 4] = ["gatewayclasses", "gateways", "httproutes", "referencegrants"];

const INSTALL_GATEWAY_API: &str =
    "kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/standard-install.yaml";
const INSTALL_OURS: &str = "clingfish crds | kubectl apply --server-side -f -";

pub(super) fn check(gathered: &Gathered, outcome: &mut Outcome) -> Result<(), Unasked> {
    let crds = gathered.list(Asked::CustomResourceDefinitions)?;
    let found = |name: &str| crds.iter().find(|crd| text(crd, "/metadata/name") == name);
    let mut bundles: Vec<(&str, Vec<&str>)> = Vec::new();
    for plural in OF_GATEWAY_API {
        let name = format!("{plural}.{GATEWAY_API}");
        let Some(crd) = found(&name) else {
            outcome.finding(format!("CRD {name}"), "it is missing", INSTALL_GATEWAY_API);
            continue;
        };
        // A ReferenceGrant is read in its older version as well.
        let versions: &[&str] = if plural == "referencegrants" { &["v1", "v1beta1"] } else { &["v1"] };
        well(crd, &name, versions, INSTALL_GATEWAY_API, outcome);
        let bundle = mark(crd, "annotations", BUNDLE_VERSION).unwrap_or("unknown");
        match bundles.iter_mut().find(|(version, _)| *version == bundle) {
            Some((_, plurals)) => plurals.push(plural),
            None => bundles.push((bundle, vec![plural])),
        }
    }
    if bundles.len() > 1 {
        let told: Vec<String> = bundles.iter().map(|(version, plurals)| format!("{} of {version}", plurals.join(", "))).collect();
        outcome.finding("CRDs of the Gateway API", format!("they are of several versions: {}", told.join("; ")), INSTALL_GATEWAY_API);
    }
    let ours = api::crd_values().map_err(|error| Unasked(format!("the CRDs of this version cannot be made: {error}").into()))?;
    for crd in &ours {
        let name = text(crd, "/metadata/name");
        let Some(installed) = found(name) else {
            let lost = if name.starts_with("gatewayparameters.") { "parameters of a Gateway" } else { "session affinity" };
            outcome.finding(format!("CRD {name}"), format!("it is missing, so that there is no {lost}"), INSTALL_OURS);
            continue;
        };
        well(installed, name, &[version(crd)], INSTALL_OURS, outcome);
        let missing = missing_fields(crd, installed);
        if !missing.is_empty() {
            let what = format!("it does not know {}: the API server drops these fields without a word", few(&missing));
            outcome.finding(format!("CRD {name}"), what, INSTALL_OURS);
        }
    }
    let bundle = bundles.first().map_or("none", |(version, _)| version);
    outcome.looked_at = format!("Gateway API {bundle}; Upstream and RouteOption know every field of this version");
    Ok(())
}

/// Whether a CRD that is there can be used.
fn well(crd: &Value, name: &str, versions: &[&str], install: &str, outcome: &mut Outcome) {
    let served = |version: &&&str| {
        let same = |entry: &&Value| text(entry, "/name") == **version && entry.pointer("/served") == Some(&Value::Bool(true));
        list(crd, "/spec/versions").iter().any(|entry| same(&entry))
    };
    if !versions.iter().any(|version| served(&version)) {
        outcome.finding(format!("CRD {name}"), format!("version {} is not served", versions.join(" or ")), install);
    }
    let conditions = list(crd, "/status/conditions");
    for (kind, bad) in [("Established", "False"), ("NamesAccepted", "False"), ("Terminating", "True")] {
        if let Some(condition) = condition(conditions, kind, bad) {
            outcome.finding(
                format!("CRD {name}"),
                format!("{kind}={bad}: {}", said(condition)),
                format!("see kubectl describe crd {name}"),
            );
        }
    }
}

/// The version that a CRD of ours has.
fn version(crd: &Value) -> &str {
    list(crd, "/spec/versions").first().map_or("", |version| text(version, "/name"))
}

/// Paths of the fields that `ours` has and `installed` would drop.
fn missing_fields(ours: &Value, installed: &Value) -> Vec<String> {
    let name = version(ours);
    let schema = |crd: &Value| {
        let versions = list(crd, "/spec/versions").iter();
        versions.filter(|version| text(version, "/name") == name).find_map(|version| version.pointer("/schema/openAPIV3Schema").cloned())
    };
    let mut missing = Vec::new();
    if let (Some(ours), Some(installed)) = (schema(ours), schema(installed)) {
        collect_missing(&ours, &installed, "", &mut missing);
    }
    missing
}

fn collect_missing(ours: &Value, installed: &Value, path: &str, missing: &mut Vec<String>) {
    if installed.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    for (name, field) in ours.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match installed.get("properties").and_then(|properties| properties.get(name)) {
            Some(known) => collect_missing(field, known, &path, missing),
            None if installed.get("additionalProperties").is_some() => {}
            None => missing.push(path),
        }
    }
    for part in ["items", "additionalProperties"] {
        if let (Some(ours), Some(installed)) = (ours.get(part), installed.get(part)) {
            collect_missing(ours, installed, path, missing);
        }
    }
}
