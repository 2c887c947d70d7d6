//! What is to be said about manifests.

use std::sync::Arc;

use crate::base::Message;

/// Something to be said about the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Something is refused; else it is only left aside.
    pub refused: bool,
    /// What, beginning with its place.
    pub text: Message,
}

/// Notices in blocks that are shared as long as nothing of them changes: there may be as many notices as documents.
pub type NoticeBlocks = Vec<Arc<[Notice]>>;

// === impl Notice ===

impl Notice {
    pub(in crate::controller) fn refused(text: impl Into<Message>) -> Self {
        Self { refused: true, text: text.into() }
    }

    pub(in crate::controller) fn aside(text: impl Into<Message>) -> Self {
        Self { refused: false, text: text.into() }
    }

    pub(super) fn at(&self, place: &str) -> Self {
        Self { refused: self.refused, text: format!("{place}: {}", self.text).into() }
    }
}
