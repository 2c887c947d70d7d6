//! The keys of tags, which stand for pods in what clients carry.

use std::fmt;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// What is tagged begins with this, so that the keys serve no other purpose by accident.
const PURPOSE: &[u8] = b"clingfish affinity tag 1\0";

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Hexadecimal digits of a tag.
pub const TAG_DIGITS: usize = 16;

/// Stands for a pod: 64 bits that say nothing of it to whoever has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// The keys: the first makes tags, and those of both are known, so that keys can be replaced while sessions live.
#[derive(Clone)]
pub struct AffinityKeys {
    signing: Key,
    other: Option<Key>,
}

/// By which of the keys something is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// The one that makes tags.
    Made,
    /// The other one, which is known.
    Known,
}

#[derive(Clone)]
struct Key {
    bytes: [u8; KEY_BYTES],
    mac: hmac::Key,
}

// === impl Tag ===

impl Tag {
    /// Reads exactly 16 lower-case hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; TAG_DIGITS] = text.try_into().ok()?;
        // Every digit is read before any is judged: nearly all tags are good, and this needs no branch for each.
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => u8::MAX,
        };
        let (bits, worst) = text
            .iter()
            .map(|byte| digit(*byte))
            .fold((0, 0), |(bits, worst), digit: u8| (bits << 4 | u64::from(digit & 15), worst.max(digit)));
        (worst < 16).then_some(Self(bits))
    }

    /// Its text.
    pub fn text(self) -> [u8; TAG_DIGITS] {
        let mut text = [0; TAG_DIGITS];
        for (place, byte) in text.iter_mut().enumerate() {
            let digit = (self.0 >> (60 - 4 * place) & 15) as u8;
            *byte = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        }
        text
    }
}

// === impl AffinityKeys ===

impl AffinityKeys {
    /// Reads one or two keys, each a line of 64 hexadecimal digits.
    ///
    /// # Errors
    /// What was expected; never what was found.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "expected one or two lines of 64 hexadecimal digits";
        let mut keys = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| Key::parse(line).ok_or(EXPECTED));
        let signing = keys.next().ok_or(EXPECTED)??;
        let other = keys.next().transpose()?;
        if keys.next().is_some() { Err(EXPECTED) } else { Ok(Self { signing, other }) }
    }

    /// The text of one new key; `None`: the system has no random numbers.
    pub fn generate() -> Option<String> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The tag of a pod, by the key that makes tags, and by the other one.
    pub fn tags(&self, pod: &[u8]) -> (Tag, Option<Tag>) {
        (self.signing.tag(pod), self.other.as_ref().map(|key| key.tag(pod)))
    }

    /// Signs some parts, one behind the other, by one of the keys; `None`: there is no such key.
    pub(super) fn sign(&self, by: Signature, parts: &[&[u8]]) -> Option<u64> {
        let key = match by {
            Signature::Made => &self.signing,
            Signature::Known => self.other.as_ref()?,
        };
        Some(key.sign(parts))
    }
}

impl PartialEq for AffinityKeys {
    fn eq(&self, other: &Self) -> bool {
        let others = match (&self.other, &other.other) {
            (Some(one), Some(two)) => one.is(two),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.signing.is(&other.signing) && others
    }
}

impl Eq for AffinityKeys {}

impl fmt::Debug for AffinityKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AffinityKeys(not shown)")
    }
}

// === impl Key ===

impl Key {
    fn parse(line: &str) -> Option<Self> {
        let mut bytes = [0; KEY_BYTES];
        if line.len() != 2 * KEY_BYTES || !line.is_ascii() {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(line.as_bytes().chunks(2)) {
            let digit = |digit: Option<&u8>| char::from(*digit?).to_digit(16);
            *byte = u8::try_from(digit(digits.first())? << 4 | digit(digits.get(1))?).ok()?;
        }
        Some(Self { bytes, mac: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    fn tag(&self, pod: &[u8]) -> Tag {
        Tag(self.sign(&[PURPOSE, pod]))
    }

    fn sign(&self, parts: &[&[u8]]) -> u64 {
        let mut context = hmac::Context::with_key(&self.mac);
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> AffinityKeys {
        AffinityKeys::parse(text).unwrap()
    }

    #[test]
    fn a_tag_is_as_hmac_sha256_has_it() {
        // python3 -c 'import hmac;print(hmac.new(bytes(32),b"clingfish affinity tag 1\0pod","sha256").hexdigest()[:16])'
        assert_eq!(keys(&"0".repeat(64)).tags(b"pod"), (Tag(0xc18b_2e75_c729_df0b), None));
    }

    #[test]
    fn tags_are_read_as_they_are_written_and_nothing_else_is() {
        for bits in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(Tag::parse(&Tag(bits).text()), Some(Tag(bits)));
        }
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg", " 123456789abcdef"] {
            assert_eq!(Tag::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn two_keys_are_known_and_the_first_makes_tags() {
        let (one, two) = (AffinityKeys::generate().unwrap(), AffinityKeys::generate().unwrap());
        assert_ne!(one, two);
        let both = keys(&format!("{one}\n\n {two} \n"));
        assert_eq!(both.tags(b"pod"), (keys(&one).tags(b"pod").0, Some(keys(&two).tags(b"pod").0)));
        assert_ne!(both.tags(b"pod").0, both.tags(b"pof").0);
        assert!(both == both.clone() && both != keys(&one) && keys(&one) != keys(&two));
        assert!(!format!("{both:?}").contains(&one[..8]));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let key = "ab".repeat(32);
        for wrong in [String::new(), "ab".into(), "zz".repeat(32), "é".repeat(32), [&*key, &key, &key].join("\n"), format!("{key}\nab")] {
            let error = AffinityKeys::parse(&wrong).unwrap_err();
            assert!(error.starts_with("expected") && !error.contains("ab"), "{error}");
        }
    }
}
