//! Names of the configuration as records hold them.

use std::{fmt::Display, sync::Arc};

/// A shared name that is shown in lines of the log and in spans.
pub type Shown = Arc<dyn Display + Send + Sync>;
