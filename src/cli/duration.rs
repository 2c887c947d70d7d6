//! Durations as people type them.

use std::time::Duration;

/// `1h`, `30s`, `250ms`, or several of them in a row.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is no duration; expected for example 30s, 1m30s or 250ms");
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(expected()),
        };
        let part = number.checked_mul(milliseconds).ok_or_else(expected)?;
        sum = sum.checked_add(Duration::from_millis(part)).ok_or_else(expected)?;
        rest = next;
    }
    if text.is_empty() { Err(expected()) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [("0s", 0), ("250ms", 250), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "5x", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
