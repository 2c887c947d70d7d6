//! One document's text to objects.

use serde_json::Value;

use crate::api::{self, Document};
use crate::base::{Kind, Message, ObjectRef};
use crate::translate::Change;

use super::{notice::Notice, split::without_marker};

/// What a document holds.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Its objects with the change that each makes.
    pub(super) objects: Vec<(ObjectRef, Change)>,
    /// What is to be said about the document, without its place.
    pub(super) notices: Vec<Notice>,
}

/// A document that is no YAML, or no Kubernetes object.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unparsable {
    /// Line within the document, from 1, and column, from 1.
    pub(super) position: Option<(usize, usize)>,
    /// What is wrong. The text itself is not quoted: who can say that it is no Secret?
    pub(super) message: Message,
    /// It is well-formed; it is only no object.
    pub(super) well_formed: bool,
}

/// Parses a document. `place` (`file.yaml:12`) goes into the messages of objects that cannot be decoded.
pub(super) fn parse(text: &str, place: &str) -> Result<Parsed, Unparsable> {
    let mut parsed = Parsed::default();
    let value = to_value(text)?;
    if !value.is_null() {
        take(value, place, &mut parsed)?;
    }
    Ok(parsed)
}

fn take(value: Value, place: &str, parsed: &mut Parsed) -> Result<(), Unparsable> {
    let mut unknown = Vec::new();
    let decoded = api::decode_manifest(value, &mut unknown);
    if !unknown.is_empty() {
        let object = match &decoded {
            Ok(Document::Object(object)) => format!("{}: ", object.object_ref()),
            Err(error) => error.object.as_ref().map(|object| format!("{object}: ")).unwrap_or_default(),
            Ok(Document::List(_) | Document::Other(_)) => String::new(),
        };
        let dropped = unknown.join(", ");
        parsed.notices.push(Notice::aside(format!("{object}these fields are unknown, and are ignored as a cluster drops them: {dropped}")));
    }
    match decoded {
        Ok(Document::Object(object)) => parsed.objects.push((object.object_ref(), Change::apply(object))),
        Ok(Document::List(items)) => {
            for item in items {
                // A list is one document: an item that is no object does not cost the others.
                if let Err(error) = take(item, place, parsed) {
                    parsed.notices.push(Notice::refused(format!("an item of the list is ignored: {}", error.message)));
                }
            }
        }
        Ok(Document::Other(name)) => {
            let unguarded = if may_guard(&name) { ", so its security options have no effect" } else { "" };
            parsed.notices.push(Notice::aside(format!("{name} is ignored: Clingfish does not read this kind{unguarded}")));
        }
        Err(mut error) => {
            let Some(object) = error.object.clone() else {
                return Err(Unparsable { position: None, message: field_message(&error.field, &error.message), well_formed: true });
            };
            parsed.notices.push(Notice::refused(format!("{error}; its last good version, if any, keeps serving")));
            error.message = format!("{} ({place})", error.message).into();
            parsed.objects.push((object, Change::Undecodable(error)));
        }
    }
    Ok(())
}

/// Whether a document of a kind that is not read, `group/version/kind name`, may hold security options for routes or backends. A kind that is
/// read in another version, or spelled otherwise, may do so as well.
fn may_guard(document: &str) -> bool {
    const OF_OTHERS: [&str; 3] = ["BackendTLSPolicy", "SecurityPolicy", "TrafficPolicy"];
    let Some(kind) = document.split(' ').next().and_then(|kind| kind.rsplit('/').next()) else { return false };
    let kinds = OF_OTHERS.into_iter().chain(Kind::GATEWAY_OPTIONS.map(Kind::as_str)).chain([Kind::RouteOption.as_str()]);
    kinds.map(str::to_ascii_lowercase).any(|known| kind.to_ascii_lowercase().trim_end_matches('s') == known)
}

fn field_message(field: &str, message: &str) -> Message {
    if field.is_empty() { message.into() } else { format!("field {field}: {message}").into() }
}

/// JSON by the quick parser; what that one refuses may still be YAML.
pub(super) fn to_value(text: &str) -> Result<Value, Unparsable> {
    let json = without_marker(text);
    if json.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(json)
    {
        return Ok(value);
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let position = error.location().map(|location| (to_usize(location.line()), to_usize(location.column())));
        Unparsable { position, message: yaml_problem(&error).into(), well_formed: false }
    })
}

/// What is wrong with a text, without a word of it. Of the messages that come from others only the YAML parser's are passed on: they hold no
/// more of the text than one character.
fn yaml_problem(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    match error.without_snippet() {
        Error::ExternalMessage { msg, .. } => one_line(msg),
        Error::Eof { .. } => "it ends too early".to_owned(),
        Error::Unexpected { expected, .. } => format!("expected {expected}"),
        Error::MultipleDocuments { .. } => "expected one document".to_owned(),
        Error::DuplicateMappingKey { .. } => "a mapping has one key twice".to_owned(),
        Error::UnknownAnchor { .. } => "an alias names no anchor".to_owned(),
        Error::Budget { .. } => "it is too large or too deep".to_owned(),
        _ => "it cannot be read as an object".to_owned(),
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `:LINE:COLUMN: what is wrong`.
pub(super) fn refusal(first_line: usize, error: &Unparsable) -> String {
    let (line, column) = error.position.map_or((first_line, None), |(line, column)| (first_line + line.saturating_sub(1), Some(column)));
    let column = column.map(|column| format!(":{column}")).unwrap_or_default();
    format!(":{line}{column}: cannot be parsed: {}", error.message)
}
