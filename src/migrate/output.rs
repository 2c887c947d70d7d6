//! What a migration gives: files for `kubectl`, and notes for people.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::text::word;

use super::{
    document::Subject,
    report::{Effect, Note},
};

/// What is to be done with an object of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It is new: `kubectl apply`.
    New,
    /// It takes the place of an object of the installation: `kubectl replace`.
    Changed,
}

/// A file of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputFile {
    /// What is to be done with it.
    pub step: Step,
    /// Its name within the step's directory.
    pub name: String,
    /// The object.
    pub document: Value,
}

/// The outcome of a migration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Migration {
    /// In order of step, kind, namespace and name.
    pub files: Vec<OutputFile>,
    /// In order of object and effect.
    pub notes: Vec<Note>,
}

/// Takes notes and objects in.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) files: BTreeMap<(Step, String), Value>,
    pub(super) notes: Vec<Note>,
}

/// `kubectl` goes by the names of files: permissions before what needs them, what guards before what it guards.
fn rank(kind: &str) -> u8 {
    match kind {
        "ReferenceGrant" => 1,
        "Gateway" => 3,
        "Upstream" => 4,
        "HTTPRoute" => 5,
        _ => 2,
    }
}

// === impl Step ===

impl Step {
    /// The directory of its files.
    pub fn directory(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
        }
    }
}

// === impl Migration ===

impl Migration {
    /// Whether something that guards is lost, or something is answered with errors that Gloo serves.
    pub fn is_refused(&self) -> bool {
        self.notes.iter().any(|note| matches!(note.effect, Effect::Unguarded | Effect::Refused))
    }
}

// === impl Output ===

impl Output {
    pub(super) fn note(&mut self, effect: Effect, object: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { object: object.into(), effect, text: text.into().into() });
    }

    pub(super) fn file(&mut self, step: Step, document: Value) {
        let subject = Subject::of(&document);
        let kind = format!("{}_{}", rank(&subject.kind), subject.kind.to_ascii_lowercase());
        let parts = [kind, subject.namespace, subject.name].map(|part| word(&part).to_string().replace('/', "_"));
        let base = parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("_");
        // Names that only a person can write (`a_b`) may meet.
        let mut names = std::iter::once(format!("{base}.yaml")).chain((2_u32..).map(|number| format!("{base}_{number}.yaml")));
        if let Some(name) = names.find(|name| !self.files.contains_key(&(step, name.clone()))) {
            self.files.insert((step, name), document);
        }
    }

    pub(super) fn finish(mut self) -> Migration {
        self.notes.sort();
        self.notes.dedup();
        let files = self.files.into_iter().map(|((step, name), document)| OutputFile { step, name, document });
        Migration { files: files.collect(), notes: self.notes }
    }
}
