//! From a JSON document to an object, or to an error that names object, field and expectation.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::base::{
    Kind, Message, ObjectRef,
    text::{beginning, quoted, word},
};

use super::{
    checks, crd,
    gloo::UnnamedGatewayOption,
    object::Object,
    outline::outline,
    route::{GrpcRouteBody, RouteBody},
    secret,
};

/// The key of a ConfigMap with the certificates of authorities (Gateway API, `caCertificateRefs`).
const AUTHORITIES: &str = "ca.crt";

/// Kubernetes' bound on the length of a name, in bytes.
const MAX_NAME: usize = 253;

/// kubectl's copy of the whole object, in the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a document turned out to be.
#[derive(Clone, Debug)]
pub enum Document {
    /// An object of a kind that Clingfish reads.
    Object(Box<Object>),
    /// `kind: List`, or `UpstreamList` and the like: the items, each to be decoded by itself so that a wrong one does not cost the others.
    List(Vec<Value>),
    /// Some other kind: one notice, never an error. Holds `apiVersion/kind name` for the notice.
    Other(String),
}

/// An object that could not be decoded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: field {field}: {message}", object.as_ref().map_or_else(|| "document".to_owned(), ToString::to_string))]
pub struct DecodeError {
    /// The object, if kind and name could be read: its last decoded version keeps serving.
    pub object: Option<ObjectRef>,
    /// `metadata.generation` of the refused version, if any.
    pub generation: Option<i64>,
    /// `metadata.uid` of the object; absent in a directory of manifests.
    pub uid: Option<Box<str>>,
    /// Dotted path of the field.
    pub field: Message,
    /// What is wrong and what was expected; of a Secret only what was expected.
    pub message: Message,
    /// What can still be read of a route (its parents and what it refers to) or of a Gateway (its class and listeners): never to be served,
    /// but enough for a status where no version was ever decoded. Of a RouteOption: its targets and the options that must not be skipped.
    pub outline: Option<Box<Object>>,
}

/// What was read of a document before its kind's own fields.
struct Head {
    object: ObjectRef,
    generation: Option<i64>,
    uid: Option<Box<str>>,
}

/// Decodes one document as the API server hands it out: it has held it against the CRD of its kind.
///
/// A namespaced object without namespace is in `default`. `status`, `metadata.managedFields` and kubectl's last-applied annotation are dropped.
///
/// # Errors
/// `DecodeError` with object, field and expectation.
pub fn decode(document: Value) -> Result<Document, DecodeError> {
    decode_with(document, |_, _| Ok(()), |_, _| {})
}

/// Decodes one document that a person wrote: it is held against the CRD of its kind first. Fields that the API server would drop are dropped,
/// and added to `unknown`, each with its dotted path.
///
/// # Errors
/// As `decode`, and where the API server would refuse the object.
pub fn decode_manifest(document: Value, unknown: &mut Vec<String>) -> Result<Document, DecodeError> {
    let admit = |head: &Head, document: &Value| {
        let mut findings = crd::check(head.object.kind, document);
        unknown.append(&mut findings.unknown);
        let Some((first, others)) = findings.violations.split_first() else { return Ok(()) };
        let others: Vec<_> = others.iter().map(|other| format!("; field {}: {}", other.field, other.message)).collect();
        Err(head.error(first.field.as_str(), format!("{}{}", first.message, others.concat())))
    };
    decode_with(document, admit, crd::prune)
}

/// `admit` sees the document as it is written, `prune` as it is about to be read.
fn decode_with(
    document: Value,
    admit: impl FnOnce(&Head, &Value) -> Result<(), DecodeError>,
    prune: impl FnOnce(Kind, &mut Value),
) -> Result<Document, DecodeError> {
    let Value::Object(mut document) = document else {
        return Err(no_object("", format!("expected an object with apiVersion and kind, found {}", type_name(&document))));
    };
    let api_version = text(&document, "apiVersion")?;
    let kind_name = text(&document, "kind")?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));

    if let Some(items) = list_items(&mut document, &api_version, &kind_name)? {
        return Ok(Document::List(items));
    }
    let of_group = Kind::from_group_kind(group, &kind_name).or_else(|| option_in_another_case(group, &kind_name));
    let Some(kind) = of_group.filter(|kind| kind.is_read_in(version)) else {
        let name = document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str).unwrap_or_default();
        return Ok(Document::Other(other_kind(&api_version, &kind_name, name)));
    };
    let head = head(&mut document, kind)?;
    document.remove("status");
    let in_another_case = kind_name != kind.as_str();
    if in_another_case {
        document.insert("kind".to_owned(), kind.as_str().into());
    }
    let mut document = Value::Object(document);
    if matches!(kind, Kind::RouteOption | Kind::Upstream) || kind.is_gateway_option() {
        remove_nulls(&mut document);
    }
    if kind == Kind::RouteOption || kind.is_gateway_option() {
        rename_targets(kind, &mut document);
    }
    let admitted = if in_another_case {
        Err(head.error("kind", format!("expected {kind}, found {}", word(&kind_name))))
    } else {
        admit(&head, &document)
    };
    if kind == Kind::Gateway {
        move_frontend_validation(&mut document);
    }
    if admitted.is_ok() {
        prune(kind, &mut document);
    }
    let checked = admitted.and_then(|()| typed(&document, &head)).and_then(|object| match checks::check(&object) {
        Ok(()) => Ok(object),
        Err((field, message)) => Err(head.error(field, message)),
    });
    match checked {
        Ok(object) => Ok(Document::Object(Box::new(object))),
        Err(error) => Err(DecodeError { outline: outline(kind, &document).map(Box::new), ..error }),
    }
}

/// The kind of an option that is written in another case. It may guard something: it is no kind that is passed over, but a bad version of this one.
fn option_in_another_case(group: &str, kind: &str) -> Option<Kind> {
    let mut options = Kind::GATEWAY_OPTIONS.into_iter().chain([Kind::RouteOption]);
    options.find(|option| option.group() == group && option.as_str().eq_ignore_ascii_case(kind))
}

/// Gives `targetRefs` its name in JSON where it has that of Protobuf, which Gloo reads too: an option that guards something must find its targets.
/// Those of options for Gateways, which can do nothing but guard, are found under every spelling.
fn rename_targets(kind: Kind, document: &mut Value) {
    let Some(Value::Object(spec)) = document.get_mut("spec") else { return };
    rename(spec, "target_refs", "targetRefs");
    if kind.is_gateway_option()
        && let Some(name) = spec.keys().find(|name| is_spelled(name, "targetrefs")).cloned()
    {
        rename(spec, &name, "targetRefs");
    }
    if let Some(Value::Array(targets)) = spec.get_mut("targetRefs") {
        for target in targets.iter_mut().filter_map(Value::as_object_mut) {
            rename(target, "section_name", "sectionName");
        }
    }
}

/// Whether a name is this one but for case and punctuation.
fn is_spelled(name: &str, plain: &str) -> bool {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).eq(plain.chars())
}

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if !object.contains_key(to)
        && let Some(value) = object.remove(from)
    {
        object.insert(to.to_owned(), value);
    }
}

/// `apiVersion/kind name` of a document that is not read. Who spoils the version of a Secret may have spoiled it with a value.
fn other_kind(api_version: &str, kind: &str, name: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!(" {}", word(name)) };
    let of_secret = kind.strip_suffix("List").unwrap_or(kind).eq_ignore_ascii_case(Kind::Secret.as_str());
    if of_secret && !is_api_version(api_version) {
        return format!("{kind}{}", if is_name(name.trim_start()) { &name } else { "" });
    }
    format!("{}/{}{name}", word(api_version), word(kind))
}

/// Whether it looks like a version (`v1`, `v1beta1`), behind the name of a group or not.
fn is_api_version(text: &str) -> bool {
    let (group, version) = text.rsplit_once('/').unwrap_or(("", text));
    let is_group = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let stage = version.strip_prefix('v').map(|version| version.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    let is_version = stage.is_some_and(|stage| {
        stage.is_empty() || ["alpha", "beta"].iter().any(|name| stage.strip_prefix(name).is_some_and(|number| number.parse::<u8>().is_ok()))
    });
    text.len() <= 63 && group.bytes().all(is_group) && is_version
}

/// In the JSON of protobuf messages, which Gloo's objects are, null is absent.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `listeners[].tls.frontendValidation` (experimental until Gateway API 1.4) as what took its place, `spec.tls.frontend`: passed over, clients
/// would not be asked for certificates.
fn move_frontend_validation(gateway: &mut Value) {
    let Some(spec) = gateway.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let mut of_ports = Vec::new();
    for listener in spec.get_mut("listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        let tls = listener.get_mut("tls").and_then(Value::as_object_mut);
        if let Some(validation) = tls.and_then(|tls| tls.remove("frontendValidation")).filter(|validation| !validation.is_null()) {
            let authorities = validation.get("caCertificateRefs").filter(|list| list.is_array()).cloned();
            let validation = json!({"caCertificateRefs": authorities.unwrap_or_else(|| json!([]))});
            of_ports.push(json!({"port": listener.get("port"), "tls": {"validation": validation}}));
        }
    }
    if of_ports.is_empty() {
        return;
    }
    let Some(frontend) = object_at(spec, "tls").and_then(|tls| object_at(tls, "frontend")) else { return };
    object_at(frontend, "default");
    if let Some(Value::Array(own)) = frontend.remove("perPort") {
        of_ports.extend(own);
    }
    frontend.insert("perPort".to_owned(), Value::Array(of_ports));
}

/// The object under a key; anything else makes room for an empty one.
fn object_at<'a>(object: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    if !object.get(key).is_some_and(Value::is_object) {
        object.insert(key.to_owned(), json!({}));
    }
    object.get_mut(key)?.as_object_mut()
}

/// The items of a list, each with apiVersion and kind, which typed lists leave out.
fn list_items(document: &mut Map<String, Value>, api_version: &str, kind: &str) -> Result<Option<Vec<Value>>, DecodeError> {
    let Some(item_kind) = kind.strip_suffix("List") else { return Ok(None) };
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let untyped = item_kind.is_empty() && group.is_empty();
    if !untyped && Kind::from_group_kind(group, item_kind).is_none() {
        return Ok(None);
    }
    let mut items = match document.remove("items") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(no_object("items", format!("expected a list, found {}", type_name(&other)))),
    };
    if !untyped {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.entry("apiVersion").or_insert_with(|| api_version.into());
            item.entry("kind").or_insert_with(|| item_kind.into());
        }
    }
    Ok(Some(items))
}

/// Reads and completes `metadata`: whatever is wrong after this can be told of an object that is known.
fn head(document: &mut Map<String, Value>, kind: Kind) -> Result<Head, DecodeError> {
    let metadata = match document.get_mut("metadata") {
        Some(Value::Object(metadata)) => metadata,
        Some(other) if !other.is_null() => return Err(no_object("metadata", format!("expected an object, found {}", type_name(other)))),
        _ => return Err(no_object("metadata", format!("expected an object with the name of the {kind}"))),
    };
    metadata.remove("managedFields");
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove(LAST_APPLIED);
    }
    let name = name_of(metadata, "name", kind)?.ok_or_else(|| no_object("metadata.name", format!("expected the name of the {kind}")))?;
    let namespace = if kind.is_namespaced() {
        let namespace = name_of(metadata, "namespace", kind)?.unwrap_or_else(|| "default".to_owned());
        metadata.insert("namespace".to_owned(), namespace.clone().into());
        namespace
    } else {
        metadata.remove("namespace");
        String::new()
    };
    let generation = metadata.get("generation").and_then(Value::as_i64);
    let uid = metadata.get("uid").and_then(Value::as_str).map(Into::into);
    Ok(Head { object: ObjectRef::new(kind, namespace, name), generation, uid })
}

/// A name or namespace. Looser than the API server, but nothing in it may be taken for something else in a path, a key or a log line.
fn name_of(metadata: &Map<String, Value>, key: &str, kind: Kind) -> Result<Option<String>, DecodeError> {
    let name = match metadata.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(name)) if name.is_empty() => return Ok(None),
        Some(Value::String(name)) => name,
        Some(other) => return Err(no_object(format!("metadata.{key}"), format!("expected a string, found {}", type_name(other)))),
    };
    if !is_name(name) {
        let found = if kind == Kind::Secret { String::new() } else { format!("{} is not a name: ", quoted(name)) };
        let expected = format!("{found}expected lower-case letters, digits, '-' and '.', at most {MAX_NAME} characters");
        return Err(no_object(format!("metadata.{key}"), expected));
    }
    Ok(Some(name.clone()))
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    name.len() <= MAX_NAME && name.bytes().all(plain)
}

fn typed(document: &Value, head: &Head) -> Result<Object, DecodeError> {
    Ok(match head.object.kind {
        Kind::AffinityPolicy => Object::AffinityPolicy(Box::new(fields(document, head)?)),
        Kind::AffinitySlots => Object::AffinitySlots(fields(document, head)?),
        Kind::BackendTlsPolicy => Object::BackendTlsPolicy(fields(document, head)?),
        Kind::BackendTrafficPolicy => Object::BackendTrafficPolicy(fields(document, head)?),
        Kind::ConfigMap => Object::ConfigMap(authorities_alone(fields(document, head)?)),
        Kind::EndpointSlice => Object::EndpointSlice(fields(document, head)?),
        Kind::Gateway => Object::Gateway(fields(document, head)?),
        Kind::GatewayClass => Object::GatewayClass(fields(document, head)?),
        Kind::GatewayParameters => Object::GatewayParameters(fields(document, head)?),
        kind @ (Kind::HttpListenerOption | Kind::ListenerOption | Kind::VirtualHostOption) => {
            Object::GatewayOption(fields::<UnnamedGatewayOption>(document, head)?.of_kind(kind))
        }
        Kind::ListenerSet => Object::ListenerSet(fields(document, head)?),
        Kind::Namespace => Object::Namespace(fields(document, head)?),
        Kind::ReferenceGrant => Object::ReferenceGrant(fields(document, head)?),
        Kind::GrpcRoute => Object::Route(fields::<GrpcRouteBody>(document, head)?.into_route()),
        kind @ (Kind::HttpRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute) => {
            Object::Route(fields::<RouteBody>(document, head)?.of_kind(kind))
        }
        Kind::RouteOption => Object::RouteOption(fields(document, head)?),
        Kind::Secret => Object::Secret(secret::with_string_data(fields(document, head)?)),
        Kind::Service => Object::Service(fields(document, head)?),
        Kind::Upstream => Object::Upstream(fields(document, head)?),
    })
}

/// A ConfigMap with what is read of it: it may hold a lot, and be for somebody else.
fn authorities_alone(mut map: ConfigMap) -> ConfigMap {
    let is_read = |key: &String| key == AUTHORITIES;
    map.data.iter_mut().for_each(|data| data.retain(|key, _| is_read(key)));
    map.binary_data.iter_mut().for_each(|data| data.retain(|key, _| is_read(key)));
    map
}

fn fields<T: DeserializeOwned>(document: &Value, head: &Head) -> Result<T, DecodeError> {
    serde_path_to_error::deserialize(document).map_err(|error| {
        if head.object.kind == Kind::Secret {
            // serde's words quote the value.
            let (field, expected) = secret::expectation(error.path());
            return head.error(field, expected);
        }
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        let path = if path == "." { "" } else { path.as_str() };
        match missing_field(&message) {
            Some(field) if path.is_empty() => head.error(field, "is missing and has no default"),
            Some(field) => head.error(format!("{path}.{field}"), "is missing and has no default"),
            None => head.error(path, without_type_names(&message)),
        }
    })
}

/// What serde expected, in words of JSON instead of the names of our types. What it found is foreign text, and cut.
fn without_type_names(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once("expected ") else { return beginning(message).to_owned() };
    let expected = match expected {
        "f32" | "f64" => "a number",
        "i32" | "i64" | "u16" | "u32" | "u64" => "a whole number within the field's range",
        "a sequence" => "a list",
        "a map" => "an object",
        name if name.starts_with("struct ") => "an object",
        other => other,
    };
    let shown = beginning(found);
    let cut = if shown.len() < found.len() { "...: " } else { "" };
    format!("{shown}{cut}expected {expected}")
}

/// The field named in serde's error about an absent field.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

fn text(document: &Map<String, Value>, key: &str) -> Result<String, DecodeError> {
    match document.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(other) if !other.is_null() && !other.is_string() => {
            Err(no_object(key, format!("expected a string, found {}", type_name(other))))
        }
        _ => Err(no_object(key, "expected a Kubernetes object: it has an apiVersion and a kind")),
    }
}

fn no_object(field: impl Into<Message>, message: impl Into<Message>) -> DecodeError {
    DecodeError { object: None, generation: None, uid: None, field: field.into(), message: message.into(), outline: None }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Head {
    fn error(&self, field: impl Into<Message>, message: impl Into<Message>) -> DecodeError {
        DecodeError {
            object: Some(self.object.clone()),
            generation: self.generation,
            uid: self.uid.clone(),
            field: field.into(),
            message: message.into(),
            outline: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(document: Value) -> Object {
        match decode(document).expect("decodes") {
            Document::Object(object) => *object,
            other => panic!("not an object: {other:?}"),
        }
    }

    #[test]
    fn the_targets_of_an_option_are_found_under_protobufs_names_too() {
        let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g", "section_name": "s"});
        for kind in Kind::GATEWAY_OPTIONS.into_iter().chain([Kind::RouteOption]) {
            let document = |spec: Value| json!({"apiVersion": format!("{}/v1", kind.group()), "kind": kind.as_str(), "metadata": {"name": "a"}, "spec": spec});
            let targets = |spec: Value| match object(document(spec)) {
                Object::GatewayOption(option) => option.spec.target_refs,
                Object::RouteOption(option) => option.spec.target_refs,
                other => panic!("no option: {other:?}"),
            };
            let found = targets(json!({"target_refs": [target]})).expect("targets");
            assert_eq!((found[0].name.as_str(), found[0].section_name.as_deref()), ("g", Some("s")), "{kind}");
            let both = targets(json!({"target_refs": [target], "targetRefs": []}));
            assert_eq!(both.map(|targets| targets.len()), Some(0), "{kind}: the name in JSON comes first");
            for odd in ["TargetRefs", "targetrefs", "target-refs"] {
                let found = targets(json!({odd: [target]})).map(|targets| targets.len());
                assert_eq!(found, kind.is_gateway_option().then_some(1), "{kind} {odd}: options for Gateways do nothing but guard");
            }
        }
    }

    #[test]
    fn an_option_whose_kind_is_in_another_case_is_a_bad_version_of_it() {
        let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"});
        for kind in Kind::GATEWAY_OPTIONS.into_iter().chain([Kind::RouteOption]) {
            let written = kind.as_str().to_ascii_lowercase();
            let document = json!({"apiVersion": format!("{}/v1", kind.group()), "kind": written, "metadata": {"name": "a", "namespace": "n"},
                "spec": {"targetRefs": [target], "options": {"extauth": {}}}});
            let error = decode(document).unwrap_err();
            assert_eq!(error.object, Some(ObjectRef::new(kind, "n", "a")));
            assert_eq!((error.field.as_str(), error.message.as_str()), ("kind", format!("expected {kind}, found {written}").as_str()));
            assert!(error.outline.is_some(), "{kind}: its targets are known");
        }
    }

    #[test]
    fn every_kind_decodes_in_every_version() {
        let spec = |kind: &str| match kind {
            "BackendTLSPolicy" => json!({"targetRefs": [], "validation": {"hostname": "a.example"}}),
            "Gateway" => json!({"gatewayClassName": "c", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}),
            "GatewayClass" => json!({"controllerName": "a.b/c"}),
            "ListenerSet" => json!({"parentRef": {"name": "g"}, "listeners": []}),
            "ReferenceGrant" => json!({"from": [], "to": []}),
            _ => json!({}),
        };
        for kind in Kind::ALL.iter().copied() {
            for version in ["v1", "v1beta1", "v1alpha1", "v1alpha2", "v1alpha3", "v2"] {
                let api_version = if kind.group().is_empty() { version.to_owned() } else { format!("{}/{version}", kind.group()) };
                let document = json!({
                    "apiVersion": api_version, "kind": kind.as_str(), "metadata": {"name": "a", "generation": 3},
                    "spec": spec(kind.as_str()), "addressType": "IPv4", "endpoints": [],
                });
                match decode(document).unwrap() {
                    Document::Object(object) => {
                        assert!(kind.is_read_in(version));
                        let namespace = if kind.is_namespaced() { "default" } else { "" };
                        assert_eq!(object.object_ref(), ObjectRef::new(kind, namespace, "a"));
                        assert_eq!(object.generation(), Some(3));
                    }
                    Document::Other(text) => {
                        assert!(!kind.is_read_in(version));
                        assert_eq!(text, format!("{api_version}/{} a", kind.as_str()));
                    }
                    Document::List(_) => panic!("not a list"),
                }
            }
        }
    }

    #[test]
    fn what_costs_memory_only_is_dropped() {
        let decoded = object(json!({
            "apiVersion": "gloo.solo.io/v1", "kind": "Upstream",
            "metadata": {"name": "a", "namespace": "n", "managedFields": [{"manager": "x"}], "annotations": {LAST_APPLIED: "{}", "keep": "1"}},
            "spec": {}, "status": {"statuses": {"x": {"state": 1}}},
        }));
        assert_eq!(decoded.metadata().managed_fields, None);
        assert_eq!(decoded.annotations().unwrap().len(), 1);
        let Object::Upstream(upstream) = decoded else { panic!("an Upstream") };
        assert_eq!(upstream.status, None);
    }

    #[test]
    fn string_data_wins_over_data() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "MQ==", "b": "Mg=="}, "stringData": {"b": "3"}});
        let Object::Secret(secret) = object(secret) else { panic!("a Secret") };
        let data: Vec<_> = secret.data.unwrap().into_iter().map(|(key, value)| (key, value.0)).collect();
        assert_eq!(data, [("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"3".to_vec())]);
        assert_eq!(secret.string_data, None);
    }

    #[test]
    fn lists_expand() {
        let untyped = json!({"apiVersion": "v1", "kind": "List", "items": [{"a": 1}, {"b": 2}]});
        assert!(matches!(decode(untyped).unwrap(), Document::List(items) if items.len() == 2));
        let typed = json!({"apiVersion": "gloo.solo.io/v1", "kind": "UpstreamList", "items": [{"metadata": {"name": "a"}, "spec": {}}]});
        let Document::List(mut items) = decode(typed).unwrap() else { panic!("a list") };
        assert_eq!(object(items.remove(0)).kind(), Kind::Upstream);
        let foreign = json!({"apiVersion": "example.com/v1", "kind": "ThingList", "items": []});
        assert!(matches!(decode(foreign).unwrap(), Document::Other(_)));
        let wrong = json!({"apiVersion": "v1", "kind": "List", "items": 5});
        assert_eq!(decode(wrong).unwrap_err().field, "items");
    }

    #[test]
    fn errors_name_object_field_and_expectation() {
        let upstream = |spec: Value| json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": "u", "namespace": "n", "generation": 7}, "spec": spec});
        let route_option = |options: Value| json!({"apiVersion": "gateway.solo.io/v1", "kind": "RouteOption", "metadata": {"name": "r"}, "spec": {"options": options}});
        let gateway = |listeners: Value| json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"}, "spec": {"gatewayClassName": "c", "listeners": listeners}});
        let cases = [
            (json!(5), None, "", "expected an object with apiVersion and kind, found a number"),
            (json!({"kind": "Upstream"}), None, "apiVersion", "apiVersion and a kind"),
            (json!({"apiVersion": "v1", "kind": "Service"}), None, "metadata", "name of the Service"),
            (
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"generateName": "x"}}),
                None,
                "metadata.name",
                "name of the Service",
            ),
            (json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a/b"}}), None, "metadata.name", "is not a name"),
            (
                json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": "u"}}),
                Some("Upstream default/u"),
                "spec",
                "missing",
            ),
            (upstream(json!({"loadBalancerConfig": {"ringHash": 5}})), Some("Upstream n/u"), "spec.loadBalancerConfig.ringHash", "5"),
            (
                upstream(json!({"static": {"hosts": [{"addr": "a"}, {"addr": 1}]}})),
                Some("Upstream n/u"),
                "spec.static.hosts[1].addr",
                "string",
            ),
            (
                route_option(json!({"lbHash": {"hashPolicies": [{"cookie": {"name": "c", "ttl": 60}}]}})),
                Some("RouteOption default/r"),
                "spec.options.lbHash.hashPolicies[0].cookie.ttl",
                "a duration such as 60s",
            ),
            (route_option(json!({"timeout": "60"})), Some("RouteOption default/r"), "spec.options.timeout", "unit"),
            (gateway(json!([{"name": "a", "protocol": "HTTP"}])), Some("Gateway default/g"), "spec.listeners[0].port", "missing"),
            (
                gateway(json!([{"name": "a", "port": 70000, "protocol": "HTTP"}])),
                Some("Gateway default/g"),
                "spec.listeners[0].port",
                "65535",
            ),
        ];
        for (document, object, field, message) in cases {
            let error = decode(document.clone()).expect_err(&document.to_string());
            assert_eq!(error.object.as_ref().map(ToString::to_string).as_deref(), object, "{document}");
            assert_eq!(error.field, field, "{document}: {error}");
            assert!(error.message.contains(message), "{document}: {error}");
        }
        assert_eq!(decode(upstream(json!({"static": 5}))).unwrap_err().generation, Some(7));
    }
}
