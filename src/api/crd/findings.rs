//! What a check finds in an object.

/// A field that breaks its schema or a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct Violation {
    /// Dotted path; empty for the object as a whole.
    pub(in crate::api) field: String,
    /// What is wrong and what was expected.
    pub(in crate::api) message: String,
}

/// What was found in an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Findings {
    /// What the API server refuses, in the order of the schema.
    pub(in crate::api) violations: Vec<Violation>,
    /// Dotted paths of fields that the schema does not have: the API server drops them.
    pub(in crate::api) unknown: Vec<String>,
}
