//! What a client keeps of a persistent session (GEP-1619): the tag of its host and the times of the session, signed for the place where it
//! holds, so that it can neither be forged nor carried elsewhere.

use super::affinity_keys::{AffinityKeys, Signature, TAG_DIGITS, Tag};

/// What is signed begins with this, so that a signature serves no other purpose by accident.
const PURPOSE: &[u8] = b"clingfish session 1\0";

/// Hexadecimal digits of a time: milliseconds since the epoch, in 48 bits.
const TIME_DIGITS: usize = 12;

/// Bytes of a token: `TAG.STARTED.USED.SIGNATURE`.
pub const TOKEN_BYTES: usize = TAG_DIGITS + 1 + TIME_DIGITS + 1 + TIME_DIGITS + 1 + TAG_DIGITS;

/// A persistent session as its client keeps it. Times are milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionToken {
    /// Of its host.
    pub tag: Tag,
    /// When it began.
    pub started: u64,
    /// When it was last known to be used.
    pub used: u64,
}

// === impl SessionToken ===

impl SessionToken {
    /// The token's text, signed with the key that makes tags. `scope`: where the session holds.
    pub fn seal(&self, keys: &AffinityKeys, scope: &str) -> [u8; TOKEN_BYTES] {
        let signature = Tag(keys.sign(Signature::Made, &self.signed(scope).parts()).unwrap_or_default());
        let mut text = [b'.'; TOKEN_BYTES];
        let fields = [(self.tag, 0), (Tag(self.started), 4), (Tag(self.used), 4), (signature, 0)];
        let digits = fields.iter().map(|(number, skipped)| (number.text(), *skipped));
        let mut rest = text.as_mut_slice();
        for (digits, skipped) in digits {
            let digits = digits.get(skipped..).unwrap_or_default();
            let Some((field, behind)) = rest.split_at_mut_checked(digits.len()) else { break };
            field.copy_from_slice(digits);
            rest = behind.get_mut(1..).unwrap_or_default();
        }
        text
    }

    /// Reads a token that was sealed for this scope with one of the keys; which of them. `None`: it was not.
    pub fn open(text: &[u8], keys: &AffinityKeys, scope: &str) -> Option<(Self, Signature)> {
        if text.len() != TOKEN_BYTES {
            return None;
        }
        let mut fields = text.split(|byte| *byte == b'.');
        let tag = Tag::parse(fields.next()?)?;
        let (started, used) = (time(fields.next()?)?, time(fields.next()?)?);
        let Tag(signature) = Tag::parse(fields.next()?)?;
        if fields.next().is_some() {
            return None;
        }
        let token = Self { tag, started, used };
        let signed = token.signed(scope);
        // Equal only for whoever has a key: what a comparison of 64 bits takes tells nobody anything.
        let by = [Signature::Made, Signature::Known].into_iter().find(|by| keys.sign(*by, &signed.parts()) == Some(signature))?;
        Some((token, by))
    }

    fn signed<'a>(&self, scope: &'a str) -> Signed<'a> {
        let mut numbers = [0; 24];
        for (place, number) in numbers.chunks_exact_mut(8).zip([self.tag.0, self.started, self.used]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        Signed { numbers, scope }
    }
}

/// What is signed.
struct Signed<'a> {
    numbers: [u8; 24],
    scope: &'a str,
}

impl Signed<'_> {
    /// Its parts, one behind the other. Only the last one varies in length.
    fn parts(&self) -> [&[u8]; 3] {
        [PURPOSE, &self.numbers, self.scope.as_bytes()]
    }
}

fn time(digits: &[u8]) -> Option<u64> {
    let mut text = [b'0'; TAG_DIGITS];
    text.get_mut(TAG_DIGITS - TIME_DIGITS..).filter(|place| place.len() == digits.len())?.copy_from_slice(digits);
    Tag::parse(&text).map(|Tag(number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: SessionToken = SessionToken { tag: Tag(0x0123_4567_89ab_cdef), started: 1_767_225_600_000, used: 1_767_225_660_123 };

    fn keys(text: &str) -> AffinityKeys {
        AffinityKeys::parse(text).unwrap()
    }

    fn one() -> String {
        "5a".repeat(32)
    }

    #[test]
    fn a_token_is_signed_with_hmac_sha256() {
        // python3: hmac.new(b"\x5a"*32, b"clingfish session 1\0" + struct.pack(">QQQ", 0x123456789abcdef, 1767225600000, 1767225660123)
        //          + b"HTTPRoute n/r rule 0", "sha256").hexdigest()[:16]
        let text = TOKEN.seal(&keys(&one()), "HTTPRoute n/r rule 0");
        assert_eq!(std::str::from_utf8(&text).unwrap(), "0123456789abcdef.019b76daa800.019b76db92db.cbe77952130cae78");
    }

    #[test]
    fn what_was_sealed_is_opened_with_either_key_where_it_holds() {
        let (first, second) = (one(), "6b".repeat(32));
        let text = TOKEN.seal(&keys(&first), "here");
        assert_eq!(SessionToken::open(&text, &keys(&first), "here"), Some((TOKEN, Signature::Made)));
        let rotated = keys(&format!("{second}\n{first}"));
        assert_eq!(SessionToken::open(&text, &rotated, "here"), Some((TOKEN, Signature::Known)));
        assert_eq!(SessionToken::open(&text, &keys(&second), "here"), None, "the key is gone");
        assert_eq!(SessionToken::open(&text, &keys(&first), "there"), None, "it holds elsewhere");
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let keys = keys(&one());
        let text = TOKEN.seal(&keys, "here");
        for place in 0..TOKEN_BYTES {
            for byte in [b'0', b'1', b'f', b'A', b'.', b' ', 0] {
                let mut changed = text;
                changed[place] = byte;
                let opened = SessionToken::open(&changed, &keys, "here");
                assert_eq!(opened.is_some(), changed == text, "{place} {byte}");
            }
        }
        for length in 0..TOKEN_BYTES {
            assert_eq!(SessionToken::open(&text[..length], &keys, "here"), None);
        }
        assert_eq!(SessionToken::open(&[&text[..], b"."].concat(), &keys, "here"), None);
    }
}
