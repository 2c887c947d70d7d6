//! Keeps objects small: as the JSON that they were read from. The types of their API take several times as much memory.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

/// What routes say over and over, as they are written; the longer of two that begin alike comes first.
///
/// A phrase is packed as its place in this list plus one: a control character, which compact JSON never holds. So there are 31 at most.
const PHRASES: [&str; 31] = [
    r#"{"metadata":{"#,
    r#"{"backendRefs":[{"#,
    r#""group":"gloo.solo.io","kind":"Upstream","name":""#,
    r#"}],"matches":[{"path":{"type":"PathPrefix","value":""#,
    r#""extensionRef":{"group":"gateway.solo.io","kind":"RouteOption","name":""#,
    r#""group":"gateway.networking.k8s.io","kind":"Gateway","#,
    r#""group":"","kind":"Service","name":""#,
    r#"{"path":{"type":"PathPrefix","value":""#,
    r#"{"path":{"type":"Exact","value":""#,
    r#""path":{"type":"RegularExpression","value":""#,
    r#""kind":"Service","name":""#,
    r#""creationTimestamp":""#,
    r#""resourceVersion":""#,
    r#""generation":"#,
    r#""annotations":{"#,
    r#""parentRefs":[{"#,
    r#""sectionName":""#,
    r#""namespace":""#,
    r#""hostnames":[""#,
    r#""filters":[{"#,
    r#""headers":[{"#,
    r#""matches":[{"#,
    r#"},"spec":{"#,
    r#""labels":{"#,
    r#""rules":["#,
    r#""weight":"#,
    r#""value":""#,
    r#""name":""#,
    r#""uid":""#,
    r#""port":"#,
    r#""}}]}"#,
];

/// An object as compact JSON, with its phrases packed.
#[derive(Clone, Debug)]
pub(in crate::translate) struct Packed<T> {
    json: Box<[u8]>,
    /// `metadata.generation`.
    generation: Option<i64>,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Packed<T> {
    /// Packs an object; `None` if it cannot be written as JSON, which no object of the API can be.
    pub(super) fn pack(object: &T, generation: Option<i64>) -> Option<Self> {
        let json = serde_json::to_vec(object).ok()?;
        Some(Self { json: shorten(&json).into(), generation, of: PhantomData })
    }

    /// The object.
    pub(super) fn unpack(&self) -> Option<T> {
        serde_json::from_slice(&lengthen(&self.json)).ok()
    }

    /// The object, if this is anywhere in its JSON; not to be empty.
    pub(in crate::translate) fn unpack_if(&self, mentions: &[u8]) -> Option<T> {
        let json = lengthen(&self.json);
        json.windows(mentions.len()).any(|window| window == mentions).then(|| serde_json::from_slice(&json).ok())?
    }

    /// `metadata.generation`.
    pub(in crate::translate) fn generation(&self) -> Option<i64> {
        self.generation
    }
}

/// Puts a code in the place of every phrase.
fn shorten(json: &[u8]) -> Vec<u8> {
    let mut short = Vec::with_capacity(json.len() / 2);
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        // All phrases begin with one of these.
        let phrase = if matches!(byte, b'"' | b'{' | b'}') {
            (1..).zip(PHRASES).find_map(|(code, phrase)| Some((code, rest.strip_prefix(phrase.as_bytes())?)))
        } else {
            None
        };
        let (byte, after) = phrase.unwrap_or((byte, tail));
        short.push(byte);
        rest = after;
    }
    short
}

/// Undoes `shorten`.
fn lengthen(short: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(short.len() * 8);
    for byte in short {
        match usize::from(*byte).checked_sub(1).and_then(|place| PHRASES.get(place)) {
            Some(phrase) => json.extend_from_slice(phrase.as_bytes()),
            None => json.push(*byte),
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn phrases_are_found_where_they_can_be() {
        for (place, phrase) in PHRASES.iter().enumerate() {
            assert!(phrase.starts_with(['"', '{', '}']), "{phrase}");
            let hidden = PHRASES.iter().take(place).find(|earlier| phrase.starts_with(**earlier));
            assert_eq!(hidden, None, "{phrase} is never reached");
        }
    }

    #[test]
    fn a_rule_is_a_few_bytes_beside_its_own_words() {
        let rule = |n: usize| {
            json!({"matches": [{"path": {"type": "PathPrefix", "value": format!("/svc{n}/api")}}],
                "backendRefs": [{"name": "httpbin", "kind": "Upstream", "group": "gloo.solo.io"}]})
        };
        let route: crate::api::RouteBody = serde_json::from_value(json!({
            "metadata": {"name": "r", "namespace": "n"},
            "spec": {"parentRefs": [{"name": "http"}], "hostnames": ["a.example"], "rules": (0..10).map(rule).collect::<Vec<_>>()},
        }))
        .unwrap();
        let packed = Packed::pack(&route, None).unwrap();
        assert!(packed.json.len() < 10 * 32 + 100, "{} bytes: {:?}", packed.json.len(), String::from_utf8_lossy(&packed.json));
        assert_eq!(serde_json::to_value(packed.unpack().unwrap()).unwrap(), serde_json::to_value(&route).unwrap());
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(texts in prop::collection::vec("(\"|\\{|\\}|[\\x00-\\x7f]|é|\"name\":\"|\"weight\":){0,12}", 0..8)) {
            let value: Value = texts.iter().cloned().map(Value::from).collect();
            let packed = Packed::pack(&value, None).unwrap();
            prop_assert_eq!(packed.unpack().unwrap(), value);
        }
    }
}
