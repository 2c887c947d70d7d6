//! The twin of each Gateway: the same listeners under another name, of Clingfish's class.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::base::{ObjectName, text::word};

use super::{
    document::{GATEWAY_API, Subject, items, text, written},
    installation::Installation,
    names::MigrationOptions,
    output::{Output, Step},
    report::Effect,
};

/// Gloo's option of a listener's TLS that says whether clients may do without a certificate.
const ONE_WAY: &str = "gateway.gloo.solo.io/ssl/one-way-tls";

/// Gloo's option that asks for clients' certificates by itself.
const SUBJECT_ALT_NAME: &str = "gateway.gloo.solo.io/ssl/verify-subject-alt-name";

/// Most bytes of a name.
const MAX_NAME: usize = 253;

/// Gateways that have a twin, with what routes need to know of them.
pub(super) type Twins = BTreeMap<ObjectName, Twin>;

/// The twin of a Gateway, in the same namespace.
#[derive(Debug)]
pub(super) struct Twin {
    pub(super) name: String,
    pub(super) listeners: Vec<TwinListener>,
}

/// A listener of a twin.
#[derive(Debug)]
pub(super) struct TwinListener {
    pub(super) name: String,
    pub(super) port: i64,
    pub(super) is_https: bool,
    hostname: String,
}

/// Makes the twins.
pub(super) fn twins(installation: &Installation, options: &MigrationOptions, output: &mut Output) -> Twins {
    let mut twins = Twins::new();
    let mut granted = BTreeSet::new();
    for (subject, gateway) in installation.gloo_gateways() {
        let name = format!("{}{}", subject.name, options.suffix);
        if name.len() > MAX_NAME {
            let why =
                format!("the name of its twin would have {} bytes, and {MAX_NAME} are the most; choose a shorter --suffix", name.len());
            output.note(Effect::Refused, subject.to_string(), why);
            continue;
        }
        let taken = installation.get(GATEWAY_API, "Gateway", &ObjectName::new(subject.namespace.as_str(), name.as_str()));
        if taken.is_some_and(|taken| *text(taken, "/spec/gatewayClassName") != *options.class) {
            let why = format!("the name of its twin, {}, is that of another Gateway; choose another --suffix", word(&name));
            output.note(Effect::Refused, subject.to_string(), why);
            continue;
        }
        let twin = twin(subject, gateway, &name, options, output);
        grants(installation, subject, gateway, &mut granted, output);
        output.file(Step::New, twin);
        let twin = Twin { name, listeners: listeners(gateway) };
        tell(subject, &twin, output);
        twins.insert(subject.object_name(), twin);
    }
    twins
}

fn twin(subject: &Subject, gateway: &Value, name: &str, options: &MigrationOptions, output: &mut Output) -> Value {
    let mut spec = gateway.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("gatewayClassName".to_owned(), json!(options.class));
        if spec.remove("addresses").is_some_and(|addresses| addresses.as_array().is_some_and(|list| !list.is_empty())) {
            let what = "spec.addresses is not taken over: the addresses are in use. The twin gets one of its own; ask for these when the old Gateway is gone";
            output.note(Effect::ToDo, subject.to_string(), what);
        }
        if let Some(infrastructure) = spec.get_mut("infrastructure").and_then(Value::as_object_mut) {
            if let Some(parameters) = infrastructure.remove("parametersRef") {
                output.note(
                    Effect::Lost,
                    subject.to_string(),
                    parameters_lost("spec.infrastructure.parametersRef", &parameters, &subject.namespace),
                );
            }
            if infrastructure.is_empty() {
                spec.remove("infrastructure");
            }
        }
    }
    for listener in spec.get_mut("listeners").and_then(Value::as_array_mut).into_iter().flatten() {
        keep_client_certificates(listener);
    }
    metadata_left_out(subject, gateway, output);
    json!({
        "apiVersion": gateway.get("apiVersion"),
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": subject.namespace},
        "spec": spec,
    })
}

/// For Gloo's class `ca.crt` in the Secret of a listener asks for clients' certificates; for another class only with an option that says so.
fn keep_client_certificates(listener: &mut Value) {
    let Some(tls) = listener.get_mut("tls").and_then(Value::as_object_mut) else { return };
    let terminates = tls.get("mode").is_none_or(|mode| mode == "Terminate");
    let options = tls.entry("options").or_insert_with(|| json!({}));
    if let Some(options) = options.as_object_mut().filter(|_| terminates)
        && !options.contains_key(ONE_WAY)
        && !options.contains_key(SUBJECT_ALT_NAME)
    {
        options.insert(ONE_WAY.to_owned(), json!("false"));
    }
    if tls.get("options").is_some_and(|options| options.as_object().is_none_or(serde_json::Map::is_empty)) {
        tls.remove("options");
    }
}

/// Other tools act on labels and annotations: what they make for the old Gateway they would make a second time.
fn metadata_left_out(subject: &Subject, gateway: &Value, output: &mut Output) {
    for map in ["annotations", "labels"] {
        let names = written(gateway, map);
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(|name| word(name).to_string()).collect();
            let what = format!("metadata.{map} are not taken over: {}. Move what is needed when the old Gateway goes", names.join(", "));
            output.note(Effect::ToDo, subject.to_string(), what);
        }
    }
}

/// What takes the place of GatewayParameters.
pub(super) fn parameters_lost(field: &str, parameters: &Value, namespace: &str) -> String {
    let namespace = parameters.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
    let name = ObjectName::new(namespace, text(parameters, "/name"));
    format!("{field} is not taken over: what {} {name} says is for the chart's values to say", word(text(parameters, "/kind")))
}

/// Lets Gateways use the Secrets of other namespaces, where no exported ReferenceGrant does.
fn grants(installation: &Installation, subject: &Subject, gateway: &Value, granted: &mut BTreeSet<(String, String)>, output: &mut Output) {
    for (_, listener) in items(gateway, "/spec/listeners") {
        for (_, reference) in items(listener, "/tls/certificateRefs") {
            let namespace = text(reference, "/namespace");
            let secret = ObjectName::new(namespace, text(reference, "/name"));
            if namespace.is_empty() || namespace == subject.namespace || installation.grants_secret(&subject.namespace, &secret) {
                continue;
            }
            // No namespace has a dot in its name: two pairs never have one name.
            let name = format!("clingfish-{}.{}", subject.namespace, secret.name);
            let listener = word(text(listener, "/name"));
            if name.len() > MAX_NAME {
                let what = format!("listener {listener}: Secret {secret} is of another namespace; write the ReferenceGrant that it needs");
                output.note(Effect::ToDo, subject.to_string(), what);
                continue;
            }
            let what = format!("listener {listener}: Secret {secret} is of another namespace; the ReferenceGrant that it needs is written");
            output.note(Effect::ToDo, subject.to_string(), what);
            if granted.insert((subject.namespace.clone(), secret.to_string())) {
                output.file(
                    Step::New,
                    json!({
                        "apiVersion": "gateway.networking.k8s.io/v1beta1",
                        "kind": "ReferenceGrant",
                        "metadata": {"name": name, "namespace": namespace},
                        "spec": {
                            "from": [{"group": GATEWAY_API, "kind": "Gateway", "namespace": subject.namespace}],
                            "to": [{"group": "", "kind": "Secret", "name": secret.name}],
                        },
                    }),
                );
            }
        }
    }
}

fn listeners(gateway: &Value) -> Vec<TwinListener> {
    let listener = |(_, listener): (usize, &Value)| TwinListener {
        name: text(listener, "/name").to_owned(),
        port: listener.get("port").and_then(Value::as_i64).unwrap_or_default(),
        is_https: text(listener, "/protocol") == "HTTPS",
        hostname: text(listener, "/hostname").to_owned(),
    };
    items(gateway, "/spec/listeners").map(listener).collect()
}

fn tell(subject: &Subject, twin: &Twin, output: &mut Output) {
    output.note(
        Effect::ToDo,
        subject.to_string(),
        format!("its twin is Gateway {}: move the traffic to the twin's address", word(&twin.name)),
    );
    let https = || twin.listeners.iter().filter(|listener| listener.is_https);
    let shares = |one: &TwinListener| https().any(|other| other.port == one.port && other.hostname != one.hostname);
    if https().any(shares) {
        let what = "HTTPS listeners share a port: a request on a connection that was opened for another listener's hostname is answered 421 (Gloo: 404)";
        output.note(Effect::Differs, subject.to_string(), what);
    }
}
