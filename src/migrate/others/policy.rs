//! AffinityPolicies in the making.

use serde_json::{Map, Value, json};

use crate::base::ObjectName;

use super::super::{
    document::text,
    output::{Output, Step},
};

/// Most targets of one policy.
const MOST_TARGETS: usize = 16;

/// What an AffinityPolicy asks for, without its targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Affinity {
    /// As in `spec.keys`.
    pub(super) keys: Vec<Value>,
    /// Whether the hashes of all keys are combined; else the first that is found counts.
    pub(super) combined: bool,
    /// Whether a session stays on its pod while that serves.
    pub(super) holds: bool,
    /// As in `spec.algorithm`.
    pub(super) algorithm: Option<Value>,
    /// As in `spec.load.boundPercent`.
    pub(super) bound_percent: Option<u64>,
    /// Whether weighted backends are chosen by the key too.
    pub(super) splits_by_key: bool,
}

/// What an AffinityPolicy is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) section: Option<String>,
}

/// A cookie in the making. What is empty is left out.
#[derive(Clone, Debug, Default)]
pub(super) struct Cookie<'a> {
    pub(super) name: &'a str,
    /// Absent: a missing cookie is not made.
    pub(super) ttl: Option<String>,
    pub(super) path: &'a str,
    pub(super) domain: &'a str,
    pub(super) same_site: &'a str,
    pub(super) secure: Option<bool>,
    pub(super) http_only: Option<bool>,
}

// === impl Affinity ===

impl Affinity {
    /// One key, by the hash of which the pod is chosen.
    pub(super) fn by(key: Value) -> Self {
        Self { keys: vec![key], ..Self::default() }
    }

    /// The policy of that name, or several where there are more targets than one may have.
    pub(super) fn write(&self, name: &ObjectName, targets: &[Target], output: &mut Output) {
        for (index, targets) in targets.chunks(MOST_TARGETS).enumerate() {
            let base = if index == 0 { name.name.to_string() } else { format!("{}-{}", name.name, index + 1) };
            let own = free_name(&name.namespace, &base, output);
            let document = json!({
                "apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy",
                "metadata": {"name": own, "namespace": &*name.namespace},
                "spec": self.spec(targets),
            });
            output.file(Step::New, document);
        }
    }

    /// `spec`, with these targets.
    fn spec(&self, targets: &[Target]) -> Value {
        let mut spec = Map::new();
        spec.insert("targetRefs".to_owned(), targets.iter().map(Target::reference).collect());
        if !self.keys.is_empty() {
            spec.insert("keys".to_owned(), json!(self.keys));
        }
        if self.combined && self.keys.len() > 1 {
            spec.insert("combine".to_owned(), json!("All"));
        }
        if let Some(algorithm) = &self.algorithm {
            spec.insert("algorithm".to_owned(), algorithm.clone());
        }
        if self.holds {
            spec.insert("hold".to_owned(), json!("WhileAlive"));
        }
        if let Some(percent) = self.bound_percent {
            spec.insert("load".to_owned(), json!({"boundPercent": percent}));
        }
        if self.splits_by_key {
            spec.insert("split".to_owned(), json!("Hash"));
        }
        Value::Object(spec)
    }
}

// === impl Target ===

impl Target {
    pub(super) fn service(name: &str, port: Option<String>) -> Self {
        Self { group: "", kind: "Service", name: name.to_owned(), section: port }
    }

    pub(super) fn route(name: &str, rule: Option<String>) -> Self {
        Self { group: "gateway.networking.k8s.io", kind: "HTTPRoute", name: name.to_owned(), section: rule }
    }

    fn reference(&self) -> Value {
        let mut reference = json!({"group": self.group, "kind": self.kind, "name": self.name});
        if let (Some(section), Some(members)) = (&self.section, reference.as_object_mut()) {
            members.insert("sectionName".to_owned(), json!(section));
        }
        reference
    }
}

// === impl Cookie ===

impl Cookie<'_> {
    pub(super) fn key(&self) -> Value {
        let mut cookie = Map::new();
        let texts = [("name", self.name), ("path", self.path), ("domain", self.domain), ("sameSite", self.same_site)];
        for (field, value) in texts.into_iter().filter(|(_, value)| !value.is_empty()) {
            cookie.insert(field.to_owned(), json!(value));
        }
        if let Some(ttl) = &self.ttl {
            cookie.insert("ttl".to_owned(), json!(ttl));
        }
        if let Some(secure) = self.secure {
            cookie.insert("secure".to_owned(), json!(if secure { "Always" } else { "Never" }));
        }
        if let Some(http_only) = self.http_only {
            cookie.insert("httpOnly".to_owned(), json!(http_only));
        }
        json!({ "cookie": cookie })
    }
}

/// A name that no policy of the output has: one for an Ingress and one for a Service may come from objects of one name.
fn free_name(namespace: &str, base: &str, output: &Output) -> String {
    let is_taken = |name: &str| {
        let of_name = |document: &&Value| text(document, "/metadata/name") == name && text(document, "/metadata/namespace") == namespace;
        output.files.values().filter(of_name).any(|document| text(document, "/kind") == "AffinityPolicy")
    };
    let mut names = std::iter::once(base.to_owned()).chain((2_u32..).map(|number| format!("{base}-{number}")));
    names.find(|name| !is_taken(name)).unwrap_or_else(|| base.to_owned())
}

/// A header as key.
pub(super) fn header(name: &str) -> Value {
    json!({"header": {"name": name}})
}

/// A parameter of the query as key.
pub(super) fn query_parameter(name: &str) -> Value {
    json!({"queryParam": {"name": name}})
}

/// The client's address as key.
pub(super) fn source_ip() -> Value {
    json!({"sourceIP": {}})
}

/// A key that ends the combination where there is a hash.
pub(super) fn terminal(mut key: Value, is_terminal: bool) -> Value {
    if let Some(members) = key.as_object_mut().filter(|_| is_terminal) {
        members.insert("terminal".to_owned(), json!(true));
    }
    key
}

/// A ring as Envoy makes it.
pub(super) fn ring(min: Option<&Value>, max: Option<&Value>) -> Value {
    let sizes = [("min", min), ("max", max)].into_iter().filter_map(|(field, size)| Some((field.to_owned(), size?.clone())));
    json!({"ringHash": sizes.collect::<Map<_, _>>()})
}

/// A Maglev table as Envoy makes it.
pub(super) fn maglev(size: Option<&Value>) -> Value {
    let size = size.map(|size| ("tableSize".to_owned(), size.clone()));
    json!({"maglev": size.into_iter().collect::<Map<_, _>>()})
}

/// The word of the Gateway API and of browsers for a SameSite that others write in any case.
pub(super) fn same_site(written: &str) -> &'static str {
    match written.to_ascii_lowercase().as_str() {
        "lax" => "Lax",
        "strict" => "Strict",
        "none" => "None",
        _ => "",
    }
}

/// A boolean that an annotation has as text, or a document as itself.
pub(super) fn truth(value: &Value) -> Option<bool> {
    value.as_bool().or(match value.as_str() {
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) | None => None,
    })
}

/// A cookie as Envoy's configuration languages have it: `name`, `path`, `ttl`.
pub(super) fn envoy_cookie(cookie: &Value) -> Cookie<'_> {
    let ttl = Some(text(cookie, "/ttl")).filter(|ttl| !ttl.is_empty()).map(str::to_owned);
    Cookie { name: text(cookie, "/name"), path: text(cookie, "/path"), ttl, ..Cookie::default() }
}
