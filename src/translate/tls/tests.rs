//! Histories: what a translation owes to the one before it.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{self, Document},
    base::ObjectRef,
    snapshot::{BindProtocol, Observed, TlsTermination},
    translate::{Change, Options, Status, Translation, translate},
};

const A: (&str, &str) = (include_str!("../../../tests/certificates/a.crt"), include_str!("../../../tests/certificates/a.key"));
const NEXT: (&str, &str) = (include_str!("../../../tests/certificates/a-next.crt"), include_str!("../../../tests/certificates/a-next.key"));

/// A history under way.
#[derive(Default)]
struct History {
    resources: Resources,
    last: Option<Translation>,
}

impl History {
    fn start() -> Self {
        let mut history = Self::default();
        history.apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "c"},
            "spec": {"controllerName": "clingfish.dev/gateway-controller"}}));
        history.apply(gateway(json!([{"name": "tls", "namespace": "secrets"}])));
        history
    }

    fn apply(&mut self, object: Value) {
        let Document::Object(object) = api::decode(object).unwrap() else { panic!("no object") };
        self.step(Change::Apply(object));
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        self.step(Change::Delete(ObjectRef::new(kind, namespace, name)));
    }

    fn step(&mut self, change: Change) {
        self.resources.apply(change);
        self.last = Some(translate(&self.resources, &Observed::default(), &Options::validate(), self.last.take()));
        self.resources.clear_changes();
    }

    fn translation(&self) -> &Translation {
        self.last.as_ref().unwrap()
    }

    fn termination(&self) -> Option<&Arc<TlsTermination>> {
        self.translation().snapshot.binds.values().find_map(|bind| match &bind.protocol {
            BindProtocol::Http => None,
            BindProtocol::Https(tls) => Some(tls),
        })
    }

    /// Fingerprints that serve.
    fn serving(&self) -> Vec<String> {
        let listeners = self.termination().into_iter().flat_map(|tls| tls.listeners());
        listeners.flat_map(|(_, listener)| listener.certificates.iter().map(|certificate| certificate.fingerprint.to_string())).collect()
    }

    /// Status, reason and message of a condition of the listener.
    fn condition(&self, wanted: &str) -> (&str, &str, &str) {
        let status = &self.translation().statuses[&ObjectRef::new(Kind::Gateway, "infra", "gw")];
        let Status::Gateway(status) = &**status else { panic!("no Gateway") };
        let condition = status.listeners[0].conditions.iter().find(|condition| condition.condition_type == wanted).unwrap();
        (condition.status, condition.reason, &condition.message)
    }
}

fn gateway(refs: Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "gw", "namespace": "infra"},
        "spec": {"gatewayClassName": "c", "listeners": [{"name": "https", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": refs}}]}})
}

fn secret(name: &str, (chain, key): (&str, &str)) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "secrets"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": chain, "tls.key": key}})
}

fn grant() -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": {"name": "g", "namespace": "secrets"},
        "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}], "to": [{"group": "", "kind": "Secret"}]}})
}

fn wanted(history: &History) -> Vec<String> {
    history.translation().wanted_secrets.iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_is_wanted_as_long_as_it_may_be_used() {
    let mut history = History::start();
    assert!(wanted(&history).is_empty(), "no permission");
    assert_eq!(history.condition("ResolvedRefs").1, reason::REF_NOT_PERMITTED);
    history.apply(grant());
    assert_eq!(wanted(&history), ["secrets/tls"]);
    assert_eq!(history.condition("ResolvedRefs").1, reason::INVALID_CERTIFICATE_REF);
    history.apply(secret("tls", A));
    assert_eq!((history.condition("ResolvedRefs").0, history.condition("Programmed").0), ("True", "True"));
    history.delete(Kind::Gateway, "infra", "gw");
    assert!(wanted(&history).is_empty() && history.termination().is_none());
}

#[test]
fn a_secret_that_turns_bad_leaves_the_last_good_certificate_serving() {
    let mut history = History::start();
    history.apply(grant());
    history.apply(secret("tls", A));
    let good = history.serving();
    let termination = Arc::clone(history.termination().unwrap());
    for bad in [Some(secret("tls", (A.0, NEXT.1))), Some(secret("tls", ("", ""))), None] {
        match bad {
            Some(bad) => history.apply(bad),
            None => history.delete(Kind::Secret, "secrets", "tls"),
        }
        assert_eq!(history.serving(), good);
        assert!(Arc::ptr_eq(history.termination().unwrap(), &termination), "session tickets stay good");
        let (status, reason, message) = history.condition("ResolvedRefs");
        assert_eq!((status, reason), ("False", reason::INVALID_CERTIFICATE_REF));
        assert!(message.contains(&good[0]) && message.contains("keeps serving"), "{message}");
        assert_eq!(history.condition("Programmed").0, "True");
    }
    history.apply(secret("tls", NEXT));
    assert_ne!(history.serving(), good);
    assert_eq!(history.condition("ResolvedRefs").0, "True");
}

#[test]
fn without_permission_not_even_the_last_good_certificate_serves() {
    let mut history = History::start();
    history.apply(grant());
    history.apply(secret("tls", A));
    assert_eq!(history.serving().len(), 1);
    history.delete(Kind::ReferenceGrant, "secrets", "g");
    assert!(history.translation().snapshot.binds.is_empty());
    assert_eq!((history.condition("ResolvedRefs").1, history.condition("Programmed").0), (reason::REF_NOT_PERMITTED, "False"));
    assert!(wanted(&history).is_empty());
    // The Secret turned bad meanwhile: what served before the permission was withdrawn is not remembered.
    history.apply(secret("tls", (A.0, NEXT.1)));
    history.apply(grant());
    assert_eq!(history.condition("Programmed").0, "False");
}

#[test]
fn tls_is_set_up_anew_only_when_its_certificates_change() {
    let mut history = History::start();
    history.apply(grant());
    history.apply(secret("tls", A));
    let before = Arc::clone(history.termination().unwrap());
    history
        .apply(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "r", "namespace": "infra"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [{}]}}));
    history.apply(secret("tls", A));
    history.apply(secret("other", NEXT));
    assert!(Arc::ptr_eq(history.termination().unwrap(), &before));
    // Another listener of the Gateway, on another port.
    let mut wider = gateway(json!([{"name": "tls", "namespace": "secrets"}]));
    wider["spec"]["listeners"].as_array_mut().unwrap().push(json!({"name": "http", "port": 80, "protocol": "HTTP"}));
    history.apply(wider);
    assert!(Arc::ptr_eq(history.termination().unwrap(), &before));
    history.apply(secret("tls", NEXT));
    assert!(!Arc::ptr_eq(history.termination().unwrap(), &before));
}

#[test]
fn a_secret_that_no_listener_uses_changes_nothing() {
    let mut history = History::start();
    history.apply(grant());
    history.apply(secret("tls", A));
    let before = Arc::clone(&history.translation().snapshot);
    history.apply(secret("other", NEXT));
    assert!(Arc::ptr_eq(&history.translation().snapshot, &before));
    assert!(history.translation().changed_statuses.is_empty());
}
