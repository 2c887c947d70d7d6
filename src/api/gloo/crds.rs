//! The CRDs of Gloo's kinds, made from the types.

use kube::CustomResourceExt;

use super::{RouteOption, Upstream};

/// The CRDs as YAML documents, with the file under `crds/` that holds each.
///
/// # Errors
/// What could not be serialised.
pub fn crd_documents() -> Result<[(&'static str, String); 2], serde_saphyr::ser::Error> {
    Ok([
        ("upstreams.yaml", serde_saphyr::to_string(&Upstream::crd())?),
        ("routeoptions.yaml", serde_saphyr::to_string(&RouteOption::crd())?),
    ])
}

/// The CRDs as one multi-document stream, as `clingfish crds` prints it.
///
/// # Errors
/// What could not be serialised.
pub fn crds_yaml() -> Result<String, serde_saphyr::ser::Error> {
    Ok(crd_documents()?.map(|(_, yaml)| format!("---\n{}\n", yaml.trim_end())).concat())
}
