//! What the hosts behind a port of a Service speak: its `appProtocol` (GEP-1911, KEP-3726), and Gloo's annotation.

use k8s_openapi::api::core::v1::{Service, ServicePort};

use crate::snapshot::UpstreamProtocol;

/// Gloo's annotation, which comes before everything else (`serviceconverter/use_http2_annotation_converter.go`).
const HTTP2_ANNOTATION: &str = "gloo.solo.io/h2_service";

/// HTTP/1.1 without TLS: the name of IANA, and that of Kubernetes for WebSocket, which begins there.
const HTTP1: [&str; 3] = ["http", "kubernetes.io/ws", "ws"];

/// HTTP/2 without TLS: the name of Kubernetes, and those that Gloo, Envoy Gateway and Istio read.
const HTTP2: [&str; 4] = ["kubernetes.io/h2c", "h2c", "http2", "grpc"];

/// HTTP/2 to Gloo, as to Istio; its proxy makes gRPC of the requests. To the Gateway API it is a name like any other.
const GRPC_WEB: &str = "grpc-web";

/// What needs TLS to the hosts: plain text would be unsafe.
const TLS: [&str; 5] = ["kubernetes.io/wss", "grpcs", "https", "wss", "tls"];

/// Whose rules hold for a name that is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// The Gateway API: a backend whose protocol cannot be spoken is invalid.
    GatewayApi,
    /// Gloo, for Gateways of its class: what it does not know is HTTP/1.1.
    Gloo,
}

/// What the hosts behind a port are spoken to in. Names that are refused are never asked for.
pub(super) fn protocol(service: &Service, port: &ServicePort) -> UpstreamProtocol {
    let annotation = service.metadata.annotations.as_ref().and_then(|annotations| annotations.get(HTTP2_ANNOTATION));
    match annotation.map(String::as_str) {
        Some("true") => return UpstreamProtocol::H2c,
        Some("false") => return UpstreamProtocol::Http1,
        Some(_) | None => {}
    }
    let name = port.app_protocol.as_deref().unwrap_or_default().to_ascii_lowercase();
    if HTTP2.contains(&&*name) || name == GRPC_WEB { UpstreamProtocol::H2c } else { UpstreamProtocol::Http1 }
}

/// Why a route cannot send to a port, if it is for its `appProtocol`; in words that follow the name.
pub(super) fn refusal(port: &ServicePort, reader: Reader) -> Option<&'static str> {
    let name = port.app_protocol.as_deref()?.to_ascii_lowercase();
    let known = HTTP1.contains(&&*name) || HTTP2.contains(&&*name);
    match reader {
        _ if known => None,
        _ if TLS.contains(&&*name) => Some("is not served yet; expected a protocol without TLS"),
        Reader::Gloo => None,
        Reader::GatewayApi => Some("is not known; expected http, kubernetes.io/ws, kubernetes.io/h2c, http2 or grpc, or none"),
    }
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
        // The protocol, and whether a route may send there by the Gateway API and by Gloo.
        let table = [
            (None, Http1, true, true),
            (Some("http"), Http1, true, true),
            (Some("HTTP"), Http1, true, true),
            (Some("kubernetes.io/ws"), Http1, true, true),
            (Some("kubernetes.io/h2c"), H2c, true, true),
            (Some("Kubernetes.io/H2C"), H2c, true, true),
            (Some("http2"), H2c, true, true),
            (Some("grpc"), H2c, true, true),
            (Some("grpc-web"), H2c, false, true),
            (Some("example.com/own"), Http1, false, true),
            (Some("mysql"), Http1, false, true),
            (Some("https"), Http1, false, false),
            (Some("kubernetes.io/wss"), Http1, false, false),
        ];
        for (name, expected, by_gateway_api, by_gloo) in table {
            let port = port(name);
            assert_eq!(protocol(&Service::default(), &port), expected, "{name:?}");
            assert_eq!(refusal(&port, Reader::GatewayApi).is_none(), by_gateway_api, "{name:?}");
            assert_eq!(refusal(&port, Reader::Gloo).is_none(), by_gloo, "{name:?}");
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
