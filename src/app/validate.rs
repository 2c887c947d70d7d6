//! `clingfish validate`: what a cluster would accept of a directory.

use std::io::Write;

use serde_json::{Value, json};

use crate::base::{Kind, ObjectRef};
use crate::cli::{ValidateArgs, ValidateOutput};
use crate::controller::problems;
use crate::translate::{GlooState, Options, Status, Translation};

use super::{command::CommandError, source::translate_directory};

/// The outcome of a validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is rejected.
    Accepted,
    /// Something is.
    Rejected,
}

/// Validates a directory.
pub(super) fn run(arguments: &ValidateArgs, out: &mut impl Write) -> Result<Verdict, CommandError> {
    let (translation, notices) = translate_directory(&arguments.directory, &Options::validate())?;
    let mut rejected = 0;
    match arguments.output {
        ValidateOutput::Yaml => {
            for (object, status) in &translation.statuses {
                writeln!(out, "---\n{}", yaml(object, status)?.trim_end())?;
            }
            let mut errors = std::io::stderr().lock();
            for notice in notices.iter().filter(|notice| notice.refused) {
                writeln!(errors, "{}", notice.text)?;
            }
        }
        ValidateOutput::Text => {
            for notice in &notices {
                writeln!(out, "{}: {}", if notice.refused { "rejected" } else { "notice" }, notice.text)?;
            }
            for notice in &translation.notices {
                writeln!(out, "notice: {notice}")?;
            }
            for (object, status) in &translation.statuses {
                match problems(status) {
                    None => writeln!(out, "accepted: {object}")?,
                    Some(problem) if is_rejected(status) => writeln!(out, "rejected: {object}: {problem}")?,
                    Some(problem) => writeln!(out, "warning: {object}: {problem}")?,
                }
            }
        }
    }
    rejected += notices.iter().filter(|notice| notice.refused).count();
    rejected += count_rejected(&translation);
    if arguments.output == ValidateOutput::Text {
        writeln!(out, "{} objects have a status, {rejected} rejected", translation.statuses.len())?;
    }
    Ok(if rejected == 0 { Verdict::Accepted } else { Verdict::Rejected })
}

fn count_rejected(translation: &Translation) -> usize {
    translation.statuses.values().filter(|status| is_rejected(status)).count()
}

/// Whether something in the status is refused; a warning is none.
fn is_rejected(status: &Status) -> bool {
    match status {
        Status::Gloo(gloo) => gloo.statuses.values().any(|status| status.state == GlooState::Rejected),
        Status::GatewayClass(_) | Status::Gateway(_) | Status::Route(_) => problems(status).is_some(),
    }
}

/// The object with its status as it would be written into the cluster.
fn yaml(object: &ObjectRef, status: &Status) -> Result<String, CommandError> {
    let mut metadata = json!({ "name": &*object.name.name });
    if object.kind.is_namespaced()
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("namespace".into(), Value::from(&*object.name.namespace));
    }
    let document = json!({
        "apiVersion": api_version(object.kind),
        "kind": object.kind.as_str(),
        "metadata": metadata,
        "status": status,
    });
    serde_saphyr::to_string(&document).map_err(|error| CommandError::Message(format!("{object}: its status cannot be shown: {error}")))
}

fn api_version(kind: Kind) -> String {
    match kind.group() {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::GatewayStatus;

    #[test]
    fn a_status_is_a_document_of_its_object() {
        let status = Status::Gateway(GatewayStatus::default());
        let text = yaml(&ObjectRef::new(Kind::Gateway, "a", "b"), &status).unwrap();
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(value["apiVersion"], "gateway.networking.k8s.io/v1");
        assert_eq!(value["metadata"], json!({"name": "b", "namespace": "a"}));
        assert_eq!(value["status"]["listeners"], json!([]));
    }
}
