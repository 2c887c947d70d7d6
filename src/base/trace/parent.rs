//! The header `traceparent` (Trace Context, section 3.2).

use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::base::head::HeaderMap;

/// Which request this one is part of.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to `traceparent`.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Somebody records this trace.
const SAMPLED: u8 = 1;
/// The trace id is random (level 2 of the specification).
const RANDOM: u8 = 1 << 1;

/// Length of the header in version 00, in bytes.
const LENGTH: usize = 55;

/// Identifies a trace; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// Identifies a span within its trace; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// A `traceparent`, whatever its version, as far as version 00 knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span of whoever sent the header.
    pub span: SpanId,
    flags: u8,
}

// === impl TraceId ===

impl TraceId {
    /// A random trace.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        loop {
            if let Some(id) = Self::new(random.u128(..).to_be_bytes()) {
                return id;
            }
        }
    }

    fn new(bytes: [u8; 16]) -> Option<Self> {
        (bytes != [0; 16]).then_some(Self(bytes))
    }

    /// The bytes, as OTLP has them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The right-most 56 bits, which are random even where the others are not.
    pub(super) fn randomness(self) -> u64 {
        let [.., a, b, c, d, e, f, g] = self.0;
        u64::from_be_bytes([0, a, b, c, d, e, f, g])
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl SpanId ===

impl SpanId {
    /// A random span.
    pub fn random(random: &mut fastrand::Rng) -> Self {
        loop {
            if let Some(id) = Self::new(random.u64(..).to_be_bytes()) {
                return id;
            }
        }
    }

    fn new(bytes: [u8; 8]) -> Option<Self> {
        (bytes != [0; 8]).then_some(Self(bytes))
    }

    /// The bytes, as OTLP has them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl TraceParent ===

impl TraceParent {
    /// The head of a new trace.
    pub fn first(trace: TraceId, span: SpanId, is_sampled: bool) -> Self {
        Self { trace, span, flags: u8::from(is_sampled) }
    }

    /// What goes on under another span. Whether the trace id is random is passed on; flags that nobody knows are not.
    #[must_use]
    pub fn followed_by(self, span: SpanId, is_sampled: bool) -> Self {
        Self { span, flags: self.flags & RANDOM | u8::from(is_sampled), ..self }
    }

    /// The parent that a request names: exactly one header, and that in order. With several nobody can tell which is meant.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT);
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.as_bytes().trim_ascii())
    }

    /// Version 00 as it is written; of a later version, its first four fields (section 3.2.4, versioning).
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let [version @ .., b'-'] = known.get(..3)? else { return None };
        let [version] = hex(version)?;
        match (version, rest) {
            (0, []) | (1..=0xfe, [] | [b'-', ..]) => {}
            _ => return None,
        }
        let [trace @ .., b'-'] = known.get(3..36)? else { return None };
        let [span @ .., b'-'] = known.get(36..53)? else { return None };
        let [flags] = hex(known.get(53..)?)?;
        Some(Self { trace: TraceId::new(hex(trace)?)?, span: SpanId::new(hex(span)?)?, flags })
    }

    /// Whether its sender may have recorded the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The trace flags, as OTLP has them.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The header's value, in version 00.
    pub fn value(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Lower-case hexadecimal digits; upper case is invalid (section 3.2.2).
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        let valid = format!("00-{TRACE}-{SPAN}-01");
        for (text, flags) in [
            (valid.clone(), 1),
            (format!("00-{TRACE}-{SPAN}-00"), 0),
            (format!("00-{TRACE}-{SPAN}-ff"), 0xff),
            // Later versions: the fields of version 00, and whatever follows after a dash.
            (format!("01-{TRACE}-{SPAN}-01"), 1),
            (format!("cc-{TRACE}-{SPAN}-01-"), 1),
            (format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), 1),
            (format!("fe-{TRACE}-{SPAN}-03-.x\u{e9}"), 3),
            (format!("00-{}1-{SPAN}-01", "0".repeat(31)), 1),
            (format!("00-{TRACE}-{}1-01", "0".repeat(15)), 1),
        ] {
            let parent = TraceParent::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(parent.flags(), flags, "{text}");
            assert_eq!(parent.to_string(), format!("00{}{flags:02x}", &text[2..53]), "{text}");
        }
        for text in [
            String::new(),
            "00".into(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("ff-{TRACE}-{SPAN}-01-more"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            // Too short, too long.
            valid[..54].to_owned(),
            format!("{valid}-"),
            format!("{valid}-what"),
            format!("{valid}x"),
            format!("cc-{TRACE}-{SPAN}-01.what"),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &SPAN[1..]),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("000-{TRACE}-{SPAN}-1"),
            // Upper case, other characters.
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("0A-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-.0"),
            format!("00-{}g-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{}.-01", &SPAN[1..]),
            format!(".0-{TRACE}-{SPAN}-01"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}_{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}_01"),
            format!(" {valid}"),
        ] {
            assert_eq!(TraceParent::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn of_several_headers_none_is_believed() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::of(&headers), None);
        let value: HeaderValue = format!(" 00-{TRACE}-{SPAN}-01\t").try_into().unwrap();
        headers.append(TRACEPARENT, value.clone());
        assert!(TraceParent::of(&headers).is_some(), "space around it is no part of it");
        headers.append(TRACEPARENT, value);
        assert_eq!(TraceParent::of(&headers), None, "not even of two that agree");
    }

    #[test]
    fn flags_that_nobody_knows_are_not_passed_on() {
        let mut random = fastrand::Rng::with_seed(7);
        let parent = TraceParent::parse(format!("00-{TRACE}-{SPAN}-ff").as_bytes()).unwrap();
        let next = SpanId::random(&mut random);
        assert_eq!(parent.followed_by(next, true).to_string(), format!("00-{TRACE}-{next}-03"));
        assert_eq!(parent.followed_by(next, false).to_string(), format!("00-{TRACE}-{next}-02"));
    }

    #[test]
    fn no_text_makes_the_parser_fail_otherwise_than_by_its_answer() {
        let valid = format!("00-{TRACE}-{SPAN}-01");
        for at in 0..valid.len() {
            for byte in 0..=u8::MAX {
                let mut text = valid.clone().into_bytes();
                text[at] = byte;
                if let Some(parent) = TraceParent::parse(&text) {
                    assert_eq!(TraceParent::parse(parent.to_string().as_bytes()), Some(parent));
                }
            }
            assert_eq!(TraceParent::parse(&valid.as_bytes()[..at]), None);
        }
    }
}
