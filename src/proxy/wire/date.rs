//! The `date` of responses (RFC 9110 section 6.6.1).

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, header::DATE};

use crate::base::head::response;

/// The time of day as a header's value.
pub(in crate::proxy) fn now() -> HeaderValue {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format(second).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// Whether a head wants a date added: it has none, and no filter has removed it.
pub(in crate::proxy) fn is_wanted(parts: &response::Parts) -> bool {
    !parts.headers.contains_key(DATE) && !parts.date_removed
}

/// IMF-fixdate; `None` for a second that the calendar does not have.
fn format(second: u64) -> Option<HeaderValue> {
    let time = jiff::Timestamp::from_second(i64::try_from(second).ok()?).ok()?;
    HeaderValue::try_from(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    #[test]
    fn a_date_is_written_as_rfc_9110_does() {
        for (second, expected) in
            [(784_111_777, Some("Sun, 06 Nov 1994 08:49:37 GMT")), (0, Some("Thu, 01 Jan 1970 00:00:00 GMT")), (u64::MAX, None)]
        {
            assert_eq!(format(second).as_ref().map(|text| text.to_str().unwrap()), expected);
        }
        assert_eq!(now().len(), 29);
    }

    #[test]
    fn a_date_that_is_there_stays_and_one_that_was_removed_does_not_come_back() {
        let (parts, ()) = Response::builder().header(DATE, "then").body(()).unwrap().into_parts();
        let mut parts = response::Parts::from(parts);
        assert!(!is_wanted(&parts));
        parts.headers.remove(DATE);
        assert!(is_wanted(&parts));
        parts.date_removed = true;
        assert!(!is_wanted(&parts));
    }
}
