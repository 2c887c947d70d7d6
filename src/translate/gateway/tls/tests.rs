//! Histories: what a translation owes to the one before it.

use serde_json::{Value, json};

use super::*;
use crate::{
    api::{self, Document},
    base::ObjectRef,
    snapshot::{BindProtocol, Observed, TlsTermination},
    translate::{Change, Options, Status, Translation, translate},
};

const A: (&str, &str) = (include_str!("../../../../tests/certificates/a.crt"), include_str!("../../../../tests/certificates/a.key"));
const NEXT: (&str, &str) =
    (include_str!("../../../../tests/certificates/a-next.crt"), include_str!("../../../../tests/certificates/a-next.key"));

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
            BindProtocol::Http | BindProtocol::Tcp | BindProtocol::Udp => None,
            BindProtocol::Https(tls) | BindProtocol::Tls(tls) => Some(tls),
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
    history.translation().wanted.iter().map(|object| object.name.to_string()).collect()
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

const EXPIRED: (&str, &str) =
    (include_str!("../../../../tests/certificates/expired.crt"), include_str!("../../../../tests/certificates/expired.key"));

impl History {
    /// The notices about certificates at this time of day.
    fn at(&mut self, hour: Option<i64>) -> Vec<String> {
        let observed = Observed { hour, ..Observed::default() };
        self.last = Some(translate(&self.resources, &observed, &Options::validate(), self.last.take()));
        self.resources.clear_changes();
        let notices = self.translation().notices.iter().filter(|notice| notice.contains("the certificate of Secret"));
        notices.map(ToString::to_string).collect()
    }
}

#[test]
fn the_time_alone_makes_a_notice_of_a_certificate_that_expires() {
    // 2120-01-01 and 2020-01-01.
    let (until, from) = (4_733_510_400 / 3600, 1_577_836_800 / 3600);
    let mut history = History::start();
    history.apply(grant());
    history.apply(secret("tls", A));
    for (hour, words) in [
        (None, None),
        (Some(from - 2), Some("is not valid before 2020-01-01T00:00:00Z")),
        (Some(from - 1), None),
        (Some(until - 14 * 24 - 1), None),
        (Some(until - 14 * 24), Some("expires at 2120-01-01T00:00:00Z")),
        (Some(until - 1), Some("expires at 2120-01-01T00:00:00Z")),
        (Some(until), Some("expired at 2120-01-01T00:00:00Z")),
        (Some(until + 10_000), Some("expired at 2120-01-01T00:00:00Z")),
        (Some(until - 1_000), None),
    ] {
        let served = Arc::clone(&history.translation().snapshot);
        let notices = history.at(hour);
        assert_eq!(notices.len(), usize::from(words.is_some()), "{hour:?}: {notices:?}");
        if let Some(words) = words {
            assert!(
                notices[0].starts_with("Gateway infra/gw: listener https: the certificate of Secret secrets/tls (sha256 "),
                "{notices:?}"
            );
            assert!(notices[0].contains(words), "{notices:?}");
        }
        assert!(Arc::ptr_eq(&served, &history.translation().snapshot), "it goes on serving");
    }
    assert_eq!(history.at(Some(until)).len(), 1);
    history.at(Some(until));
    assert!(history.translation().notices.fresh().is_empty(), "it is said once");
    history.apply(secret("tls", EXPIRED));
    assert!(history.at(Some(until - 10_000))[0].contains("expired at 2021-01-01T00:00:00Z"));
    history.delete(Kind::Gateway, "infra", "gw");
    assert_eq!(history.at(Some(until)), [] as [&str; 0]);
}

#[test]
fn a_listener_keeps_its_tickets_when_another_ones_certificate_changes() {
    let mut history = History::start();
    history.apply(grant());
    history.apply(secret("tls", A));
    history.apply(secret("other", A));
    let mut two = gateway(json!([{"name": "tls", "namespace": "secrets"}]));
    two["spec"]["listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "other", "port": 443, "protocol": "HTTPS", "hostname": "b.example",
        "tls": {"certificateRefs": [{"name": "other", "namespace": "secrets"}]}}));
    history.apply(two);
    let listeners =
        |history: &History| -> Vec<_> { history.termination().unwrap().listeners().map(|(_, listener)| Arc::clone(listener)).collect() };
    let before = listeners(&history);
    history.apply(secret("other", NEXT));
    let after = listeners(&history);
    let kept: Vec<_> = before.iter().zip(&after).map(|(before, after)| (&*after.name, Arc::ptr_eq(before, after))).collect();
    assert_eq!(kept, [("other", false), ("https", true)]);
}
