//! Foreign text in messages: names, values and the words of parsers come from people who write objects. It is quoted, escaped and cut, so
//! that it can neither forge a line nor fill a log.

use std::{
    borrow::Borrow,
    fmt::{self, Write as _},
    ops::Deref,
    sync::Arc,
};

use serde::{Serialize, Serializer};

/// Most characters that a message shows of one foreign value.
pub const MAX_VALUE: usize = 128;

/// Most characters of a Kubernetes name: so many are shown of one that is plain.
const MAX_NAME: usize = 253;

/// Most bytes of a message.
pub const MAX_MESSAGE: usize = 1024;

/// Most characters of the message of a condition (`maxLength` in Kubernetes' schema of Condition).
pub const MAX_STATUS_MESSAGE: usize = 32_768;

/// Most findings that are named in one message.
const MAX_FINDINGS: usize = 8;

/// What stands where the middle of a message was cut out.
const CUT: &str = " [...] ";

/// What people read: notices, reasons, the messages of statuses. However it is made, it is one line without control or bidirectional
/// characters, and it is short: where it is too long its middle is cut out, since objects are named in front and expectations at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message(Arc<str>);

/// A foreign value in quotes, escaped, at most `MAX_VALUE` characters of it.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(&'a str);

/// A foreign word: as it is where it is a plain name, else as `Quoted`.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a>(&'a str);

/// A foreign value for a message, in quotes.
pub fn quoted(value: &str) -> Quoted<'_> {
    Quoted(value)
}

/// A foreign word for a message: a name, a kind, a group. In quotes only where it is none.
pub fn word(value: &str) -> Word<'_> {
    Word(value)
}

/// The beginning of foreign words that stand in no quotes of ours, such as an error of a parser.
pub fn beginning(words: &str) -> &str {
    head(words, MAX_VALUE)
}

/// Findings in one sentence each: the first `MAX_FINDINGS` of them, and how many more there are.
pub fn several(findings: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut findings = findings.into_iter();
    let mut text = String::new();
    for finding in findings.by_ref().take(MAX_FINDINGS) {
        let separator = if text.is_empty() { "" } else { "; " };
        text.extend([separator, finding.as_ref()]);
    }
    match findings.count() {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

// === impl Message ===

impl Message {
    /// The message of a status, which may list many problems: `MAX_STATUS_MESSAGE` bounds it.
    pub fn of_status(text: impl AsRef<str>) -> Self {
        Self::within(text.as_ref(), MAX_STATUS_MESSAGE)
    }

    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn within(text: &str, limit: usize) -> Self {
        if text.len() <= limit && !text.contains(must_be_escaped) {
            return Self(text.into());
        }
        // Cut first, so that a long text is not escaped as a whole; escaping may make it longer again.
        let mut escaped = String::with_capacity(limit);
        for character in without_middle(text, limit).chars() {
            match must_be_escaped(character) {
                true => escaped.extend(character.escape_debug()),
                false => escaped.push(character),
            }
        }
        Self(without_middle(&escaped, limit).into())
    }
}

impl Default for Message {
    fn default() -> Self {
        Self("".into())
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::within(text, MAX_MESSAGE)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::within(&text, MAX_MESSAGE)
    }
}

impl Deref for Message {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Message {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Message {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Message {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Message {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

// === impl Quoted and Word ===

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = head(self.0, MAX_VALUE);
        f.write_char('"')?;
        for character in shown.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                // Some that may stand in a message are no use within a value either: whatever is not printable is escaped.
                '\'' => f.write_char(character)?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        if shown.len() < self.0.len() { write!(f, "...\" ({} bytes)", self.0.len()) } else { f.write_char('"') }
    }
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'/' | b'*');
        let is_plain = !self.0.is_empty() && self.0.len() <= MAX_NAME && self.0.bytes().all(plain);
        if is_plain { f.write_str(self.0) } else { Quoted(self.0).fmt(f) }
    }
}

/// Whether a character could forge a line or change how others are seen: control characters, separators of lines, bidirectional and
/// zero-width characters.
fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(character, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        // Not characters at all.
        || matches!(character, '\u{fdd0}'..='\u{fdef}')
        || u32::from(character) & 0xfffe == 0xfffe
}

/// The first `limit` characters.
fn head(text: &str, limit: usize) -> &str {
    match text.char_indices().nth(limit) {
        Some((end, _)) => text.get(..end).unwrap_or_default(),
        None => text,
    }
}

/// At most `limit` bytes: more of the beginning than of the end.
fn without_middle(text: &str, limit: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    let kept = limit.saturating_sub(CUT.len());
    let beginning = text.get(..text.floor_char_boundary(kept * 2 / 3)).unwrap_or_default();
    let end = text.get(text.ceil_char_boundary(text.len() - (kept - kept * 2 / 3))..).unwrap_or_default();
    [beginning, CUT, end].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_however_it_is_made() {
        for (text, expected) in [
            ("there is no Service a/b", "there is no Service a/b"),
            ("a\nWARN forged\r\n", "a\\nWARN forged\\r\\n"),
            ("\u{1b}[31m\u{7f}\u{85}", "\\u{1b}[31m\\u{7f}\\u{85}"),
            ("\u{202e}gpj.exe\u{2066}\u{200b}\u{2028}", "\\u{202e}gpj.exe\\u{2066}\\u{200b}\\u{2028}"),
            ("\u{e4} \"quoted\" \\n", "\u{e4} \"quoted\" \\n"),
        ] {
            let message = Message::from(text);
            assert_eq!(message, expected);
            assert_eq!(Message::from(message.as_str()), expected, "once more changes nothing");
        }
    }

    #[test]
    fn a_long_message_keeps_its_ends() {
        let long = format!("field spec.x: {}\n: expected a number", "\u{e4}".repeat(5_000_000));
        let message = Message::from(long.as_str());
        assert!(message.len() <= MAX_MESSAGE && message.len() > MAX_MESSAGE - 8, "{}", message.len());
        assert!(message.starts_with("field spec.x: ") && message.ends_with("\\n: expected a number"), "{message}");
        let status = Message::of_status(&long);
        assert!(status.len() <= MAX_STATUS_MESSAGE && status.len() > MAX_STATUS_MESSAGE - 8);
        assert!(Message::from("\u{1}".repeat(MAX_MESSAGE)).len() <= MAX_MESSAGE);
    }

    #[test]
    fn the_first_findings_are_named_and_the_others_are_counted() {
        let numbered = |count: usize| several((1..=count).map(|number| format!("no {number}")));
        assert_eq!((numbered(0), numbered(2)), (String::new(), "no 1; no 2".into()));
        assert!(numbered(8).ends_with("; no 8"));
        assert!(numbered(256).ends_with("; no 8; and 248 more"), "{}", numbered(256));
    }

    #[test]
    fn values_are_quoted_escaped_and_cut() {
        for (value, expected) in
            [("", "\"\""), ("it's \"a\" \\ \u{e4}", "\"it's \\\"a\\\" \\\\ \u{e4}\""), ("a\nb\u{202e}\0", "\"a\\nb\\u{202e}\\0\"")]
        {
            assert_eq!(quoted(value).to_string(), expected);
        }
        let shown = quoted(&"x".repeat(50_000_000)).to_string();
        assert_eq!(shown, format!("\"{}...\" (50000000 bytes)", "x".repeat(MAX_VALUE)));
    }

    #[test]
    fn words_are_quoted_only_where_they_are_none() {
        for (text, expected) in [
            ("httpbin", "httpbin"),
            ("gloo.solo.io/Upstream", "gloo.solo.io/Upstream"),
            ("a b", "\"a b\""),
            ("a\nb", "\"a\\nb\""),
            ("", "\"\""),
        ] {
            assert_eq!(word(text).to_string(), expected);
        }
        assert_eq!(word(&"x".repeat(MAX_NAME)).to_string().len(), MAX_NAME);
        assert!(word(&"x".repeat(MAX_NAME + 1)).to_string().len() < MAX_NAME);
    }
}
