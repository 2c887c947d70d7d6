//! How lines of a log are written.

/// Form of a log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
