//! The fields of a head.

use std::{fmt, mem::size_of};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{
    lines::{Key, Line, Seen, to_lower_case},
    value::Value,
};

/// The fields of a head, in the order in which they came. Names are in lower case, and several lines may have one name.
#[derive(Clone, Default)]
pub struct HeaderMap {
    /// What the lines are places in. What was replaced stays until the map is cleared.
    text: Vec<u8>,
    lines: Vec<Line>,
    seen: Seen,
    has_underscores: bool,
}

/// What a field can be looked for by: a name in lower case.
pub trait LookupName {
    /// The name.
    fn name(&self) -> &[u8];

    /// Its digest.
    fn key(&self) -> Key {
        Key::of(self.name())
    }
}

/// A name that the gateway itself uses. Its digest is made by the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    name: &'static str,
    key: Key,
    has_underscore: bool,
}

/// What a field can be named.
pub trait FieldName: LookupName {
    /// Whether there is an underscore in it.
    fn has_underscore(&self) -> bool {
        self.name().contains(&b'_')
    }
}

/// What a field can hold.
pub trait FieldValue {
    /// The bytes, none of which ends a line.
    fn bytes(&self) -> &[u8];

    /// Whether no compression may remember it (RFC 7541 section 7.1.3).
    fn is_sensitive(&self) -> bool {
        false
    }
}

/// No field can have this name or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name or value of a field is invalid")]
pub struct InvalidField;

impl LookupName for HeaderName {
    fn name(&self) -> &[u8] {
        self.as_str().as_bytes()
    }
}

impl LookupName for Name {
    fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    fn key(&self) -> Key {
        self.key
    }
}

/// A name of a map.
struct Raw<'m>(&'m [u8]);

impl LookupName for Raw<'_> {
    fn name(&self) -> &[u8] {
        self.0
    }
}

impl LookupName for str {
    fn name(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl<N: LookupName + ?Sized> LookupName for &N {
    fn name(&self) -> &[u8] {
        (**self).name()
    }

    fn key(&self) -> Key {
        (**self).key()
    }
}

impl FieldName for Name {
    fn has_underscore(&self) -> bool {
        self.has_underscore
    }
}

impl FieldName for HeaderName {}
impl FieldName for &HeaderName {}

impl FieldValue for HeaderValue {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn is_sensitive(&self) -> bool {
        Self::is_sensitive(self)
    }
}

impl FieldValue for Value<'_> {
    fn bytes(&self) -> &[u8] {
        self.0
    }
}

impl<V: FieldValue> FieldValue for &V {
    fn bytes(&self) -> &[u8] {
        (**self).bytes()
    }

    fn is_sensitive(&self) -> bool {
        (**self).is_sensitive()
    }
}

/// Whether a value may be in a field (RFC 9110 section 5.5): no control characters but tabs.
fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & ((*byte >= 32) & (*byte != 127) | (*byte == b'\t')))
}

/// A place in a text. No head comes near the largest: a line beyond it would be empty.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

// === impl Name ===

impl Name {
    /// A name, which must be a token in lower case.
    pub const fn new(name: &'static str) -> Self {
        let (mut rest, mut has_underscore) = (name.as_bytes(), false);
        while let [first, others @ ..] = rest {
            has_underscore |= *first == b'_';
            rest = others;
        }
        Self { name, key: Key::of(name.as_bytes()), has_underscore }
    }
}

// === impl HeaderMap ===

impl HeaderMap {
    /// A map without fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// A map without fields that has room for a usual head.
    pub fn with_room(text: usize, lines: usize) -> Self {
        Self { text: Vec::with_capacity(text), lines: Vec::with_capacity(lines), seen: Seen::default(), has_underscores: false }
    }

    /// Bytes of memory that it keeps.
    pub fn room(&self) -> usize {
        self.text.capacity() + self.lines.capacity() * size_of::<Line>()
    }

    /// Removes all fields, and keeps the room.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
        self.seen = Seen::default();
        self.has_underscores = false;
    }

    /// Whether a name has an underscore, of the fields that are or were there.
    pub fn has_underscores(&self) -> bool {
        self.has_underscores
    }

    /// Lines of fields.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.lines.iter().map(|line| usize::from(line.name_len) + line.value_len as usize).sum()
    }

    /// Takes over the text of a head, of which `add_line` names the places. The map must be empty.
    pub fn set_text(&mut self, head: &[u8]) {
        self.clear();
        self.text.extend_from_slice(head);
    }

    /// Adds a field that stands in the text: its name, a token, and its value, both as parts of the `head` that was given to `set_text`. The
    /// name, as it is kept.
    ///
    /// # Errors
    /// The name is longer than any, or is no part of the text.
    pub fn add_line(&mut self, head: &[u8], name: &[u8], value: &[u8]) -> Result<&[u8], InvalidField> {
        let at = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(head.as_ptr() as usize).min(head.len());
        let (name_at, value_at, value_len) = (at(name), at(value), value.len());
        let name_len = u16::try_from(name.len()).map_err(|_long| InvalidField)?;
        let name_end = name_at + name.len();
        let value_end = value_at + value_len;
        let is_whole = self.text.get(name_end..value_at) == Some(b": ") && self.text.get(value_end..value_end + 2) == Some(b"\r\n");
        let name = self.text.get_mut(name_at..name_end).ok_or(InvalidField)?;
        self.has_underscores |= to_lower_case(name);
        let key = Key::of(name);
        self.seen.add(key);
        let (name_at, value_at, value_len) = (place(name_at), place(value_at), place(value_len));
        self.lines.push(Line { name_at, value_at, value_len, name_len, key, is_whole, is_sensitive: false });
        Ok(name)
    }

    /// Takes the field back that was added last.
    pub fn drop_last(&mut self) {
        self.lines.pop();
    }

    fn write_line(&mut self, name: &[u8], key: Key, value: &[u8]) -> Line {
        let name_at = self.text.len();
        self.text.reserve(name.len() + value.len() + 4);
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(b": ");
        let value_at = self.text.len();
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(b"\r\n");
        // `HeaderName` holds no longer one.
        let name_len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        Line {
            name_at: place(name_at),
            value_at: place(value_at),
            value_len: place(value.len()),
            name_len,
            key,
            is_whole: true,
            is_sensitive: false,
        }
    }

    fn find(&self, name: &[u8], key: Key) -> Option<(usize, &Line)> {
        if !self.seen.may_have(key) {
            return None;
        }
        self.lines.iter().enumerate().find(|(_, line)| line.key == key && line.name(&self.text) == name)
    }

    /// The first line of a field.
    pub fn get(&self, name: impl LookupName) -> Option<Value<'_>> {
        self.find(name.name(), name.key()).map(|(_, line)| Value(line.value(&self.text)))
    }

    /// All lines of a field.
    pub fn get_all<'m, N: LookupName>(&'m self, name: N) -> impl Iterator<Item = Value<'m>> {
        let key = name.key();
        let lines = if self.seen.may_have(key) { self.lines.as_slice() } else { &[] };
        let lines = lines.iter().filter(move |line| line.key == key && line.name(&self.text) == name.name());
        lines.map(|line| Value(line.value(&self.text)))
    }

    /// Whether there is such a field.
    pub fn contains_key(&self, name: impl LookupName) -> bool {
        self.find(name.name(), name.key()).is_some()
    }

    /// Whether there is more than one line of a field.
    pub fn has_several(&self, name: impl LookupName) -> bool {
        self.get_all(name).nth(1).is_some()
    }

    /// Sets a field, in the place of all lines that it had.
    pub fn insert(&mut self, name: impl FieldName, value: impl FieldValue) {
        self.has_underscores |= name.has_underscore();
        self.set(name.name(), name.key(), value.bytes(), value.is_sensitive());
    }

    /// The same for a value that was not checked yet.
    ///
    /// # Errors
    /// No field can hold it.
    pub fn insert_bytes(&mut self, name: impl FieldName, value: &[u8]) -> Result<(), InvalidField> {
        if !is_value(value) {
            return Err(InvalidField);
        }
        self.has_underscores |= name.has_underscore();
        self.set(name.name(), name.key(), value, false);
        Ok(())
    }

    fn set(&mut self, name: &[u8], key: Key, value: &[u8], is_sensitive: bool) {
        let found = self.find(name, key).map(|(at, _)| at);
        let line = Line { is_sensitive, ..self.write_line(name, key, value) };
        let Some(at) = found else {
            self.seen.add(key);
            self.lines.push(line);
            return;
        };
        let (text, mut index) = (&self.text, 0);
        self.lines.retain_mut(|old| {
            let (is_first, is_other) = (index == at, index < at || old.key != key || old.name(text) != name);
            index += 1;
            if is_first {
                *old = line;
            }
            is_first || is_other
        });
    }

    /// Adds a line to a field.
    pub fn append(&mut self, name: impl FieldName, value: impl FieldValue) {
        self.has_underscores |= name.has_underscore();
        let (name, key) = (name.name(), name.key());
        let line = Line { is_sensitive: value.is_sensitive(), ..self.write_line(name, key, value.bytes()) };
        self.seen.add(key);
        self.lines.push(line);
    }

    /// Adds a line that came apart from others. Whoever calls has seen to it that the name is a token in lower case.
    ///
    /// # Errors
    /// No field can hold the value, or the name is longer than any.
    pub fn append_bytes(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidField> {
        if !is_value(value) || name.len() > usize::from(u16::MAX) {
            return Err(InvalidField);
        }
        self.has_underscores |= name.contains(&b'_');
        let key = Key::of(name);
        let line = self.write_line(name, key, value);
        self.seen.add(key);
        self.lines.push(line);
        Ok(())
    }

    /// Removes all lines of a field; whether there were any.
    pub fn remove(&mut self, name: impl LookupName) -> bool {
        let (name, key) = (name.name(), name.key());
        if !self.seen.may_have(key) {
            return false;
        }
        let (text, before) = (&self.text, self.lines.len());
        self.lines.retain(|line| line.key != key || line.name(text) != name);
        self.lines.len() != before
    }

    /// Keeps the fields whose names are to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&[u8]) -> bool) {
        let text = &self.text;
        self.lines.retain(|line| is_kept(line.name(text)));
    }

    /// Names and values, line by line.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> + Clone {
        self.lines.iter().map(|line| (line.name(&self.text), Value(line.value(&self.text))))
    }

    /// Names and values, line by line, and whether no compression may remember the line (RFC 7541 section 7.1.3).
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> {
        self.lines.iter().map(|line| (line.name(&self.text), line.value(&self.text), line.is_sensitive))
    }

    /// Names, line by line.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.lines.iter().map(|line| line.name(&self.text))
    }

    /// Appends the lines (RFC 9112 section 5), but those that are to be left out.
    pub fn write_to(&self, out: &mut Vec<u8>, mut is_left_out: impl FnMut(&[u8]) -> bool) {
        // Lines that stand one behind the other are copied in one go.
        let (mut from, mut to) = (0, 0);
        for line in &self.lines {
            let name = line.name(&self.text);
            if is_left_out(name) {
                continue;
            }
            if line.is_whole && line.name_at == to {
                to = line.end();
                continue;
            }
            out.extend_from_slice(self.text.get(from as usize..to as usize).unwrap_or_default());
            (from, to) = if line.is_whole { (line.name_at, line.end()) } else { (0, 0) };
            if !line.is_whole {
                for part in [name, b": ", line.value(&self.text), b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
        out.extend_from_slice(self.text.get(from as usize..to as usize).unwrap_or_default());
    }
}

impl From<&HeaderMap> for http::HeaderMap {
    /// All fields are such as the `http` crate takes: whoever adds one has seen to it.
    fn from(map: &HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.lines.len());
        let text = Bytes::copy_from_slice(&map.text);
        for line in &map.lines {
            let value = text.slice_ref(line.value(&text));
            if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(line.name(&text)), HeaderValue::from_maybe_shared(value)) {
                value.set_sensitive(line.is_sensitive);
                fields.append(name, value);
            }
        }
        fields
    }
}

impl From<&http::HeaderMap> for HeaderMap {
    fn from(fields: &http::HeaderMap) -> Self {
        // And for what the gateway adds.
        let mut map = Self::with_room(64 * (fields.len() + 8), fields.len() + 8);
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    }
}

impl<N: FieldName, V: FieldValue> FromIterator<(N, V)> for HeaderMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(fields: I) -> Self {
        let mut map = Self::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    }
}

impl PartialEq for HeaderMap {
    /// The order of different names is of no consequence.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.keys().all(|name| self.get_all(Raw(name)).eq(other.get_all(Raw(name))))
    }
}

impl fmt::Debug for HeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |line: &Line| if line.is_sensitive { Value(b"Sensitive") } else { Value(line.value(&self.text)) };
        f.debug_map().entries(self.lines.iter().map(|line| (Value(line.name(&self.text)), shown(line)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    fn value(text: &str) -> HeaderValue {
        HeaderValue::from_str(text).unwrap()
    }

    /// A map of a head, whose lines are read as a parser would.
    fn read(head: &str) -> HeaderMap {
        let mut map = HeaderMap::new();
        map.set_text(head.as_bytes());
        for line in head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            map.add_line(head.as_bytes(), name.as_bytes(), value.trim().as_bytes()).unwrap();
        }
        map
    }

    fn written(map: &HeaderMap, left_out: &[&[u8]]) -> String {
        let mut out = Vec::new();
        map.write_to(&mut out, |name| left_out.contains(&name));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_found_and_written_in_the_order_in_which_they_came() {
        let mut map = read("GET / HTTP/1.1\r\nHost: a\r\nX-One:1\r\nACCEPT_LANGUAGES:  en \r\nx-one: 2\r\nEmpty:\r\n\r\n");
        assert_eq!(map.get("host").unwrap(), "a");
        assert_eq!(map.get_all("x-one").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(map.get("empty").unwrap(), "");
        assert!(map.has_several("x-one") && !map.has_several("host") && map.get("x-two").is_none());
        assert!(map.has_underscores());
        map.append(name("x-two"), value("3"));
        map.insert(name("host"), value("b"));
        assert_eq!(written(&map, &[b"empty"]), "host: b\r\nx-one: 1\r\naccept_languages: en\r\nx-one: 2\r\nx-two: 3\r\n");
        map.insert(name("x-one"), value("4"));
        assert!(map.remove("accept_languages") && !map.remove("accept_languages"));
        assert_eq!(written(&map, &[]), "host: b\r\nx-one: 4\r\nempty: \r\nx-two: 3\r\n");
        map.clear();
        assert!(map.is_empty() && !map.has_underscores() && map.get("host").is_none());
    }

    #[test]
    fn what_no_compression_may_remember_is_told_on() {
        let (mut secret, mut fields) = (value("secret"), http::HeaderMap::new());
        secret.set_sensitive(true);
        fields.append("authorization", secret.clone());
        fields.append("x-user", value("a"));
        let mut map = HeaderMap::from(&fields);
        map.insert(name("x-key"), secret);
        let sensitive =
            http::HeaderMap::from(&map).iter().map(|(name, value)| (name.to_string(), value.is_sensitive())).collect::<Vec<_>>();
        let expected = [("authorization", true), ("x-user", false), ("x-key", true)].map(|(name, is)| (name.to_owned(), is));
        assert_eq!(sensitive, expected);
        assert!(!format!("{map:?}").contains("secret"), "{map:?}");
    }

    #[test]
    fn a_value_that_ends_a_line_is_no_value() {
        let mut map = HeaderMap::new();
        for byte in 0..=u8::MAX {
            let text = [b'a', byte];
            assert_eq!(map.insert_bytes(Name::new("x"), &text).is_ok(), HeaderValue::from_bytes(&text).is_ok(), "{byte}");
        }
    }

    /// What the parser of heads takes, the map may keep.
    #[test]
    fn the_parser_takes_tokens_and_values_only() {
        for byte in 0..=u8::MAX {
            for head in [[b"GET / HTTP/1.1\r\nx".as_slice(), &[byte], b": a\r\n\r\n"], [b"GET / HTTP/1.1\r\nx: a", &[byte], b"a\r\n\r\n"]] {
                let head = head.concat();
                let mut slots = [httparse::EMPTY_HEADER; 2];
                let mut request = httparse::Request::new(&mut slots);
                if request.parse(&head).is_ok_and(|status| status.is_complete()) {
                    for field in &*request.headers {
                        assert!(HeaderName::from_bytes(field.name.as_bytes()).is_ok() && !field.name.contains('"'), "{byte}");
                        assert!(HeaderValue::from_bytes(field.value).is_ok(), "{byte}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_that_are_no_part_of_the_text_are_refused() {
        let mut map = HeaderMap::new();
        map.set_text(b"a: b\r\n\r\n");
        assert!(map.add_line(b"a: b\r\n\r\n", b"elsewhere", b"").is_err());
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert(usize, String),
        Append(usize, String),
        Remove(usize),
    }

    const NAMES: [&str; 6] = ["a", "host", "x-forwarded-for", "x-forwarded-far", "cookie", "x_y"];

    fn change() -> impl Strategy<Value = Change> {
        let (at, text) = (0..NAMES.len(), "[ -~]{0,9}");
        prop_oneof![
            (at.clone(), text).prop_map(|(at, text)| Change::Insert(at, text)),
            (at.clone(), text).prop_map(|(at, text)| Change::Append(at, text)),
            at.prop_map(Change::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_the_map_of_the_http_crate_holds(changes in prop::collection::vec(change(), 0..24)) {
            let (mut ours, mut theirs) = (HeaderMap::new(), http::HeaderMap::new());
            for change in changes {
                match change {
                    Change::Insert(at, text) => {
                        ours.insert(name(NAMES[at]), value(&text));
                        theirs.insert(name(NAMES[at]), value(&text));
                    }
                    Change::Append(at, text) => {
                        ours.append(name(NAMES[at]), value(&text));
                        theirs.append(name(NAMES[at]), value(&text));
                    }
                    Change::Remove(at) => {
                        prop_assert_eq!(ours.remove(name(NAMES[at])), theirs.remove(NAMES[at]).is_some());
                    }
                }
            }
            prop_assert_eq!(&http::HeaderMap::from(&ours), &theirs);
            prop_assert_eq!(&HeaderMap::from(&theirs), &ours);
            prop_assert_eq!(ours.len(), theirs.len());
            let lines: Vec<String> = ours.iter().map(|(name, value)| format!("{}: {}\r\n", name.escape_ascii(), value.to_str().unwrap())).collect();
            prop_assert_eq!(written(&ours, &[]), lines.concat());
        }

        #[test]
        fn names_are_in_lower_case(text in "[!-9A-~]{1,40}") {
            let mut bytes = text.clone().into_bytes();
            prop_assert_eq!(to_lower_case(&mut bytes), text.contains('_'));
            prop_assert_eq!(bytes, text.to_ascii_lowercase().into_bytes());
        }
    }
}
