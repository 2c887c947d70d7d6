//! Which requests have a line: those that meet a condition, and a share of the others.

use std::{ops::RangeInclusive, time::Duration};

use xxhash_rust::xxh64::xxh64;

use crate::base::{AccessLogConditions, MILLION};

use super::super::ResponseFlag;
use super::AccessRecord;

/// Which requests have a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccessLogFilter {
    statuses: Box<[RangeInclusive<u16>]>,
    min_duration: Option<Duration>,
    flags: Box<[ResponseFlag]>,
    /// Of a million of the others.
    share: u32,
}

/// A response flag that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--access-log-flags: {flag:?} is unknown; expected any, or some of {}", known())]
pub struct UnknownFlag {
    flag: Box<str>,
}

/// In place of flags: all of them.
const ANY: &str = "any";

fn known() -> String {
    ResponseFlag::ALL.iter().skip(1).map(|flag| flag.as_str()).collect::<Vec<_>>().join(", ")
}

// === impl AccessLogFilter ===

impl AccessLogFilter {
    /// `None`: every request has a line.
    pub(super) fn new(conditions: &AccessLogConditions) -> Result<Option<Self>, UnknownFlag> {
        let mut flags = Vec::new();
        for flag in &conditions.flags {
            let named: Vec<ResponseFlag> = ResponseFlag::ALL
                .into_iter()
                .filter(|known| *known != ResponseFlag::None && (&**flag == ANY || known.as_str() == &**flag))
                .collect();
            if named.is_empty() {
                return Err(UnknownFlag { flag: flag.clone() });
            }
            flags.extend(named);
        }
        let filter = Self {
            statuses: conditions.statuses.clone().into(),
            min_duration: conditions.min_duration,
            flags: flags.into(),
            share: conditions.share_of_others(),
        };
        Ok((filter.share < MILLION).then_some(filter))
    }

    /// Whether the request has a line. Replicas agree on a request that passes several of them, by its request id.
    pub(super) fn takes(&self, record: &AccessRecord) -> bool {
        self.statuses.iter().any(|range| range.contains(&record.status))
            || self.min_duration.is_some_and(|least| record.duration >= least)
            || self.flags.contains(&record.flag)
            || self.samples(record)
    }

    fn samples(&self, record: &AccessRecord) -> bool {
        let place = match &record.request_id {
            _ if self.share == 0 => return false,
            Some(id) => xxh64(id.as_str().as_bytes(), 0) % u64::from(MILLION),
            None => fastrand::u64(..u64::from(MILLION)),
        };
        place < u64::from(self.share)
    }
}
