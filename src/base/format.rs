//! How lines of a log are written.

use std::sync::Arc;

use super::LogTemplate;

/// Form of a log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Form of the access log's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// `key=value` pairs.
    Text,
    /// One JSON object a line.
    Json,
    /// By a template.
    Template(Arc<LogTemplate>),
}
