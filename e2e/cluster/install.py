"""Steps: what installing, addressing and removing do to a cluster."""
import json, subprocess, tempfile

import scene
from affinity import exact, ok
from kube import PortForward, StepError, apply, await_that, condition, get, items, kubectl, must, rolled_out, run
from scene import CHART, NAMESPACE, SELECTOR, chart_values, namespace

FOREIGN = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "gloo-gateway"}, "spec": {"controllerName": "solo.io/gloo-gateway"}}


def requirements():
    """Without the Gateway API, and beside another controller's gloo-gateway class, helm install fails and names the command"""
    scene.uninstalled()
    told = []
    if not get("crd", "gatewayclasses.gateway.networking.k8s.io"):
        refused("kubectl apply --server-side -f https://")
        told.append("without the Gateway API")
    scene.gateway_api()
    apply(FOREIGN)
    refused("kubectl delete gatewayclass gloo-gateway")
    kubectl("delete", "gatewayclass", "gloo-gateway")
    told.append("beside a foreign class")
    return "refused " + " and ".join(told)


def refused(words, release="clingfish", where=NAMESPACE, gloo=True, **values):
    arguments = ["helm", "install", release, str(CHART), "-n", where, "--create-namespace", *chart_values(gloo, values)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    must("helm install did not fail", done.returncode != 0)
    must(f"helm install failed without `{words}`: {done.stderr}", words in done.stderr)


def addresses():
    """Gateways of two namespaces on one port, HTTPS with a certificate that rotates, infrastructure labels; deleted with all they had"""
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    other = "e2e-other"
    apply(namespace(other))
    certificate(other, "first")
    apply(gateway(other, "web"), gateway(other, "http"), route(other))
    must_be_programmed(other, "web")
    must_be_programmed(other, "http")
    outer = await_that("ExternalName Service", 20, lambda: get("service", "gloo-proxy-web", "-n", other))
    labels = outer["metadata"].get("labels", {})
    must(f"the Service has the labels {labels}", labels.get("gateway.networking.k8s.io/gateway-name") == "web" and labels.get("team") == "e2e")
    must(f"the Service in {other} is of type {outer['spec']['type']}", outer["spec"]["type"] == "ExternalName")
    inner = outer["spec"]["externalName"].split(".")[0]
    for where, name in ((other, "gloo-proxy-web"), (NAMESPACE, inner)):
        kubectl("label", "service", name, "-n", where, "team=changed", "--overwrite")
        await_that(f"label of Service {where}/{name} put back", 20, lambda: get("service", name, "-n", where)["metadata"]["labels"]["team"] == "e2e")
    with PortForward(NAMESPACE, f"service/{inner}", 443) as forward:
        must("the first certificate is not served", subject(forward.port) == "first")
        answer = run("curl", "-ski", f"https://web.example:{forward.port}/headers", "--resolve", f"web.example:{forward.port}:127.0.0.1", "--http1.1")
        must(f"no 200 over TLS:\n{answer}", ok(answer))
        certificate(other, "second")
        await_that("second certificate", 20, lambda: subject(forward.port) == "second")
        kubectl("patch", "secret", "web", "-n", other, "--type=merge", "-p", json.dumps({"data": {"tls.crt": "bm90aGluZw=="}}))
        await_that("status of the bad Secret", 30, lambda: listener_condition(other, "web", "https", "ResolvedRefs") == "False")
        must("the last good certificate is not served", subject(forward.port) == "second")
    # One Gateway alone: its Services are ours to delete, while those of a namespace that goes may be gone before we look.
    kubectl("delete", "gateway", "web", "-n", other)
    for where, name in ((other, "gloo-proxy-web"), (NAMESPACE, inner)):
        await_that(f"end of Service {where}/{name}", 30, lambda: not get("service", name, "-n", where))
    kubectl("delete", "namespace", other)
    return f"{inner} and its ExternalName came and went; two certificates, then a bad one"


def gateway(where, name):
    listeners = [{"name": "http", "protocol": "HTTP", "port": 8080}]
    if name == "web":
        listeners.append({"name": "https", "protocol": "HTTPS", "port": 443, "tls": {"certificateRefs": [{"name": "web"}]}})
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": where}, "spec": {"gatewayClassName": "clingfish", "infrastructure": {"labels": {"team": "e2e"}}, "listeners": listeners}}


def route(where):
    """To the Service httpbin of another namespace, which grants it."""
    reference = {"name": "httpbin", "namespace": scene.BACKEND, "port": 8000}
    grant = {"apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "e2e", "namespace": scene.BACKEND}, "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": where}], "to": [{"group": "", "kind": "Service"}]}}
    web = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web", "namespace": where}, "spec": {"parentRefs": [{"name": "web"}], "hostnames": ["web.example"], "rules": [{"backendRefs": [reference]}]}}
    return json.dumps(grant) + "\n---\n" + json.dumps(web)


def certificate(where, name):
    """A self-signed one for web.example, in the Secret web; `name` is its organisation."""
    with tempfile.TemporaryDirectory() as folder:
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/O={name}/CN=web.example", "-addext", "subjectAltName=DNS:web.example", "-keyout", f"{folder}/key", "-out", f"{folder}/crt")
        secret = kubectl("create", "secret", "tls", "web", "-n", where, f"--cert={folder}/crt", f"--key={folder}/key", "--dry-run=client", "-o", "yaml")
    apply(secret)


def subject(port):
    """The organisation of the certificate that is served."""
    text = run("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "web.example", input="", check=False)
    text = run("openssl", "x509", "-noout", "-subject", "-nameopt", "sep_multiline,lname", input=text, check=False)
    return next((line.split("=", 1)[1].strip() for line in text.splitlines() if "organizationName" in line), None)


def must_be_programmed(where, name):
    await_that(f"programmed Gateway {where}/{name}", 60, lambda: condition(get("gateway", name, "-n", where), "Programmed").get("status") == "True")


def listener_condition(where, name, listener, type_):
    listeners = get("gateway", name, "-n", where).get("status", {}).get("listeners", [])
    conditions = next((l["conditions"] for l in listeners if l["name"] == listener), [])
    return next((c["status"] for c in conditions if c["type"] == type_), None)


def nothing_left():
    """helm uninstall leaves nothing behind, in no namespace, while Gateways are still there, of a class that somebody else made too; their statuses say so"""
    scene.installed(gloo=True)
    scene.backend(replicas=1)
    scene.guide("maglev")
    own = {**FOREIGN, "metadata": {"name": "e2e-own"}, "spec": {"controllerName": "clingfish.dev/gateway-controller"}}
    of_own_class = gateway("e2e-other", "own")
    of_own_class["spec"]["gatewayClassName"] = "e2e-own"
    apply(namespace("e2e-other"), own, gateway("e2e-other", "http"), of_own_class)
    gateways = (("e2e-other", "http"), ("e2e-other", "own"), (NAMESPACE, "http"))
    for where, name in gateways:
        must_be_programmed(where, name)
    for name in ("gloo-proxy-http", "gloo-proxy-own"):
        await_that("ExternalName Service", 20, lambda: get("service", name, "-n", "e2e-other"))
    await_that("finalizer on the class", 20, lambda: get("gatewayclass", "e2e-own")["metadata"].get("finalizers"))
    scene.uninstalled()
    for where, name in gateways:
        status = get("gateway", name, "-n", where)["status"]
        must(f"Gateway {where}/{name} says {status}", condition({"status": status}, "Programmed")["status"] == "Unknown" and not status.get("addresses"))
    for kind, name, field in (("httproute", "httpbin-upstream", "parents"), ("upstream", "httpbin", "statuses"), ("routeoption", "lbhash", "statuses")):
        status = get(kind, name, "-n", NAMESPACE).get("status", {})
        must(f"{kind} {name} says {status}", not status.get(field))
    kubectl("delete", "gatewayclass", "e2e-own", "--timeout=20s")
    try:
        await_that("end of everything", 60, lambda: not left(), every=1)
    except StepError as error:
        raise StepError(f"still there: {', '.join(left())}") from error
    kubectl("delete", "namespace", "e2e-other")
    kubectl("delete", "gateway", "--all", "-n", NAMESPACE)
    return "nothing is left"


def left():
    """Names of what the release made."""
    found = [item for kind in ("services", "configmaps", "leases", "deployments", "serviceaccounts", "roles", "rolebindings", "poddisruptionbudgets") for item in items(kind, "-A")]
    found += [item for kind in ("clusterroles", "clusterrolebindings", "gatewayclasses") for item in items(kind)]
    found = [item for item in found if item["metadata"].get("namespace") != "kube-node-lease"]  # nodes of kind have its cluster's name
    ours = lambda meta: "clingfish" in meta["name"] or meta["name"].startswith("gloo-proxy-") or (meta.get("labels") or {}).get("app.kubernetes.io/name") == "clingfish"
    return [f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}" for item in found if ours(item["metadata"])]


def without_status_subresource():
    """Over CRDs as Gloo's, without a status subresource: the guide's objects are served and have a status"""
    scene.uninstalled()
    kubectl("delete", "crd", "upstreams.gloo.solo.io", "routeoptions.gateway.solo.io", "--ignore-not-found")
    scene.gateway_api()
    apply(scene.manifest("gloo-like-crds.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/upstreams.gloo.solo.io", "crd/routeoptions.gateway.solo.io", "--timeout=30s")
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    scene.guide("maglev")
    states = await_that("Accepted of both", 30, lambda: (lambda s: s if all(s) and None not in s else None)([gloo_state("upstream", "httpbin"), gloo_state("routeoption", "lbhash")]))
    written = [get(kind, name, "-n", NAMESPACE)["metadata"]["resourceVersion"] for kind, name in (("upstream", "httpbin"), ("routeoption", "lbhash"))]
    load = scene.Load("statusless", scene.url(), sessions=50, rate=100)
    backends = scene.Backends()
    places = load.places()
    exact(load, places, backends, "maglev", "over CRDs without a status subresource")
    totals, events = load.stop()
    backends.stop()
    scene.no_failures(totals, events)
    again = [get(kind, name, "-n", NAMESPACE)["metadata"]["resourceVersion"] for kind, name in (("upstream", "httpbin"), ("routeoption", "lbhash"))]
    must("statuses are written again and again", written == again)
    kept = unreadable_after_restart()
    closed = guarded()
    # Back to the chart's own CRDs, so that steps run alone find them.
    scene.uninstalled()
    kubectl("delete", "crd", "upstreams.gloo.solo.io", "routeoptions.gateway.solo.io", "virtualhostoptions.gateway.solo.io")
    return f"states {states}; {len(places)} sessions in place; {kept}; {closed}"


def unreadable_after_restart():
    """A RouteOption that can no longer be read, which these CRDs let in: its last version serves after a restart of every pod too."""
    wrong = json.dumps({"spec": {"options": {"lbHash": {"hashPolicies": [{"cookie": {"name": "hashbasedcookie", "ttl": 60}}]}}}})
    kubectl("patch", "routeoption", "lbhash", "-n", NAMESPACE, "--type=merge", "-p", wrong)
    kept = lambda: list(((get("configmap", "clingfish-last-good", "-n", NAMESPACE) or {}).get("data") or {}).values())
    await_that("last good version in its ConfigMap", 30, lambda: any('"kind":"RouteOption"' in version for version in kept()))
    kubectl("rollout", "restart", f"deployment/{scene.deployment(True)}", "-n", NAMESPACE)
    rolled_out(NAMESPACE, scene.deployment(True))
    load = scene.Load("lastgood", scene.url(), sessions=50, rate=100)
    backends = scene.Backends()
    places = load.places()
    exact(load, places, backends, "maglev", "by a RouteOption that can no longer be read, after a restart")
    totals, events = load.stop()
    backends.stop()
    scene.no_failures(totals, events)
    must("the ConfigMap is empty after a restart", kept())
    apply(scene.manifest("routeoption.yaml"))
    await_that("end of the last good version", 30, lambda: not kept())
    return f"{len(places)} sessions in place after a restart without a readable RouteOption"


def guarded():
    """A VirtualHostOption with a guard, of a CRD that comes while the gateway runs: the listener is closed until it is gone."""
    apply(scene.manifest("virtualhostoptions-crd.yaml"))
    kubectl("wait", "--for=condition=Established", "crd/virtualhostoptions.gateway.solo.io", "--timeout=30s")
    target = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "http"}
    option = {"targetRefs": [target], "options": {"extauth": {"configRef": {"name": "basic"}}}}
    apply({"apiVersion": "gateway.solo.io/v1", "kind": "VirtualHostOption", "metadata": {"name": "auth", "namespace": NAMESPACE}, "spec": option})
    programmed = lambda: condition(get("gateway", "http", "-n", NAMESPACE), "Programmed")
    words = await_that("closed listener", 40, lambda: programmed().get("status") == "False" and programmed()["message"])
    must(f"the Gateway says: {words}", "VirtualHostOption gloo-system/auth" in words and "extauth" in words)
    kubectl("delete", "virtualhostoption", "auth", "-n", NAMESPACE)
    await_that("open listener", 20, lambda: programmed().get("status") == "True")
    return "a guard of a late CRD closes the Gateway"


def gloo_state(kind, name):
    statuses = (get(kind, name, "-n", NAMESPACE) or {}).get("status", {}).get("statuses", {})
    return next((entry.get("state") for entry in statuses.values() if entry.get("state") in ("Accepted", 1)), None)
