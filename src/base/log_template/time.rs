//! How `START_TIME` is written.

use std::time::SystemTime;

use jiff::{Timestamp, Zoned, fmt::strtime, tz::TimeZone};

/// Form of a point in time; always in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `2026-11-30T07:28:17.738Z`.
    Milliseconds,
    /// By the conversions of strftime, among them `%s`, the seconds since the Unix epoch, and `%f` to `%9f`, digits of the fraction.
    Pattern(Box<str>),
}

// === impl TimeFormat ===

impl TimeFormat {
    /// A pattern, as Envoy's `START_TIME` has it in parentheses.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() {
            return Ok(Self::Milliseconds);
        }
        let pattern = as_envoy(pattern);
        let expected = |why: String| format!("the time's pattern is refused: {why}; expected the conversions of strftime");
        let example = strtime::format(&pattern, &in_utc(Timestamp::UNIX_EPOCH)).map_err(|error| expected(error.to_string()))?;
        if example.contains(char::is_control) {
            return Err(expected("it makes a control character".to_owned()));
        }
        Ok(Self::Pattern(pattern.into()))
    }

    /// A point in time; nothing where the calendar does not have it.
    pub fn format(&self, time: SystemTime) -> String {
        let Ok(time) = Timestamp::try_from(time) else { return String::new() };
        match self {
            Self::Milliseconds => format!("{time:.3}"),
            Self::Pattern(pattern) => strtime::format(pattern.as_ref(), &in_utc(time)).unwrap_or_default(),
        }
    }
}

/// With a time zone, of which `%Z` is the name.
fn in_utc(time: Timestamp) -> Zoned {
    time.to_zoned(TimeZone::UTC)
}

/// The pattern with Envoy's meaning: its `%f` has nine digits, and the forms that depend on a language are those of the C locale.
fn as_envoy(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 1);
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let conversion = after.chars().next().map_or(0, char::len_utf8);
        let (letter, next) = after.split_at(conversion);
        match letter {
            "f" => out.push_str("%9f"),
            "c" => out.push_str("%a %b %e %H:%M:%S %Y"),
            "x" => out.push_str("%m/%d/%y"),
            "X" => out.push_str("%H:%M:%S"),
            "r" => out.push_str("%I:%M:%S %p"),
            other => {
                out.push('%');
                out.push_str(other);
            }
        }
        rest = next;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_envoy_does() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_796_023_697_752_862_005);
        for (pattern, expected) in [
            ("", "2026-11-30T07:28:17.752Z"),
            ("%Y/%m/%dT%H:%M:%S%z %s", "2026/11/30T07:28:17+0000 1796023697"),
            ("%s.%3f", "1796023697.752"),
            ("%s.%6f", "1796023697.752862"),
            ("%f", "752862005"),
            ("%%f %d", "%f 30"),
            ("%Z %z", "UTC +0000"),
            ("%c|%x|%X|%r", "Mon Nov 30 07:28:17 2026|11/30/26|07:28:17|07:28:17 AM"),
            ("%%c %U %W %u %w %C %G %g %V %h %k %l %P", "%c 48 48 1 1 20 2026 26 49 Nov  7  7 am"),
        ] {
            assert_eq!(TimeFormat::parse(pattern).unwrap().format(time), expected, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_make_no_line_are_refused() {
        for pattern in ["%", "%E3S", "%n", "%Q%!", "a\nb"] {
            assert!(TimeFormat::parse(pattern).is_err(), "{pattern:?} -> {:?}", TimeFormat::parse(pattern));
        }
    }
}
