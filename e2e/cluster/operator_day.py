"""Steps: what an operator does to the cluster, on purpose or by accident, loses no request and no address."""
import json, time

import install, scene
from failures import Sessions
from kube import StepError, apply, await_that, condition, get, items, kubectl, must, pods, rolled_out, run
from scene import NAMESPACE, SELECTOR, Load, no_failures

TABLE = "clingfish"
SECOND = "e2e-second"


def second_gateway():
    """A Gateway on the same port as the guide's, whose route answers 418 by itself: who gets that has come to the wrong Gateway."""
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": SECOND, "namespace": NAMESPACE}}
    route["spec"] = {"parentRefs": [{"name": SECOND}], "rules": [{"backendRefs": [{"name": "nobody", "port": 80}]}]}
    listener = {"name": "http", "protocol": "HTTP", "port": 8080}
    spec = {"gatewayClassName": "clingfish", "listeners": [listener]}
    apply({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": SECOND, "namespace": NAMESPACE}, "spec": spec}, route)
    await_that("programmed second Gateway", 60, lambda: condition(get("gateway", SECOND, "-n", NAMESPACE), "Programmed").get("status") == "True")


def table():
    """What the ConfigMap says of ports that are in use: internal port by Gateway and port."""
    data = (get("configmap", TABLE, "-n", NAMESPACE) or {}).get("data") or {}
    return {key: value.split(" ")[0] for key, value in data.items() if not key.startswith("freed.")}


def patch_table(data):
    kubectl("patch", "configmap", TABLE, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"data": data}))


def services():
    """UID, cluster IP, ports and target ports of every Service in front of a Gateway."""
    found = items("services", "-n", NAMESPACE, "-l", "gateway.networking.k8s.io/gateway-name")
    told = lambda port: (port["port"], port["targetPort"], port.get("nodePort"))
    return {s["metadata"]["name"]: (s["metadata"]["uid"], s["spec"]["clusterIP"], [told(port) for port in s["spec"]["ports"]]) for s in found}


class NoLeader:
    """The Lease is held by nobody who renews it, for as long as the block lasts: the gateway's pods only follow."""

    def __enter__(self):
        self.take()
        return self

    def take(self):
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        spec = {"holderIdentity": "nobody", "leaseDurationSeconds": 120, "renewTime": now}
        kubectl("patch", "lease", TABLE, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": spec}))

    def __exit__(self, *_):
        kubectl("patch", "lease", TABLE, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}))


def port_table_lost():
    """The table of internal ports is deleted, emptied, garbled and swapped, with and without a leader: 0 failed, no port moves"""
    with Sessions() as sessions:
        second_gateway()
        right, before = await_that("both Gateways in the table", 20, lambda: (lambda t: t if len(t) == 2 else None)(table())), services()
        first, second = sorted(right)
        lose = {
            "deleted": lambda: kubectl("delete", "configmap", TABLE, "-n", NAMESPACE),
            "emptied": lambda: kubectl("patch", "configmap", TABLE, "-n", NAMESPACE, "--type=json", "-p", '[{"op": "remove", "path": "/data"}]'),
            "garbled": lambda: patch_table({first: "x", second: ""}),
            "swapped": lambda: patch_table({first: f"{right[second]} x", second: f"{right[first]} x"}),
        }
        for how, act in lose.items():
            act()
            await_that(f"table as it was after it was {how}", 20, lambda: table() == right)
        with NoLeader() as lease:
            await_that("no leader", 30, lambda: not any(lead(pod) for pod in pods(NAMESPACE, SELECTOR)))
            for how in ("emptied", "garbled", "swapped", "deleted"):
                lose[how]()
                time.sleep(2)
                lease.take()
            # Those that start now know only the Services.
            kubectl("rollout", "restart", f"deployment/{scene.deployment(True)}", "-n", NAMESPACE)
            rolled_out(NAMESPACE, scene.deployment(True))
            lease.take()
            time.sleep(5)
        await_that("table as it was, by a new leader", 60, lambda: table() == right)
        must(f"the Services were {before} and are {services()}", services() == before)
    kubectl("delete", "gateway,httproute", SECOND, "-n", NAMESPACE)
    return sessions.told


def metrics(pod):
    return kubectl("get", "--raw", f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}:9901/proxy/metrics")


def lead(pod):
    """Whether the pod says that it leads."""
    return "clingfish_leader 1" in metrics(pod)


def addresses_kept():
    """The Deployment, the classes and the Gateway are deleted and made again: the Service keeps its UID and address"""
    scene.installed(gloo=True)
    scene.guide("maglev")
    before = await_that("Service of the guide's Gateway alone", 30, lambda: (lambda s: s if list(s) == ["gloo-proxy-http"] else None)(services()))

    def same(what):
        time.sleep(8)
        await_that(f"programmed Gateway after {what}", 60, lambda: condition(get("gateway", "http", "-n", NAMESPACE), "Programmed").get("status") == "True")
        must(f"{what}: the Services were {before} and are {services()}", services() == before)

    deployment = get("deployment", scene.deployment(True), "-n", NAMESPACE)
    kubectl("replace", "--force", "-f", "-", input=json.dumps(bare(deployment)))
    rolled_out(NAMESPACE, scene.deployment(True))
    same("the Deployment was replaced")
    for name in ("clingfish", "gloo-gateway"):
        kubectl("replace", "--force", "-f", "-", input=json.dumps(bare(get("gatewayclass", name))))
    same("the classes were replaced")
    gateway = get("gateway", "http", "-n", NAMESPACE)
    kubectl("replace", "--force", "-f", "-", input=json.dumps(bare(gateway)))
    same("the Gateway was replaced")
    kubectl("delete", "gateway", "http", "-n", NAMESPACE)
    await_that("end of the Service of a deleted Gateway", 30, lambda: not services())
    return f"{len(before)} Services kept through three accidents, and gone with their Gateway"


def refused_service():
    """A quota refuses the Service of a new Gateway: its status, an event and a metric say why, and it is made when there is room; a Gateway of another class is let go"""
    scene.installed(gloo=True)
    scene.guide("maglev")
    count = len(items("services", "-n", NAMESPACE))
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "e2e", "namespace": NAMESPACE}, "spec": {"hard": {"count/services": str(count)}}}
    apply(quota)
    await_that("quota in force", 30, lambda: get("resourcequota", "e2e", "-n", NAMESPACE)["status"].get("used", {}).get("count/services") == str(count))
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": SECOND, "namespace": NAMESPACE}}
    apply({**gateway, "spec": {"gatewayClassName": "clingfish", "listeners": [{"name": "http", "protocol": "HTTP", "port": 8080}]}})
    programmed = lambda: condition(get("gateway", SECOND, "-n", NAMESPACE), "Programmed")
    told = await_that("status that names the quota", 30, lambda: (lambda c: c.get("message") if "exceeded quota" in c.get("message", "") else None)(programmed()))
    must("no pod counts the refused Service", any("clingfish_services_refused 1" in metrics(pod) for pod in pods(NAMESPACE, SELECTOR)))
    kubectl("delete", "resourcequota", "e2e", "-n", NAMESPACE)
    await_that("programmed Gateway without the quota", 60, lambda: programmed().get("status") == "True")
    for type_ in ("Warning", "Normal"):
        await_that(f"event of type {type_}", 10, lambda: f"  {type_} " in kubectl("describe", "gateway", SECOND, "-n", NAMESPACE))
    kubectl("patch", "gateway", SECOND, "-n", NAMESPACE, "--type=merge", "-p", '{"spec": {"gatewayClassName": "e2e-other"}}')
    await_that("release of a Gateway of another class", 30, lambda: programmed().get("status") == "Unknown" and not get("gateway", SECOND, "-n", NAMESPACE)["status"].get("addresses"))
    kubectl("delete", "gateway", SECOND, "-n", NAMESPACE)
    return told


def external_names_left():
    """service.externalName is turned off: the ExternalName Services that were made before go, and then the right to delete them"""
    other = "e2e-other"
    scene.installed(gloo=True)
    apply(scene.namespace(other), install.gateway(other, "http"))
    await_that("ExternalName Service", 60, lambda: get("service", "gloo-proxy-http", "-n", other))
    off = {"service.externalName": "false", "service.restSeconds": "5"}
    scene.installed(gloo=True, **off)
    await_that("end of the ExternalName Service", 60, lambda: not get("service", "gloo-proxy-http", "-n", other))
    scene.installed(gloo=True, **off)
    account = f"system:serviceaccount:{NAMESPACE}:clingfish"
    may = kubectl("auth", "can-i", "delete", "services", "-n", other, f"--as={account}", check=False).strip()
    must(f"the right to delete Services of other namespaces: {may}", may == "no")
    kubectl("delete", "namespace", other)


def bare(item):
    """The object as somebody has it in a file."""
    for field in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        item["metadata"].pop(field, None)
    item.pop("status", None)
    return item


def fields_of_others():
    """A controller of load balancers writes loadBalancerIP, and something undoes the type: neither is fought over at full speed"""
    scene.installed(gloo=True)
    scene.guide("maglev")
    service = "gloo-proxy-http"
    kubectl("patch", "service", service, "-n", NAMESPACE, "--field-manager=edge-lb", "--type=merge", "-p", '{"spec": {"loadBalancerIP": "10.9.9.9"}}')
    time.sleep(3)
    must("loadBalancerIP of somebody else was undone", get("service", service, "-n", NAMESPACE)["spec"].get("loadBalancerIP") == "10.9.9.9")
    undone, deadline = 0, time.monotonic() + 15
    while time.monotonic() < deadline:
        if get("service", service, "-n", NAMESPACE)["spec"]["externalTrafficPolicy"] == "Local":
            kubectl("patch", "service", service, "-n", NAMESPACE, "--field-manager=edge-lb", "--type=merge", "-p", '{"spec": {"externalTrafficPolicy": "Cluster"}}')
            undone += 1
        time.sleep(0.05)
    must(f"a field that somebody else changes back was written {undone} times in 15 s", undone <= 7)
    logs = "".join(kubectl("logs", "-n", NAMESPACE, pod["metadata"]["name"], "--since=1m") for pod in pods(NAMESPACE, SELECTOR))
    must("no log names the other manager", "edge-lb" in logs)
    return f"loadBalancerIP stayed; a field that is undone at once was written {undone} times in 15 s"
