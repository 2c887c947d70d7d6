//! UTCTime and GeneralizedTime as RFC 5280 has them: in UTC, to the second.

use super::der::{Der, Tag, X509Error};

/// Reads a time; seconds since the epoch.
pub(super) fn read(fields: &mut Der<'_>) -> Result<i64, X509Error> {
    const NO_TIME: X509Error = "its validity is no time";
    let (digits, century) = match fields.read_if(Tag::UtcTime)? {
        Some(element) => (element.content, None),
        None => {
            let content = fields.read(Tag::GeneralizedTime)?.content;
            let (century, rest) = content.split_at_checked(2).ok_or(NO_TIME)?;
            (rest, Some(number(century).ok_or(NO_TIME)?))
        }
    };
    let [year, month, day, hour, minute, second] = split(digits).ok_or(NO_TIME)?;
    // UTCTime ends with 2049 (RFC 5280 section 4.1.2.5.1).
    let century = century.unwrap_or(if year >= 50 { 19 } else { 20 });
    let is_time = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !is_time {
        return Err(NO_TIME);
    }
    Ok(((days(century * 100 + year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// YYMMDDHHMMSSZ as numbers.
fn split(digits: &[u8]) -> Option<[i64; 6]> {
    let digits = digits.strip_suffix(b"Z").filter(|digits| digits.len() == 12)?;
    let mut numbers = [0; 6];
    for (number_at, pair) in numbers.iter_mut().zip(digits.chunks(2)) {
        *number_at = number(pair)?;
    }
    Some(numbers)
}

fn number(pair: &[u8]) -> Option<i64> {
    match pair {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

/// Days since the epoch in the Gregorian calendar. Years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1 - 719_468
}
