//! A field of Gloo's types, and how it is answered.

/// How a field is answered when it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does what Gloo says.
    Honoured,
    /// Some values are honoured, the others answered by name; the note says which.
    Partly,
    /// Without a meaning here, or for Gloo's own use: accepted silently.
    Ignored,
    /// The object serves without it: state Warning.
    NotApplied,
    /// Serving without it would be wrong or unsafe: state Rejected, requests are answered 500.
    Refused,
}

/// A field and its answer. `[]` stands for any index of a list; an entry holds for everything below it that has no entry of its own.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Dotted path from the object's root.
    pub path: &'static str,
    /// The answer.
    pub answer: Answer,
    /// What a user should know; the reason, for fields that are refused.
    pub note: &'static str,
}

/// An entry of a table.
pub(super) const fn field(path: &'static str, answer: Answer, note: &'static str) -> Field {
    Field { path, answer, note }
}

/// Why `extensions` is not applied.
pub(super) const EXTENSIONS: &str = "configuration of plugins; the name of a security option in it: as that option itself";
