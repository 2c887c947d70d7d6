//! Which values the API server takes: an object against a schema and its rules.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Number, Value};

use crate::base::text::quoted;

use super::{
    cel::to_cel,
    findings::{Findings, Violation},
    rule::Rule,
    schema::{ListType, Schema, Type},
};

/// Findings beyond these are not looked for: a message shows a few.
const MAX_FINDINGS: usize = 8;

/// Every object has them, whatever its schema says.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Schema {
    /// Holds an object against the schema, then against the rules. As with the API server, rules are evaluated with the schema's defaults
    /// filled in, and only where all values are of their types.
    pub(super) fn check(&self, object: &Value) -> Findings {
        let mut findings = Findings::default();
        self.find_unknown(object, "", &mut findings.unknown);
        let mut object = object.clone();
        self.fill_in_defaults(&mut object);
        self.check_value(&object, "", &mut findings.violations);
        if findings.violations.is_empty() {
            self.check_rules(&object, "", &mut findings.violations);
        }
        findings
    }

    fn find_unknown(&self, value: &Value, field: &str, unknown: &mut Vec<String>) {
        match value {
            Value::Object(members) if self.has_all_members() => {
                for (name, member) in members {
                    match self.member(name) {
                        _ if unknown.len() >= MAX_FINDINGS => return,
                        _ if field.is_empty() && OF_EVERY_OBJECT.contains(&name.as_str()) => {}
                        Some(schema) => schema.find_unknown(member, &of_member(field, name), unknown),
                        None => unknown.push(of_member(field, name)),
                    }
                }
            }
            Value::Array(values) => {
                let Some(items) = &self.items else { return };
                values.iter().enumerate().for_each(|(index, value)| items.find_unknown(value, &of_item(field, index), unknown));
            }
            _ => {}
        }
    }

    /// Takes out of an object what `check` finds to be unknown.
    pub(super) fn prune(&self, object: &mut Value) {
        let Some(members) = object.as_object_mut() else { return };
        let own: Vec<_> = OF_EVERY_OBJECT.iter().filter_map(|name| members.remove_entry(*name)).collect();
        self.prune_value(object);
        if let Some(members) = object.as_object_mut() {
            members.extend(own);
        }
    }

    fn prune_value(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                if self.has_all_members() {
                    members.retain(|name, _| self.member(name).is_some());
                }
                for (name, member) in members {
                    if let Some(schema) = self.member(name) {
                        schema.prune_value(member);
                    }
                }
            }
            Value::Array(values) => {
                if let Some(items) = &self.items {
                    values.iter_mut().for_each(|value| items.prune_value(value));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Whether the schema names every member that an object may have.
    fn has_all_members(&self) -> bool {
        !self.preserve_unknown_fields && !self.properties.is_empty()
    }

    fn fill_in_defaults(&self, value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, schema) in &self.properties {
                    if let Some(default) = &schema.default
                        && members.get(name).is_none_or(|member| member.is_null() && !schema.nullable)
                    {
                        members.insert(name.clone(), default.clone());
                    }
                }
                for (name, member) in members {
                    if let Some(schema) = self.member(name) {
                        schema.fill_in_defaults(member);
                    }
                }
            }
            Value::Array(values) => {
                let Some(items) = &self.items else { return };
                values.iter_mut().for_each(|value| items.fill_in_defaults(value));
            }
            _ => {}
        }
    }

    fn check_rules(&self, value: &Value, field: &str, violations: &mut Vec<Violation>) {
        if !self.validations.is_empty() {
            let broken = Rule::broken(&self.validations, to_cel(value, Some(self)));
            violations.extend(broken.map(|message| Violation { field: field.to_owned(), message }));
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let Some(schema) = self.member(name) {
                        schema.check_rules(member, &of_member(field, name), violations);
                    }
                }
            }
            Value::Array(values) => {
                let Some(items) = &self.items else { return };
                values.iter().enumerate().for_each(|(index, value)| items.check_rules(value, &of_item(field, index), violations));
            }
            _ => {}
        }
    }

    fn check_value(&self, value: &Value, field: &str, violations: &mut Vec<Violation>) {
        if violations.len() >= MAX_FINDINGS || (value.is_null() && self.nullable) {
            return;
        }
        if let Some(message) = self.wrong_type(value).or_else(|| self.wrong_value(value)) {
            violations.push(Violation { field: field.to_owned(), message });
            return;
        }
        match value {
            Value::Array(values) => self.check_list(values, field, violations),
            Value::Object(members) => self.check_members(members, field, violations),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|schema| schema.takes(value)) {
            violations.push(Violation { field: field.to_owned(), message: "is none of what the field may be".to_owned() });
        }
        if !self.one_of.is_empty() && self.one_of.iter().filter(|schema| schema.takes(value)).count() != 1 {
            let message = "does not fit together: expected values that fit the field's type".to_owned();
            violations.push(Violation { field: field.to_owned(), message });
        }
        if self.not.as_ref().is_some_and(|schema| schema.takes(value)) {
            violations.push(Violation { field: field.to_owned(), message: "is what the field must not be".to_owned() });
        }
    }

    fn takes(&self, value: &Value) -> bool {
        let mut violations = Vec::new();
        self.check_value(value, "", &mut violations);
        violations.is_empty()
    }

    fn wrong_type(&self, value: &Value) -> Option<String> {
        let (fits, expected) = if self.int_or_string {
            (is_integer(value) || value.is_string(), "a whole number or a string")
        } else {
            match self.value_type? {
                Type::Array => (value.is_array(), "a list"),
                Type::Boolean => (value.is_boolean(), "true or false"),
                Type::Integer => (is_integer(value), "a whole number"),
                Type::Number => (value.is_number(), "a number"),
                Type::Object => (value.is_object(), "an object"),
                Type::String => (value.is_string(), "a string"),
            }
        };
        (!fits).then(|| format!("is {}: expected {expected}", shown(value)))
    }

    fn wrong_value(&self, value: &Value) -> Option<String> {
        if !self.one_value_of.is_empty() && !self.one_value_of.contains(value) {
            let expected: Vec<_> = self.one_value_of.iter().map(shown).collect();
            return Some(format!("is {}: expected one of {}", shown(value), expected.join(", ")));
        }
        match value {
            Value::String(text) => self.wrong_text(text),
            Value::Number(number) => self.wrong_number(number),
            Value::Array(values) => out_of_bounds(values.len(), self.min_items, self.max_items, "items"),
            Value::Object(members) => out_of_bounds(members.len(), self.min_properties, self.max_properties, "members"),
            Value::Null | Value::Bool(_) => None,
        }
    }

    fn wrong_text(&self, text: &str) -> Option<String> {
        if let Some(message) = out_of_bounds(text.chars().count(), self.min_length, self.max_length, "characters") {
            return Some(message);
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            return Some(format!("is {}: expected what matches {pattern}", quoted(text)));
        }
        let (fits, expected) = match self.format.as_deref()? {
            "ipv4" => (text.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
            "ipv6" => (text.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
            // Of a string the API server looks at no other format that these CRDs name.
            _ => return None,
        };
        (!fits).then(|| format!("is {}: expected {expected}", quoted(text)))
    }

    fn wrong_number(&self, number: &Number) -> Option<String> {
        let (format_minimum, format_maximum) = match self.format.as_deref() {
            Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
            Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
            _ => (None, None),
        };
        let value = number.as_f64()?;
        if let Some(minimum) = self.minimum.or(format_minimum).filter(|minimum| value < *minimum) {
            return Some(format!("is {number}: expected at least {minimum}"));
        }
        let maximum = self.maximum.or(format_maximum).filter(|maximum| value > *maximum)?;
        Some(format!("is {number}: expected at most {maximum}"))
    }

    fn check_list(&self, values: &[Value], field: &str, violations: &mut Vec<Violation>) {
        if let Some(index) = self.first_repeated(values) {
            let message = match self.list_type {
                ListType::Map => format!("has the {} of an item before it: expected its own", self.list_map_keys.join(" and ")),
                ListType::Atomic | ListType::Set => "is in the list already".to_owned(),
            };
            violations.push(Violation { field: of_item(field, index), message });
        }
        if let Some(items) = &self.items {
            values.iter().enumerate().for_each(|(index, value)| items.check_value(value, &of_item(field, index), violations));
        }
    }

    fn first_repeated(&self, values: &[Value]) -> Option<usize> {
        let same = |one: &Value, other: &Value| match self.list_type {
            ListType::Atomic => false,
            ListType::Set => one == other,
            ListType::Map => self.list_map_keys.iter().all(|key| one.get(key) == other.get(key)),
        };
        // Lists that are sets or maps are short: their schemas bound them.
        (1..values.len()).find(|index| {
            let (before, rest) = values.split_at(*index);
            rest.first().is_some_and(|value| before.iter().any(|other| same(other, value)))
        })
    }

    fn check_members(&self, members: &serde_json::Map<String, Value>, field: &str, violations: &mut Vec<Violation>) {
        for name in self.required.iter().filter(|name| !members.contains_key(*name)) {
            violations.push(Violation { field: of_member(field, name), message: "is missing and has no default".to_owned() });
        }
        for (name, member) in members {
            if let Some(schema) = self.member(name) {
                schema.check_value(member, &of_member(field, name), violations);
            }
        }
    }
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn out_of_bounds(number: usize, least: Option<usize>, most: Option<usize>, of_what: &str) -> Option<String> {
    if let Some(least) = least.filter(|least| number < *least) {
        return Some(if number == 0 { "is empty".to_owned() } else { format!("has {number} {of_what}: expected at least {least}") });
    }
    let most = most.filter(|most| number > *most)?;
    Some(format!("has {number} {of_what}: expected at most {most}"))
}

/// A value in a message: short, and of a list or an object only what it is.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text).to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

fn of_member(field: &str, name: &str) -> String {
    let dot = if field.is_empty() { "" } else { "." };
    format!("{field}{dot}{}", crate::base::text::word(name))
}

fn of_item(field: &str, index: usize) -> String {
    format!("{field}[{index}]")
}
