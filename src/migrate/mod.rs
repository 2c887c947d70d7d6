//! From an installation of Gloo Gateway, as `kubectl get -o yaml` exports it, to the objects that let Clingfish serve the same routes beside it,
//! and to a report on what is lost, what behaves differently and what is left to do. No I/O.

mod check;
mod document;
mod gateways;
mod installation;
mod options;
mod report;
mod routes;
mod unread;
mod upstreams;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::base::text::word;

pub use report::{Effect, Note};

use document::Subject;
use installation::Installation;

/// What the twins are called.
#[derive(Clone, Debug)]
pub struct MigrationOptions {
    /// The GatewayClass of the twins.
    pub class: Box<str>,
    /// What a twin's name ends in.
    pub suffix: Box<str>,
}

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
struct Output {
    files: BTreeMap<(Step, String), Value>,
    notes: Vec<Note>,
}

/// Migrates the objects of an export. Lists among them are taken apart.
pub fn migrate(documents: Vec<Value>, options: &MigrationOptions) -> Migration {
    let mut output = Output::default();
    let installation = Installation::new(documents, &mut output);
    let twins = gateways::twins(&installation, options, &mut output);
    let used = routes::attach(&installation, &twins, &mut output);
    options::attach(&installation, &twins, &mut output);
    upstreams::keep(&installation, &used, &mut output);
    unread::tell(&installation, &mut output);
    if twins.is_empty() {
        output.note(
            Effect::ToDo,
            "export",
            "there is no Gateway of a class of Gloo's in it: expected Gateways whose class has controllerName solo.io/gloo-gateway",
        );
    }
    check::check(&installation, &used, options, &mut output);
    output.finish()
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
    fn note(&mut self, effect: Effect, object: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note { object: object.into(), effect, text: text.into().into() });
    }

    fn file(&mut self, step: Step, document: Value) {
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

    fn finish(mut self) -> Migration {
        self.notes.sort();
        self.notes.dedup();
        let files = self.files.into_iter().map(|((step, name), document)| OutputFile { step, name, document });
        Migration { files: files.collect(), notes: self.notes }
    }
}
