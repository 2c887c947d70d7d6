//! What the hosts behind a port of a Service speak: its `appProtocol` (GEP-1911, KEP-3726), and Gloo's annotation.

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::snapshot::UpstreamProtocol;

/// Gloo's annotation, which comes before everything else (`serviceconverter/use_http2_annotation_converter.go`).
const HTTP2_ANNOTATION: &str = "gloo.solo.io/h2_service";

/// HTTP/2 without TLS: the name of Kubernetes, and those that Gloo, Envoy Gateway and Istio read.
const HTTP2: [&str; 5] = ["kubernetes.io/h2c", "h2c", "http2", "grpc", "grpc-web"];

/// What needs TLS to the hosts: plain text would be unsafe.
const TLS: [&str; 5] = ["kubernetes.io/wss", "grpcs", "https", "wss", "tls"];

/// What the hosts behind a port are spoken to in. A name that is not known says nothing against HTTP/1.1, which most hosts speak. Names that are
/// refused are never asked for.
pub(in crate::translate) fn protocol(service: &Service, port: &ServicePort) -> UpstreamProtocol {
    let annotation = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(HTTP2_ANNOTATION));
    match annotation.map(String::as_str) {
        Some("true") => return UpstreamProtocol::H2c,
        Some("false") => return UpstreamProtocol::Http1,
        Some(_) | None => {}
    }
    let name = port.app_protocol.as_deref().unwrap_or_default().to_ascii_lowercase();
    if HTTP2.contains(&&*name) { UpstreamProtocol::H2c } else { UpstreamProtocol::Http1 }
}

/// Why a route cannot send to a port, if it is for its `appProtocol`; in words that follow the name.
pub(in crate::translate) fn refusal(port: &ServicePort) -> Option<&'static str> {
    let name = port.app_protocol.as_deref()?.to_ascii_lowercase();
    TLS.contains(&&*name).then_some("asks for TLS; expected a BackendTLSPolicy for the Service, or a protocol without TLS")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(name: Option<&str>) -> ServicePort {
        serde_json::from_value(json!({"port": 80, "appProtocol": name})).unwrap()
    }

    #[test]
    fn names_of_protocols() {
        use UpstreamProtocol::{H2c, Http1};
        // The protocol, and whether a route may send there.
        let table = [
            (None, Http1, true),
            (Some("http"), Http1, true),
            (Some("HTTP"), Http1, true),
            (Some("kubernetes.io/ws"), Http1, true),
            (Some("kubernetes.io/h2c"), H2c, true),
            (Some("Kubernetes.io/H2C"), H2c, true),
            (Some("http2"), H2c, true),
            (Some("grpc"), H2c, true),
            (Some("grpc-web"), H2c, true),
            (Some("example.com/own"), Http1, true),
            (Some("tcp"), Http1, true),
            (Some("mysql"), Http1, true),
            (Some("https"), Http1, false),
            (Some("kubernetes.io/wss"), Http1, false),
        ];
        for (name, expected, may_send) in table {
            let port = port(name);
            assert_eq!(protocol(&Service::default(), &port), expected, "{name:?}");
            assert_eq!(refusal(&port).is_none(), may_send, "{name:?}");
        }
    }

    #[test]
    fn gloos_annotation_comes_first() {
        let service =
            |value: &str| -> Service { serde_json::from_value(json!({"metadata": {"annotations": {HTTP2_ANNOTATION: value}}})).unwrap() };
        assert_eq!(protocol(&service("true"), &port(None)), UpstreamProtocol::H2c);
        assert_eq!(protocol(&service("false"), &port(Some("grpc"))), UpstreamProtocol::Http1);
        assert_eq!(protocol(&service("yes"), &port(Some("grpc"))), UpstreamProtocol::H2c);
    }
}
