//! Scalars as Gloo's JSON has them: Go durations, and integers that may come as strings.

use std::{fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::base::text::quoted;

/// A duration in Go's notation (`time.ParseDuration`): `60s`, `1h30m`, `250ms`, `1.5s`, `-1s`, `0`. Nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

/// An unsigned integer, as a number or as a decimal string (protobuf's JSON writes 64-bit numbers as strings).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uint(pub u64);

// === impl GoDuration ===

impl GoDuration {
    /// Parses Go's notation.
    ///
    /// # Errors
    /// What is wrong with the text and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{} {why}: expected a duration such as 60s, 1h30m or 250ms", quoted(text));
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(wrong("is not a duration"));
        }
        let mut nanoseconds: i128 = 0;
        while !rest.is_empty() {
            let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let (number, tail) = rest.split_at(number_len);
            let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let unit = match unit {
                "" => return Err(wrong("has no unit")),
                unit => unit_nanoseconds(unit).ok_or_else(|| wrong("has an unknown unit"))?,
            };
            nanoseconds += scaled(number, unit).ok_or_else(|| wrong("is not a duration"))?;
            if nanoseconds > i128::from(i64::MAX) {
                return Err(wrong("is out of range"));
            }
            rest = tail;
        }
        let nanoseconds = i64::try_from(nanoseconds).map_err(|_| wrong("is out of range"))?;
        Ok(Self(if negative { -nanoseconds } else { nanoseconds }))
    }

    /// The duration, unless it is negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` (digits with at most one point) times `unit`; more than 18 digits on a side of the point are out of any range.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits = |text: &str| if text.is_empty() { Some(0_i128) } else { text.parse::<i64>().ok().map(i128::from) };
    let fraction = fraction.get(..fraction.len().min(18))?;
    let divisor = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    Some(digits(whole)? * unit + digits(fraction)? * unit / divisor)
}

impl fmt::Display for GoDuration {
    /// In the largest unit that needs no fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
        match units.into_iter().find(|(unit, _)| self.0 != 0 && self.0 % unit == 0) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None if self.0 == 0 => f.write_str("0s"),
            None => write!(f, "{}ns", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = GoDuration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 60s, 1h30m or 250ms, as a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<GoDuration, E> {
                GoDuration::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GoDuration".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

// === impl Uint ===

impl<'de> Deserialize<'de> for Uint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Uint;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a non-negative integer, as a number or as a string")
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Uint, E> {
                Ok(Uint(number))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Uint, E> {
                u64::try_from(number).map(Uint).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Uint, E> {
                // YAML and JSON writers may give 200 as 2e2 or 200.0; beyond 2^53 a float is no exact integer.
                if number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number) {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: an integer within 0..=2^53")]
                    return Ok(Uint(number as u64));
                }
                Err(E::invalid_value(de::Unexpected::Float(number), &self))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Uint, E> {
                text.parse().map(Uint).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for Uint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl JsonSchema for Uint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Uint".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"x-kubernetes-int-or-string": true})
    }
}

/// Schema of an object whose fields are free.
pub(in crate::api) fn open_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        let second = 1_000_000_000;
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("60s", 60 * second),
            ("1m", 60 * second),
            ("1h30m", 5_400 * second),
            ("250ms", second / 4),
            ("1.5s", second * 3 / 2),
            (".5s", second / 2),
            ("1.s", second),
            ("-1s", -second),
            ("+2s", 2 * second),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("3ns", 3),
            ("0.1234567891234567891s", 123_456_789),
            ("2562047h47m16.854775807s", i64::MAX),
        ] {
            assert_eq!(GoDuration::parse(text), Ok(GoDuration(nanoseconds)), "{text}");
        }
        for text in
            ["", "60", "s", "-", "+", ".", ".s", "1..s", "1.2.3s", "1d", "1 s", " 1s", "1s ", "1x", "9999999h", "99999999999999999999s"]
        {
            let error = GoDuration::parse(text).expect_err(text);
            assert!(error.contains("expected a duration such as 60s"), "{error}");
        }
    }

    #[test]
    fn durations_print_in_the_largest_whole_unit() {
        for text in ["0s", "60s", "90s", "250ms", "1h", "3ns", "-1s"] {
            let duration = GoDuration::parse(text).unwrap();
            assert_eq!(GoDuration::parse(&duration.to_string()), Ok(duration));
        }
        assert_eq!(GoDuration::parse("5400s").unwrap().to_string(), "90m");
        assert_eq!(GoDuration(-5).to_std(), None);
    }

    #[test]
    fn integers_come_as_numbers_and_as_strings() {
        for (value, expected) in [(json!(200), 200), (json!("200"), 200), (json!(0), 0), (json!(200.0), 200), (json!(u64::MAX), u64::MAX)] {
            assert_eq!(serde_json::from_value::<Uint>(value).unwrap(), Uint(expected));
        }
        for value in [json!(-1), json!("-1"), json!(1.5), json!("x"), json!(true), json!(null), json!({})] {
            let error = serde_json::from_value::<Uint>(value.clone()).expect_err(&value.to_string());
            assert!(error.to_string().contains("non-negative integer"), "{error}");
        }
    }
}
