//! Secrets: what is said of one that cannot be decoded never holds a value.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_path_to_error::{Path, Segment};

/// The keys that are read of a Secret.
const KEYS: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// `stringData` is for writing only: the API server moves it to `data`, where it wins.
pub(super) fn with_string_data(mut secret: Secret) -> Secret {
    for (key, text) in secret.string_data.take().unwrap_or_default() {
        secret.data.get_or_insert_default().insert(key, ByteString(text.into_bytes()));
    }
    secret
}

/// The field that cannot be decoded, and what was expected there: words of ours, whatever was found.
pub(super) fn expectation(path: &Path) -> (String, &'static str) {
    let mut keys = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.as_str()),
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    });
    let (field, key) = (keys.next(), keys.next());
    let expected = match (field, key) {
        (Some("data"), None) => "expected an object of strings in base64",
        (Some("data"), Some(_)) => "expected a string in base64",
        (Some("stringData"), None) => "expected an object of strings",
        (Some("stringData" | "type"), _) => "expected a string",
        (Some("immutable"), _) => "expected true or false",
        (Some("metadata"), _) => "expected the metadata of an object",
        (Some(_), _) => "expected a value of the field's type",
        (None, _) => "expected the fields of a Secret",
    };
    // Any other key may be a value in the wrong place.
    let named = |key: &str| if KEYS.contains(&key) { format!(".{key}") } else { "[...]".to_owned() };
    (format!("{}{}", field.unwrap_or_default(), key.map(named).unwrap_or_default()), expected)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::{Document, decode};

    /// What must not be told.
    const VALUE: &str = "-----BEGIN PRIVATE KEY-----\nTHEVALUE+/THEVALUE=\n-----END PRIVATE KEY-----\n";

    fn told(document: Value) -> Vec<String> {
        match decode(document) {
            Ok(Document::Object(_)) => Vec::new(),
            Ok(Document::Other(text)) => vec![text],
            Ok(Document::List(items)) => items.into_iter().flat_map(told).collect(),
            Err(error) => vec![error.to_string(), format!("{error:?}")],
        }
    }

    fn secret(change: impl FnOnce(&mut Value)) -> Value {
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}});
        change(&mut secret);
        secret
    }

    #[test]
    fn whatever_its_shape_no_value_is_told() {
        let shapes = [
            json!(VALUE),
            json!([VALUE]),
            json!({ "tls.key": [VALUE] }),
            json!({ "tls.key": { "THEVALUE": VALUE } }),
            json!({ "tls.key": 5, "a": VALUE }),
            json!([{ "tls.key": VALUE }]),
            json!({ "tls.key": VALUE }),
            json!({ VALUE: 5 }),
            json!({ "THEVALUE": null }),
            json!({ "THEVALUE": { "a": 1 } }),
            json!("thevalue"),
        ];
        let mut tried = 0;
        for shape in &shapes {
            for field in ["data", "stringData", "type", "immutable", "metadata", "apiVersion", "metadata.name", "metadata.labels"] {
                let wrong = secret(|secret| match field.split_once('.') {
                    Some((field, key)) => secret[field][key] = shape.clone(),
                    None => secret[field] = shape.clone(),
                });
                let list = json!({"apiVersion": "v1", "kind": "SecretList", "items": [wrong]});
                for text in [wrong, list].into_iter().flat_map(told) {
                    tried += 1;
                    assert!(!text.contains("THEVALUE") && !text.contains("thevalue/") && !text.contains("PRIVATE"), "{field}: {text}");
                }
            }
        }
        assert!(tried > 100, "only {tried} were told of");
    }

    #[test]
    fn field_and_expectation_are_told() {
        for (field, value, told_field, expected) in [
            ("data", json!("x"), "data", "expected an object of strings in base64"),
            ("data", json!({"tls.key": "not base64!"}), "data.tls.key", "expected a string in base64"),
            ("data", json!({"tls.key": 5}), "data.tls.key", "expected a string in base64"),
            ("stringData", json!({"a b": 5}), "stringData[...]", "expected a string"),
            ("stringData", json!([]), "stringData", "expected an object of strings"),
            ("type", json!({}), "type", "expected a string"),
            ("immutable", json!("yes"), "immutable", "expected true or false"),
        ] {
            let error = decode(secret(|secret| secret[field] = value.clone())).unwrap_err();
            assert_eq!((&*error.field, &*error.message), (told_field, expected), "{field}: {value}");
        }
    }
}
