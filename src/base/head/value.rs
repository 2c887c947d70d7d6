//! The value of a field.

use std::fmt;

use http::HeaderValue;

/// The value of a field, of a map that lives on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Value<'m>(pub(super) &'m [u8]);

/// A value is no visible ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of a field is not visible ASCII")]
pub struct NotText;

// === impl Value ===

impl<'m> Value<'m> {
    /// Its bytes.
    pub fn as_bytes(self) -> &'m [u8] {
        self.0
    }

    /// Its text.
    ///
    /// # Errors
    /// It has bytes that are neither visible ASCII, nor spaces or tabs.
    pub fn to_str(self) -> Result<&'m str, NotText> {
        let visible = self.0.iter().fold(true, |all, byte| all & (matches!(byte, 32..127) | (*byte == b'\t')));
        if !visible {
            return Err(NotText);
        }
        std::str::from_utf8(self.0).map_err(|_invalid| NotText)
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// A copy that outlives the map.
    pub fn to_header_value(self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.0).ok()
    }
}

impl<'v> From<&'v HeaderValue> for Value<'v> {
    fn from(value: &'v HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl PartialEq<str> for Value<'_> {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Value<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<String> for Value<'_> {
    fn eq(&self, other: &String) -> bool {
        self.0 == other.as_bytes()
    }
}
