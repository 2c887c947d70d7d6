//! The answer of `GET /digest`: which tables this replica has, without a name.

use serde_json::{Map, Value, json};

use crate::base::TableDigests;

/// The digest of all tables; with `each` also that of each of them, by the digest of its backend's name.
pub(super) fn document(digests: &TableDigests, each: bool) -> String {
    let tables: Value = if each {
        digests.tables.iter().map(|(name, digest)| (format!("{name:016x}"), format!("{digest:016x}").into())).collect::<Map<_, _>>().into()
    } else {
        digests.tables.len().into()
    };
    let mut text = json!({"generation": digests.generation, "digest": format!("{:012x}", digests.combined), "tables": tables}).to_string();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_told() {
        let digests = TableDigests { generation: 3, combined: 0xabc, tables: [(1, 0x10)].into(), ..TableDigests::default() };
        assert_eq!(document(&digests, false), "{\"digest\":\"000000000abc\",\"generation\":3,\"tables\":1}\n");
        let each = "{\"digest\":\"000000000abc\",\"generation\":3,\"tables\":{\"0000000000000001\":\"0000000000000010\"}}\n";
        assert_eq!(document(&digests, true), each);
    }
}
