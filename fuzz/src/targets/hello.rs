//! Bytes to a port with TLS: a handshake comes of them or an alert, and nothing reaches the upstream.

use std::sync::Arc;

use clingfish::{
    api::{self, Document},
    base::Published,
    proxy::{self, ProxyConfig, Running},
    snapshot::{Bind, BindAddress, Observed, Snapshot},
    telemetry::Metrics,
    translate::{Change, Options, Resources, translate},
};
use serde_json::{Value, json};

use super::{
    recorder::Recorder,
    scene::Client,
    support::{any_port, eventually},
};

struct Scene {
    recorder: Recorder,
    running: Running,
}

thread_local! {
    static SCENE: Scene = Scene::start();
}

/// Sends the bytes, then closes the client's direction.
pub fn run(data: &[u8]) {
    SCENE.with(|scene| {
        let address = scene.running.bound().borrow().local(BindAddress::tcp(any_port())).expect("bound");
        let mut client = Client::send(address, data);
        client.finish();
        let mut received = Vec::new();
        client.until_closed(&mut received);
        // The types of TLS records (RFC 8446 section 5.1).
        assert!(matches!(received.first(), None | Some(20..=23)), "an answer without TLS: {received:?}");
        let seen = scene.recorder.take();
        assert!(seen.messages.is_empty() && seen.malformed.is_empty(), "without a handshake the upstream got {seen:?}");
    });
}

impl Scene {
    fn start() -> Self {
        let recorder = Recorder::start();
        let published = Arc::new(Published::new(Arc::new(snapshot(&recorder))));
        let config = ProxyConfig::default();
        let metrics = Metrics::new(config.workers);
        let running = proxy::start(config, &published, &metrics, None).expect("started");
        let bound = running.bound();
        eventually("the port", || bound.borrow().generation() >= 1);
        Self { recorder, running }
    }
}

/// Two listeners with certificates, one for a wildcard, on a port of the system's choice.
fn snapshot(recorder: &Recorder) -> Snapshot {
    let metadata = |name: &str| json!({"namespace": "a", "name": name});
    let secret = |name: &str, certificate: &str, key: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata(name), "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": certificate, "tls.key": key}})
    };
    let listener = |name: &str, hostname: &str| json!({"name": name, "port": 443, "protocol": "HTTPS", "hostname": hostname, "tls": {"certificateRefs": [{"name": name}]}});
    let address = recorder.address;
    let documents = [
        secret("a", include_str!("../../../tests/certificates/a.crt"), include_str!("../../../tests/certificates/a.key")),
        secret("wild", include_str!("../../../tests/certificates/wild.crt"), include_str!("../../../tests/certificates/wild.key")),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata("gw"),
            "spec": {"gatewayClassName": "clingfish", "listeners": [listener("a", "a.example"), listener("wild", "*.example")]}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata("route"),
            "spec": {"parentRefs": [{"name": "gw"}], "rules": [{"backendRefs": [{"name": "up", "kind": "Upstream", "group": "gloo.solo.io"}]}]}}),
        json!({"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": metadata("up"),
            "spec": {"static": {"hosts": [{"addr": address.ip().to_string(), "port": address.port()}]}}}),
    ];
    let translated = translate(&resources(documents), &Observed::default(), &Options::default(), None);
    let bind = translated.snapshot.binds.values().next().expect("a port with TLS");
    let bind = Bind { address: any_port(), ..(**bind).clone() };
    Snapshot { binds: [(bind.bound_to(), Arc::new(bind))].into(), clusters: Arc::clone(&translated.snapshot.clusters) }
}

fn resources(documents: impl IntoIterator<Item = Value>) -> Resources {
    let mut resources = Resources::default();
    for document in documents {
        match api::decode(document) {
            Ok(Document::Object(object)) => resources.apply(Change::Apply(object)),
            other => panic!("{other:?}"),
        }
    }
    resources
}
