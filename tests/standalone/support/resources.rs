//! The guide's resources as text.

use super::Pod;

/// GatewayClass, Gateway and namespaces; the class decides how clients are seen.
pub fn gateway(class: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {class}}}
spec: {{controllerName: clingfish.dev/gateway-controller}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: http, namespace: gloo-system}}
spec:
  gatewayClassName: {class}
  listeners:
  - {{name: http, protocol: HTTP, port: {{port}}, allowedRoutes: {{namespaces: {{from: All}}}}}}
"
    )
}

/// The Service with two ports, as in the guide.
pub fn service() -> String {
    "
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: httpbin}
spec:
  selector: {app: httpbin}
  ports:
  - {name: http, port: 8000, targetPort: 8080}
  - {name: tcp, port: 9000, targetPort: 9000}
"
    .into()
}

/// One EndpointSlice a pod: each has a port of its own.
pub fn slices<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    pods.into_iter().map(|pod| slice(pod, "httpbin", "httpbin")).collect()
}

/// The EndpointSlice of one pod of a Service.
pub fn slice(pod: &Pod, namespace: &str, service: &str) -> String {
    let (ip, port) = (pod.address.ip(), pod.address.port());
    format!(
        "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-{port}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}, {{name: tcp, port: 9}}]
endpoints:
- {{addresses: ['{ip}'], conditions: {{ready: true}}, targetRef: {{kind: Pod, namespace: {namespace}, name: pod-{port}, uid: u-{port}}}}}
"
    )
}

/// The Upstream; `balancer` is what stands under `loadBalancerConfig`, empty for none.
pub fn upstream(balancer: &str) -> String {
    let balancer = if balancer.is_empty() { String::new() } else { format!("  loadBalancerConfig: {balancer}\n") };
    format!(
        "
apiVersion: gloo.solo.io/v1
kind: Upstream
metadata: {{name: httpbin, namespace: gloo-system}}
spec:
  kube: {{serviceName: httpbin, serviceNamespace: httpbin, servicePort: 8000}}
{balancer}"
    )
}

/// The guide's route to the Upstream.
pub fn route() -> String {
    "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: httpbin-upstream, namespace: gloo-system}
spec:
  parentRefs: [{name: http, namespace: gloo-system}]
  hostnames: [httpbin.example]
  rules:
  - backendRefs: [{name: httpbin, kind: Upstream, group: gloo.solo.io}]
"
    .into()
}

/// The guide's RouteOption; `policies` is what stands under `hashPolicies`.
pub fn route_option(policies: &str) -> String {
    format!(
        "
apiVersion: gateway.solo.io/v1
kind: RouteOption
metadata: {{name: lbhash, namespace: gloo-system}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, name: httpbin-upstream}}]
  options:
    lbHash:
      hashPolicies: {policies}
"
    )
}

/// The guide's hash policy.
pub const COOKIE: &str = "[{cookie: {name: hashbasedcookie, ttl: 60s, path: /}}]";

/// Everything of the guide; without a balancer there is no RouteOption either, as in its first half.
pub fn guide(class: &str, pods: &[Pod], balancer: &str) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("gateway.yaml", gateway(class)),
        ("service.yaml", service()),
        ("endpoints.yaml", slices(pods)),
        ("upstream.yaml", upstream(balancer)),
        ("route.yaml", route()),
    ];
    if !balancer.is_empty() {
        files.push(("option.yaml", route_option(COOKIE)));
    }
    files
}
