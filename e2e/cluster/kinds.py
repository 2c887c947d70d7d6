"""Step: a Gateway with one listener for each kind of route, and a ListenerSet."""
import pathlib

import scene
from kube import PortForward, apply, await_that, condition, get, kubectl, must, run
from scene import NAMESPACE

GATEWAY_API = "gateway.networking.k8s.io/v1"


def kinds():
    """GRPCRoute, TLSRoute, TCPRoute, UDPRoute, ListenerSet, BackendTLSPolicy and XBackendTrafficPolicy are accepted, a request goes through the listener of TCP and that of the set, and the Service has TCP and UDP on one number"""
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    apply(gateway(), listener_set(), grant(), *routes(), *secured())
    for kind, name, parent in (("grpcroute", "calls", "kinds"), ("tlsroute", "names", "kinds"), ("tcproute", "bytes", "kinds"), ("udproute", "datagrams", "kinds"), ("httproute", "of-set", "more"), ("listenerset", "more", None)):
        await_that(f"accepted {kind}", 30, lambda: condition(get(kind, name, "-n", NAMESPACE), "Accepted", parent).get("status") == "True")
    await_that("accepted backendtlspolicy", 30, lambda: accepted_policy(get("backendtlspolicy", "secured", "-n", scene.BACKEND)))
    await_that("accepted xbackendtrafficpolicy", 30, lambda: accepted_policy(get("xbackendtrafficpolicy", "secured", "-n", scene.BACKEND)))
    attached = await_that("count of ListenerSets", 30, lambda: get("gateway", "kinds", "-n", NAMESPACE)["status"].get("attachedListenerSets"))
    must(f"{attached} ListenerSets are attached", attached == 1)
    service = await_that("Service", 30, lambda: get("service", "gloo-proxy-kinds", "-n", NAMESPACE))
    ports = await_that("ports of both transports", 30, lambda: both_transports(get("service", "gloo-proxy-kinds", "-n", NAMESPACE)))
    told = [f"9000: {' and '.join(ports)}"]
    for port, host in ((9000, "any.example"), (8081, "more.example")):
        with PortForward(NAMESPACE, f"service/{service['metadata']['name']}", port) as forward:
            answer = await_that(f"200 on port {port}", 30, lambda: answered(forward.port, host))
            told.append(f"{port}: {answer.splitlines()[0].strip()}")
    for kind, name in (("listenerset", "more"), ("gateway", "kinds"), ("grpcroute", "calls"), ("tlsroute", "names"), ("tcproute", "bytes"), ("udproute", "datagrams"), ("httproute", "of-set"), ("httproute", "secured")):
        kubectl("delete", kind, name, "-n", NAMESPACE)
    for kind, name in (("backendtlspolicy", "secured"), ("xbackendtrafficpolicy", "secured"), ("service", "secured"), ("configmap", "secured-ca")):
        kubectl("delete", kind, name, "-n", scene.BACKEND)
    return ", ".join(told)


def answered(port, host):
    answer = run("curl", "-si", f"http://127.0.0.1:{port}/headers", "-H", f"host: {host}", "-m", "5", check=False)
    return answer if answer.startswith("HTTP/1.1 200") else None


def both_transports(service):
    ports = sorted(port["protocol"] for port in service["spec"]["ports"] if port["port"] == 9000)
    return ports if ports == ["TCP", "UDP"] else None


def accepted_policy(policy):
    conditions = [one for ancestor in policy.get("status", {}).get("ancestors", []) for one in ancestor["conditions"]]
    return any(one["type"] == "Accepted" and one["status"] == "True" for one in conditions)


def gateway():
    listeners = [
        {"name": "http", "port": 8080, "protocol": "HTTP"},
        {"name": "tls", "port": 8443, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
        {"name": "tcp", "port": 9000, "protocol": "TCP"},
        {"name": "udp", "port": 9000, "protocol": "UDP"},
    ]
    spec = {"gatewayClassName": "clingfish", "listeners": listeners, "allowedListeners": {"namespaces": {"from": "Same"}}}
    return {"apiVersion": GATEWAY_API, "kind": "Gateway", "metadata": {"name": "kinds", "namespace": NAMESPACE}, "spec": spec}


def listener_set():
    spec = {"parentRef": {"name": "kinds"}, "listeners": [{"name": "more", "port": 8081, "protocol": "HTTP", "hostname": "more.example"}]}
    return {"apiVersion": GATEWAY_API, "kind": "ListenerSet", "metadata": {"name": "more", "namespace": NAMESPACE}, "spec": spec}


def grant():
    referring = [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": NAMESPACE} for kind in ("GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "HTTPRoute")]
    spec = {"from": referring, "to": [{"group": "", "kind": "Service"}]}
    return {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "kinds", "namespace": scene.BACKEND}, "spec": spec}


def routes():
    def route(kind, name, parent, **rest):
        rules = [{"backendRefs": [{"name": "httpbin", "namespace": scene.BACKEND, "port": 8000}]}]
        return {"apiVersion": GATEWAY_API, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"parentRefs": [parent], "rules": rules, **rest}}
    yield route("GRPCRoute", "calls", {"name": "kinds", "sectionName": "http"})
    yield route("TLSRoute", "names", {"name": "kinds", "sectionName": "tls"}, hostnames=["a.example"])
    yield route("TCPRoute", "bytes", {"name": "kinds", "sectionName": "tcp"})
    yield route("UDPRoute", "datagrams", {"name": "kinds", "sectionName": "udp"})
    yield route("HTTPRoute", "of-set", {"group": "gateway.networking.k8s.io", "kind": "ListenerSet", "name": "more"})


def secured():
    """A Service of its own with a BackendTLSPolicy: pods that do not speak TLS must not be lost to the others."""
    meta = {"name": "secured", "namespace": scene.BACKEND}
    authority = (pathlib.Path(__file__).parents[2] / "tests" / "certificates" / "ca.crt").read_text(encoding="utf-8")
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**meta, "name": "secured-ca"}, "data": {"ca.crt": authority}}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"selector": {"app": "httpbin"}, "ports": [{"port": 8443, "targetPort": 8080}]}}
    validation = {"hostname": "a.example", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "secured-ca"}]}
    spec = {"targetRefs": [{"group": "", "kind": "Service", "name": "secured"}], "validation": validation}
    yield {"apiVersion": GATEWAY_API, "kind": "BackendTLSPolicy", "metadata": meta, "spec": spec}
    persistent = {"targetRefs": [{"group": "", "kind": "Service", "name": "secured"}], "sessionPersistence": {"sessionName": "sid"}}
    yield {"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XBackendTrafficPolicy", "metadata": meta, "spec": persistent}
    rules = [{"backendRefs": [{"name": "secured", "namespace": scene.BACKEND, "port": 8443}]}]
    spec = {"parentRefs": [{"name": "kinds", "sectionName": "http"}], "hostnames": ["secured.example"], "rules": rules}
    yield {"apiVersion": GATEWAY_API, "kind": "HTTPRoute", "metadata": {**meta, "namespace": NAMESPACE}, "spec": spec}
