//! How lines of a log are written.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

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

/// All parts of a share.
pub const MILLION: u32 = 1_000_000;

/// Which requests have a line in the access log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessLogConditions {
    /// Statuses that always have one; 0: no response was begun.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Requests that took so long always have one.
    pub min_duration: Option<Duration>,
    /// Envoy's response flags that always have one; `any`: all of them.
    pub flags: Vec<Box<str>>,
    /// Of a million of the others so many have one.
    pub share: Option<u32>,
}

// === impl AccessLogConditions ===

impl AccessLogConditions {
    /// How many of a million requests that meet no condition have a line: all, unless there are conditions.
    pub fn share_of_others(&self) -> u32 {
        let is_conditional = !self.statuses.is_empty() || self.min_duration.is_some() || !self.flags.is_empty();
        self.share.unwrap_or(if is_conditional { 0 } else { MILLION })
    }
}
