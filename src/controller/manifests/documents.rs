//! A file of manifests as the documents that it holds, as they are written: nothing is decoded and nothing dropped.

use serde_json::Value;

use crate::base::text::word;

use super::{
    notice::Notice,
    parse::{refusal, to_value},
    split::split,
};

/// The documents of a file, in order. One that cannot be parsed is left out, and a notice says so.
pub(in crate::controller) fn documents(name: &str, content: &[u8], notices: &mut Vec<Notice>) -> Vec<Value> {
    let Ok(text) = std::str::from_utf8(content) else {
        notices.push(Notice::refused(format!("{}: not UTF-8; nothing of the file is read", word(name))));
        return Vec::new();
    };
    let mut documents = Vec::new();
    for part in split(text) {
        match to_value(part.text) {
            Ok(Value::Null) => {}
            Ok(document) => documents.push(document),
            Err(error) => {
                let refusal = refusal(part.line, &error);
                notices.push(Notice::refused(format!("{}{refusal}; nothing of this document is read", word(name))));
            }
        }
    }
    documents
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_parsed_costs_only_itself() {
        let mut notices = Vec::new();
        let found =
            documents("a.yaml", b"a: 1\n---\n# nothing\n---\n[b\n---\n{\"c\": on}\n---\nkind: List\nitems: [{d: 2}]\n", &mut notices);
        assert_eq!(found, [json!({"a": 1}), json!({"c": true}), json!({"kind": "List", "items": [{"d": 2}]})]);
        assert_eq!(notices.len(), 1);
        assert!(notices[0].refused && notices[0].text.as_str().starts_with("a.yaml:5:"), "{notices:?}");
        assert_eq!(documents("b.yaml", &[0xff], &mut notices), [] as [Value; 0]);
        assert_eq!(notices.len(), 2);
    }
}
