//! The CRDs, made from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::super::{AffinityPolicy, AffinitySlots, GatewayParameters};
use super::{RouteOption, Upstream};

/// Annotation of the CRDs: the version of Clingfish that they are of.
pub const VERSION_ANNOTATION: &str = "clingfish.dev/version";

/// The CRDs as YAML documents, with the file under `crds/` that holds each.
///
/// # Errors
/// What could not be serialised.
pub fn crd_documents() -> Result<[(&'static str, String); 5], CrdError> {
    let [upstreams, route_options, parameters, affinity, slots] = crd_values()?;
    Ok([
        ("upstreams.yaml", serde_saphyr::to_string(&upstreams)?),
        ("routeoptions.yaml", serde_saphyr::to_string(&route_options)?),
        ("gatewayparameters.yaml", serde_saphyr::to_string(&parameters)?),
        ("affinitypolicies.yaml", serde_saphyr::to_string(&affinity)?),
        ("affinityslots.yaml", serde_saphyr::to_string(&slots)?),
    ])
}

/// The CRDs as JSON.
///
/// # Errors
/// What could not be serialised.
pub fn crd_values() -> Result<[Value; 5], CrdError> {
    Ok([
        value(Upstream::crd())?,
        value(RouteOption::crd())?,
        value(GatewayParameters::crd())?,
        value(AffinityPolicy::crd())?,
        value(AffinitySlots::crd())?,
    ])
}

/// Why the CRDs could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// As JSON.
    #[error("the CRD cannot be serialised: {0}")]
    Json(#[from] serde_json::Error),
    /// As YAML.
    #[error("the CRD cannot be written as YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser::Error),
}

fn value(mut crd: CustomResourceDefinition) -> Result<Value, CrdError> {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert(VERSION_ANNOTATION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let mut crd = serde_json::to_value(crd)?;
    drop_defaults(&mut crd);
    Ok(crd)
}

/// Drops the defaults that the types imply: the API server would write them into the objects, and tools that compare would see a drift.
fn drop_defaults(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("default");
            members.values_mut().for_each(drop_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_defaults),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The CRDs as one multi-document stream, as `clingfish crds` prints it.
///
/// # Errors
/// What could not be serialised.
pub fn crds_yaml() -> Result<String, CrdError> {
    Ok(crd_documents()?.map(|(_, yaml)| format!("---\n{}\n", yaml.trim_end())).concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = "GOLDEN_UPDATE=1 cargo test --lib crds";

    #[test]
    fn the_directory_holds_the_crds() {
        for (file, yaml) in crd_documents().unwrap() {
            let path = format!("{}/crds/{file}", env!("CARGO_MANIFEST_DIR"));
            #[expect(clippy::disallowed_methods, reason = "a switch of the test, not a setting of the program")]
            if std::env::var("GOLDEN_UPDATE").is_ok() {
                std::fs::write(&path, &yaml).unwrap();
            }
            let held = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(held == yaml, "crds/{file} is stale: {COMMAND}");
        }
    }

    #[test]
    fn names_are_gloos() {
        let names = |index: usize| {
            let crd: Value = serde_saphyr::from_str(&crd_documents().unwrap()[index].1).unwrap();
            assert_eq!(crd["spec"]["scope"], "Namespaced");
            assert_eq!(crd["spec"]["names"]["categories"], serde_json::json!(["gloo-gateway"]));
            assert_eq!(crd["spec"]["versions"][0]["subresources"], serde_json::json!({"status": {}}));
            let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().iter();
            assert_eq!(columns.map(|column| column["name"].as_str().unwrap()).collect::<Vec<_>>(), ["State", "Reason", "Age"]);
            (crd["metadata"]["name"].as_str().unwrap().to_owned(), crd["spec"]["names"]["shortNames"].clone())
        };
        assert_eq!(names(0), ("upstreams.gloo.solo.io".to_owned(), serde_json::json!(["us", "gus"])));
        assert_eq!(names(1), ("routeoptions.gateway.solo.io".to_owned(), serde_json::json!(["rto", "rtopts", "grto"])));
    }

    /// Structural schemas prune by default: every object must keep what it does not know, so that a status can name it.
    #[test]
    fn unknown_fields_are_kept_everywhere() {
        fn check(schema: &Value, path: &str) {
            if schema["type"] == "object" {
                assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], true, "{path}");
            }
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                check(property, &format!("{path}.{name}"));
            }
            if schema.get("items").is_some() {
                check(&schema["items"], &format!("{path}[]"));
            }
        }
        for (file, yaml) in crd_documents().unwrap() {
            let crd: Value = serde_saphyr::from_str(&yaml).unwrap();
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            for part in ["spec", "status"] {
                check(&schema["properties"][part], &format!("{file} {part}"));
            }
        }
    }

    /// Whether something that has to be there is missing is said in a status, and does not keep the object out of the cluster.
    #[test]
    fn nothing_below_the_spec_is_required() {
        fn check(schema: &Value, path: &str) {
            assert!(schema.get("required").is_none(), "{path} requires {}", schema["required"]);
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                check(property, &format!("{path}.{name}"));
            }
            if let Some(items) = schema.get("items") {
                check(items, &format!("{path}[]"));
            }
        }
        for (file, yaml) in crd_documents().unwrap() {
            let crd: Value = serde_saphyr::from_str(&yaml).unwrap();
            check(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &format!("{file} spec"));
        }
    }

    #[test]
    fn the_stream_has_a_mark_before_each_document() {
        assert_eq!(crds_yaml().unwrap().lines().filter(|line| *line == "---").count(), 5);
    }
}
