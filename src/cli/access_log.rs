//! Flags that say which requests have a line in the access log.

use std::time::Duration;

use clap::Args;

use crate::settings::RawAccessLogConditions;

use super::duration::duration;

/// Which requests have a line in the access log; without any of these, all have one.
#[derive(Clone, Debug, Args)]
pub struct AccessLogArgs {
    /// Statuses that have a line in the access log: 404, 5xx, 500-504; 0 where there was no response
    #[arg(long, env = "CLINGFISH_ACCESS_LOG_STATUS", value_name = "STATUS,...", value_delimiter = ',')]
    pub access_log_status: Vec<String>,
    /// Requests that took so long have a line in the access log
    #[arg(long, env = "CLINGFISH_ACCESS_LOG_MIN_DURATION", value_name = "DURATION", value_parser = duration)]
    pub access_log_min_duration: Option<Duration>,
    /// Response flags that have a line in the access log, such as UF,UH, or any
    #[arg(long, env = "CLINGFISH_ACCESS_LOG_FLAGS", value_name = "FLAG,...", value_delimiter = ',')]
    pub access_log_flags: Vec<String>,
    /// Share of all other requests that has a line in the access log, by request id [default: 0 with one of the flags above, else 100]
    #[arg(long, env = "CLINGFISH_ACCESS_LOG_SAMPLE", value_name = "PERCENT")]
    pub access_log_sample: Option<f64>,
}

impl From<AccessLogArgs> for RawAccessLogConditions {
    fn from(arguments: AccessLogArgs) -> Self {
        Self {
            statuses: arguments.access_log_status,
            min_duration: arguments.access_log_min_duration,
            flags: arguments.access_log_flags,
            sample: arguments.access_log_sample,
        }
    }
}
