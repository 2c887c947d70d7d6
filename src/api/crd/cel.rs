//! Values as the Common Expression Language has them.

use std::sync::Arc;

use kube_cel::cel::{
    Value as CelValue,
    objects::{Key, Map},
};
use serde_json::Value;

use super::schema::Schema;

/// A value as rules see it. Of an object with named members the names are escaped where the language has a meaning for them.
pub(super) fn to_cel(value: &Value, schema: Option<&Schema>) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(truth) => CelValue::Bool(*truth),
        Value::Number(number) => number.as_i64().map_or_else(|| CelValue::Float(number.as_f64().unwrap_or(f64::NAN)), CelValue::Int),
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(values) => {
            let items = schema.and_then(Schema::items);
            CelValue::List(Arc::new(values.iter().map(|value| to_cel(value, items)).collect()))
        }
        Value::Object(members) => {
            let named = schema.is_some_and(|schema| !schema.properties.is_empty());
            let members = members.iter().map(|(name, member)| {
                let key = if named { escaped(name) } else { name.clone() };
                (Key::String(Arc::new(key)), to_cel(member, schema.and_then(|schema| schema.member(name))))
            });
            CelValue::Map(Map { map: Arc::new(members.collect()) })
        }
    }
}

/// A member's name in rules.
///
/// Source: Kubernetes, "Validation rules", table of escaped property names.
fn escaped(name: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}
