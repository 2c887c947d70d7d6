//! What a template takes of heads.

use http::HeaderName;

/// What a template takes of a request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestField {
    /// `:method`.
    Method,
    /// `:path`, with the query.
    Path,
    /// `x-envoy-original-path`: the path as received, where another one is forwarded.
    OriginalPath,
    /// `:authority`.
    Authority,
    /// `:scheme`.
    Scheme,
    /// A header.
    Header(HeaderName),
}

/// What a template takes of a response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseField {
    /// `:status`.
    Status,
    /// A header.
    Header(HeaderName),
}

/// What is kept of a request for a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) request: Vec<RequestField>,
    pub(super) response: Vec<ResponseField>,
}

/// The index of a field; each is kept once.
pub(super) fn index_of<F: PartialEq>(fields: &mut Vec<F>, field: F) -> usize {
    fields.iter().position(|kept| *kept == field).unwrap_or_else(|| {
        fields.push(field);
        fields.len() - 1
    })
}
