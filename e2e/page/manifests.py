"""Manifests of the parts: many routes, and two pods that speak WebSocket."""

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: clingfish}
spec: {controllerName: clingfish.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec:
  gatewayClassName: clingfish
  listeners: [{name: http, port: %(port)d, protocol: HTTP}]
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: %(name)s, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %(name)s-1, namespace: shop, labels: {kubernetes.io/service-name: %(name)s}}
addressType: IPv4
ports: [{name: http, port: %(port)d}]
endpoints: [%(endpoints)s]
---
apiVersion: clingfish.dev/v1alpha1
kind: AffinityPolicy
metadata: {name: %(name)s, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: %(name)s}]
  keys: [{cookie: {name: sid, ttl: 0s}}]
  algorithm: {maglev: {tableSize: 5003}}
"""

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %(route)s, namespace: shop}
spec:
  parentRefs: [{name: web}]
  hostnames: [%(host)s]
  rules: [{matches: [{path: {type: %(type)s, value: %(path)s}}], backendRefs: [{name: %(name)s, port: 80}]}]
"""

# What would hurt a page that takes text for markup. A regular expression may have such letters; the page must only ever show them.
EVIL = {"route": "evil", "host": "evil.example", "type": "RegularExpression", "path": "'/<img src=x onerror=alert(1)>'", "name": "s000"}


def service(name, addresses, port):
    pods = (f"{{addresses: [{address}], conditions: {{ready: true}}, targetRef: {{kind: Pod, namespace: shop, name: {name}-{index}, uid: {name}-{index}}}}}"
            for index, address in enumerate(addresses))
    return SERVICE % {"name": name, "port": port, "endpoints": ", ".join(pods)}


def many(port, routes, services):
    parts = [GATEWAY % {"port": port}]
    parts += [service(f"s{index:03}", [f"10.{index % 200}.0.{pod + 1}" for pod in range(5)], 80) for index in range(services)]
    for index in range(routes):
        values = {"route": f"r{index:04}", "host": f"h{index % 1000:03}.example", "type": "PathPrefix", "path": f"/p{index}", "name": f"s{index % services:03}"}
        parts.append(ROUTE % values)
    return "---".join(parts)


def sockets(port, addresses, pod_port):
    return "---".join([GATEWAY % {"port": port}, service("chat", addresses, pod_port),
                       ROUTE % {"route": "chat", "host": "localhost", "type": "PathPrefix", "path": "/", "name": "chat"}])
