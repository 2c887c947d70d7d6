//! Brings the CRDs of a cluster to those of this binary: says what changes, and does not go back.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value};

use crate::api::VERSION_ANNOTATION;
use crate::base::text::word;

use super::{
    ConnectError,
    client::{CallError, FIELD_MANAGER, call, chain, connect},
};

/// So many changes of a kind are named; the rest is counted.
const NAMED: usize = 10;

/// What becomes of a CRD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrdTurn {
    /// It is missing, and is made.
    Create,
    /// It says what this binary says.
    Same,
    /// It changes in these points.
    Change(Vec<String>),
    /// It stays as it is, for this reason.
    Refuse(String),
}

/// The CRDs cannot be compared or written.
#[derive(Debug, thiserror::Error)]
pub enum CrdApplyError {
    /// No API server is known.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The API server does not answer, or refuses.
    #[error("CustomResourceDefinition {name}: {words}")]
    Call {
        /// The CRD's name.
        name: String,
        /// Its words.
        words: String,
    },
}

/// Compares each of these CRDs with the cluster's, and writes those that differ unless `dry_run`; the result has their names.
///
/// # Errors
/// The API server does not answer, or refuses.
pub async fn apply_crds(crds: &[Value], dry_run: bool) -> Result<Vec<(String, CrdTurn)>, CrdApplyError> {
    let api: Api<CustomResourceDefinition> = Api::all(connect().await?);
    let mut turns = Vec::new();
    for crd in crds {
        let name = crd.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let failed = |error: CallError| CrdApplyError::Call { name: name.clone(), words: chain(&error).to_string() };
        let standing = call(api.get_opt(&name)).await.map_err(failed)?;
        let standing = standing.map(|standing| serde_json::to_value(standing).unwrap_or_default());
        let turn = turn(crd, standing.as_ref());
        if !dry_run && matches!(turn, CrdTurn::Create | CrdTurn::Change(_)) {
            // By force: the chart and kubectl own these fields too, and say the same of them in another version.
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            call(api.patch(&name, &parameters, &Patch::Apply(crd))).await.map_err(failed)?;
        }
        turns.push((name, turn));
    }
    Ok(turns)
}

/// What to do about a CRD. Pure.
fn turn(ours: &Value, standing: Option<&Value>) -> CrdTurn {
    let Some(standing) = standing else { return CrdTurn::Create };
    if let Some(why) = refusal(ours, standing) {
        return CrdTurn::Refuse(why);
    }
    let changes = changes(ours, standing);
    if changes.is_empty() { CrdTurn::Same } else { CrdTurn::Change(changes) }
}

fn refusal(ours: &Value, standing: &Value) -> Option<String> {
    let (version, standing_version) = (made_by(ours), made_by(standing));
    if let (Some(own), Some(theirs)) = (version.and_then(numbers), standing_version.and_then(numbers))
        && theirs > own
    {
        return Some(format!(
            "it is of version {}, and this is {}; an older one would drop fields of objects. Run the newer binary",
            word(standing_version.unwrap_or_default()),
            word(version.unwrap_or_default())
        ));
    }
    let known = versions(ours);
    let list = |pointer: &str| standing.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let stored = list("/status/storedVersions").filter_map(Value::as_str).find(|stored| !known.contains_key(stored));
    if let Some(stored) = stored {
        return Some(format!("objects are stored in version {}, which this binary does not have; it is older than the CRD", word(stored)));
    }
    let served = versions(standing).into_iter().find(|(name, version)| version["served"] == true && !known.contains_key(name));
    if let Some((name, _)) = served {
        return Some(format!("it serves version {}, which this binary does not have; it is older than the CRD", word(name)));
    }
    let has_status = |crd: &Value| versions(crd).values().all(|version| version.pointer("/subresources/status").is_some());
    if standing_version.is_none() && has_status(ours) && !has_status(standing) {
        return Some("it has no status subresource, as Gloo's own: it belongs to Gloo, and Clingfish serves it as it is".to_owned());
    }
    None
}

/// Version of Clingfish by which a CRD was made.
fn made_by(crd: &Value) -> Option<&str> {
    crd.pointer("/metadata/annotations").and_then(|annotations| annotations.get(VERSION_ANNOTATION)).and_then(Value::as_str)
}

/// The numbers of a version, such as 1.20.3.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let core = version.trim_start_matches('v').split(['-', '+']).next()?;
    core.split('.').map(|number| number.parse().ok()).collect()
}

fn versions(crd: &Value) -> BTreeMap<&str, &Value> {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten();
    versions.filter_map(|version| Some((version.get("name")?.as_str()?, version))).collect()
}

/// In what points a CRD differs from the cluster's, for people.
fn changes(ours: &Value, standing: &Value) -> Vec<String> {
    let (wanted, there) = (fields(ours), fields(standing));
    let differing = wanted.iter().filter(|(path, schema)| there.get(*path).is_some_and(|standing| !includes(standing, schema)));
    let mut changes = Vec::new();
    changes.extend(named("fields are new", topmost(wanted.keys().filter(|path| !there.contains_key(*path))).into_iter()));
    changes.extend(named("fields go", topmost(there.keys().filter(|path| !wanted.contains_key(*path))).into_iter()));
    changes.extend(named("fields have another schema", differing.map(|(path, _)| path)));
    let parts = [("/spec/names", "names"), ("/spec/scope", "scope"), ("/metadata/annotations", "annotations")];
    let differs =
        |pointer: &str| !includes(standing.pointer(pointer).unwrap_or(&Value::Null), ours.pointer(pointer).unwrap_or(&Value::Null));
    changes.extend(parts.into_iter().filter(|(pointer, _)| differs(pointer)).map(|(_, words)| format!("{words} change")));
    let standing_versions = versions(standing);
    for (name, version) in versions(ours) {
        for part in ["served", "storage", "subresources", "additionalPrinterColumns"] {
            let there = standing_versions.get(name).and_then(|version| version.get(part)).unwrap_or(&Value::Null);
            if !includes(there, version.get(part).unwrap_or(&Value::Null)) {
                changes.push(format!("{name}: {part} changes"));
            }
        }
    }
    changes
}

/// Of sorted paths those that are below no other one.
fn topmost<'a>(paths: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut top: Vec<&String> = Vec::new();
    for path in paths {
        let is_below = |above: &&String| path.strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with(['.', '[']));
        if !top.iter().any(is_below) {
            top.push(path);
        }
    }
    top
}

fn named<'a>(what: &str, paths: impl Iterator<Item = &'a String>) -> Option<String> {
    let paths: Vec<&str> = paths.map(String::as_str).collect();
    let rest = paths.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let first: Vec<&str> = paths.iter().take(NAMED).copied().collect();
    (!paths.is_empty()).then(|| format!("{what}: {}{more}", first.join(", ")))
}

/// Every field of every version, with its schema less its own fields.
fn fields(crd: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for (name, version) in versions(crd) {
        if let Some(schema) = version.pointer("/schema/openAPIV3Schema") {
            collect(name, schema, &mut fields);
        }
    }
    fields
}

fn collect(path: &str, schema: &Value, fields: &mut BTreeMap<String, Value>) {
    let mut own: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
    let properties = own.remove("properties");
    let nested = ["items", "additionalProperties"].map(|part| (part, own.remove(part)));
    // Words for people change no object.
    own.remove("description");
    fields.insert(path.to_owned(), own.into());
    for (name, property) in properties.as_ref().and_then(Value::as_object).into_iter().flatten() {
        collect(&format!("{path}.{name}"), property, fields);
    }
    for (part, schema) in nested {
        if let Some(schema) = schema.filter(Value::is_object) {
            collect(&format!("{path}{}", if part == "items" { "[]" } else { ".*" }), &schema, fields);
        }
    }
}

/// Whether everything that is wanted stands: the API server fills in more.
fn includes(standing: &Value, wanted: &Value) -> bool {
    match (standing, wanted) {
        (_, Value::Null) => true,
        (Value::Object(standing), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| includes(standing.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(standing), Value::Array(wanted)) => {
            standing.len() == wanted.len() && standing.iter().zip(wanted).all(|(standing, wanted)| includes(standing, wanted))
        }
        (standing, wanted) => standing == wanted,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn ours() -> Value {
        json!({
            "metadata": {"name": "upstreams.gloo.solo.io", "annotations": {VERSION_ANNOTATION: "0.9.0"}},
            "spec": {"group": "gloo.solo.io", "scope": "Namespaced", "names": {"kind": "Upstream", "plural": "upstreams"}, "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "size": {"type": "integer", "description": "words"}, "hosts": {"type": "array", "items": {"type": "object", "properties": {"addr": {"type": "string"}}}},
                }}}}},
            }]},
        })
    }

    /// As the API server has it.
    fn standing() -> Value {
        let mut crd = ours();
        crd["spec"]["conversion"] = json!({"strategy": "None"});
        crd["spec"]["names"]["listKind"] = "UpstreamList".into();
        crd["status"] = json!({"storedVersions": ["v1"]});
        crd
    }

    #[test]
    fn what_says_the_same_is_left_alone_and_what_is_missing_is_made() {
        assert_eq!(turn(&ours(), None), CrdTurn::Create);
        assert_eq!(turn(&ours(), Some(&standing())), CrdTurn::Same);
        let mut described = standing();
        described["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]["description"] =
            "other".into();
        assert_eq!(turn(&ours(), Some(&described)), CrdTurn::Same);
    }

    #[test]
    fn every_difference_is_named() {
        let mut older = standing();
        older["metadata"]["annotations"][VERSION_ANNOTATION] = "0.8.5".into();
        let version = &mut older["spec"]["versions"][0];
        version["additionalPrinterColumns"] = json!([]);
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        spec["size"] = json!({"type": "string"});
        spec["old"] = json!({"type": "string"});
        spec["hosts"]["items"]["properties"].as_object_mut().unwrap().remove("addr");
        let CrdTurn::Change(changes) = turn(&ours(), Some(&older)) else { panic!("a change") };
        let expected = [
            "fields are new: v1.spec.hosts[].addr",
            "fields go: v1.spec.old",
            "fields have another schema: v1.spec.size",
            "annotations change",
        ];
        assert_eq!(changes.iter().map(String::as_str).collect::<BTreeSet<_>>(), BTreeSet::from(expected));
        let mut without_status = standing();
        without_status["spec"]["versions"][0]["subresources"] = json!({});
        assert_eq!(turn(&ours(), Some(&without_status)), CrdTurn::Change(vec!["v1: subresources changes".into()]));
    }

    #[test]
    fn of_a_field_that_is_new_with_all_below_it_the_field_is_named() {
        let paths = ["v1.a", "v1.a.b", "v1.a[]", "v1.ab", "v1.c.d"].map(String::from);
        assert_eq!(topmost(paths.iter()), ["v1.a", "v1.ab", "v1.c.d"]);
    }

    #[test]
    fn many_differences_are_counted() {
        let paths: Vec<String> = (0..25).map(|number| format!("f{number}")).collect();
        let words = named("fields go", paths.iter()).unwrap();
        assert!(words.ends_with("f9 and 15 more"), "{words}");
        assert_eq!(named("fields go", [].iter()), None);
    }

    #[test]
    fn nothing_goes_back() {
        let refused = |crd: &Value| match turn(&ours(), Some(crd)) {
            CrdTurn::Refuse(why) => why,
            turn => panic!("{turn:?}"),
        };
        let mut newer = standing();
        newer["metadata"]["annotations"][VERSION_ANNOTATION] = "0.10.0".into();
        assert!(refused(&newer).starts_with("it is of version 0.10.0, and this is 0.9.0"));
        let mut stored = standing();
        stored["status"]["storedVersions"] = json!(["v1", "v2"]);
        assert!(refused(&stored).starts_with("objects are stored in version v2"));
        let mut served = standing();
        served["spec"]["versions"].as_array_mut().unwrap().push(json!({"name": "v2", "served": true}));
        assert!(refused(&served).starts_with("it serves version v2"));
        let mut gloos = standing();
        gloos["metadata"].as_object_mut().unwrap().remove("annotations");
        gloos["spec"]["versions"][0].as_object_mut().unwrap().remove("subresources");
        assert!(refused(&gloos).contains("belongs to Gloo"));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (version, expected) in [("1.20.3", Some(vec![1, 20, 3])), ("v0.1.0-rc.1", Some(vec![0, 1, 0])), ("x", None), ("", None)] {
            assert_eq!(numbers(version), expected, "{version}");
        }
    }
}
