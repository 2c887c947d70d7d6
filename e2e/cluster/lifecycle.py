"""Steps: installs beside each other, one after the other, and gone."""
import json, os, subprocess, time

import install, scene
from failures import Sessions, new_route
from kube import apply, await_that, condition, get, items, kubectl, must, pods, run
from operator_day import metrics, services
from scene import NAMESPACE, Load, no_failures

SECOND = "e2e-second"
FINALIZER = "gateway-exists-finalizer.gateway.networking.k8s.io"


def two_installs():
    """A second release with the same controllerName: helm refuses it; forced, it writes nothing and says so; it takes over when the first is gone"""
    with Sessions() as sessions:
        before = services()
        for values in ({}, {"gatewayClass.create": "false"}, {"gatewayClass.name": SECOND}):
            for where in (SECOND, NAMESPACE):
                install.refused("has the controllerName", "second", where, gloo=False, **values)
        for where in (NAMESPACE, SECOND):
            scene.beside("second", where, **{"gatewayClass.name": SECOND, "allowSharedControllerName": "true"})
            await_that(f"refusal to write in {where}", 60, lambda: refuses(where))
            took = new_route("beside", 30)
            must(f"the Services were {before} and are {services()}", services() == before)
            must("the second install has dealt out ports", not get("configmap", "second-clingfish", "-n", where))
            if where == NAMESPACE:
                run("helm", "uninstall", "second", "-n", where, "--wait", "--timeout=120s")
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": SECOND, "namespace": SECOND}}
    apply({**gateway, "spec": {"gatewayClassName": SECOND, "listeners": [{"name": "http", "protocol": "HTTP", "port": 8080}]}})
    programmed = programmed_in(SECOND, SECOND)
    await_that("Gateway programmed by the first install", 60, programmed)
    scene.uninstalled()
    start = time.monotonic()
    await_that("Gateway programmed by the second install", 90, lambda: programmed() and get("service", "clingfish-e2e-second", "-n", SECOND))
    waited = time.monotonic() - start
    run("helm", "uninstall", "second", "-n", SECOND, "--wait", "--timeout=120s")
    kubectl("delete", "namespace", SECOND)
    return f"{sessions.told}; a new route's status beside the second install: {took:.1f} s; the second one wrote {waited:.0f} s after the first was gone"


def refuses(where):
    """Whether a pod of the second release is ready, does not lead, and says why."""
    for pod in pods(where, "app.kubernetes.io/instance=second"):
        told = metrics(pod)
        if "clingfish_controller_name_conflict 1" in told:
            must("a pod that refuses to write leads", "clingfish_leader 0" in told)
            must("a pod that refuses to write is not ready", condition(pod, "Ready").get("status") == "True")
            log = kubectl("logs", "-n", where, pod["metadata"]["name"])
            must(f"the log does not name the older install: {log[-500:]}", f"the install {NAMESPACE}/clingfish has the controllerName" in log)
            return True
    return False


def class_deleted():
    """The GatewayClass is deleted under load while its Gateway is there: it is held, 0 failed, and it goes with the Gateway"""
    name = "gloo-gateway"
    finalizers = lambda: (get("gatewayclass", name) or {"metadata": {}})["metadata"].get("finalizers") or []
    with Sessions() as sessions:
        await_that("finalizer on the class", 20, lambda: FINALIZER in finalizers())
        kubectl("delete", "gatewayclass", name, "--wait=false")
        words = await_that("status of a class that is being deleted", 20, lambda: (lambda m: m if "is being deleted" in m else None)(condition(get("gatewayclass", name), "Accepted").get("message", "")))
        took = new_route("held", 20)
        must("the class is gone while its Gateway is there", FINALIZER in finalizers())
    kubectl("delete", "gateway", "http", "-n", NAMESPACE)
    await_that("end of the class without a Gateway", 20, lambda: not get("gatewayclass", name))
    scene.installed(gloo=True)
    must("a class without Gateways has the finalizer", FINALIZER not in finalizers())
    return f"{sessions.told}; a new route's status meanwhile: {took:.1f} s; the class said: {words}"


def names_flipped():
    """gloo.enabled is turned on and off under load: the Service keeps UID, address and ports of nodes, the other name leads there too, 0 failed"""
    rest = {"service.restSeconds": "5"}
    scene.uninstalled()
    scene.installed(gloo=False, **rest)
    scene.backend(replicas=3)
    apply(*(scene.manifest(file).replace("gloo-gateway", "clingfish") for file in ("gateway.yaml", "route.yaml", "routeoption.yaml", "upstream-maglev.yaml")))
    await_that("programmed Gateway", 60, programmed_in(NAMESPACE, "http"))
    before = services()
    must(f"the Services are {before}", list(before) == ["clingfish-http"])
    load = Load("flip", scene.url("clingfish-http"))
    scene.installed(gloo=True, **rest)
    await_that("Service of the other name", 30, lambda: "gloo-proxy-http" in services())
    must(f"the Service was {before} and is {services()}", services()["clingfish-http"] == before["clingfish-http"])
    must("the Service of the other name has an address of its own", get("service", "gloo-proxy-http", "-n", NAMESPACE)["spec"]["type"] == "ClusterIP")
    alias = Load("alias", scene.url("gloo-proxy-http"), sessions=20, rate=100)
    await_that("programmed Gateway", 60, programmed_in(NAMESPACE, "http"))
    time.sleep(3)
    through_alias = alias.stop()
    scene.installed(gloo=False, **rest)
    await_that("end of the Service of the other name", 60, lambda: services() == before)
    time.sleep(3)
    totals, events = load.stop()
    no_failures(*through_alias)
    no_failures(totals, events)
    must(f"{totals['moved']} sessions moved", totals["moved"] == 0)
    kubectl("delete", "gateway", "http", "-n", NAMESPACE)
    return f"0 of {totals['requests'] + through_alias[0]['requests']} requests failed, no session moved, the same Service"


def programmed_in(where, name):
    return lambda: condition(get("gateway", name, "-n", where), "Programmed").get("status") == "True"


def service_types():
    """A Gateway reports its nodes with NodePort and its cluster IP with ClusterIP; a class that cannot be changed is told with what to do, and nothing loops"""
    scene.uninstalled()  # the Service has a name of its own where gloo.enabled was turned on later
    scene.installed(gloo=True)
    scene.guide("maglev")
    gateway = lambda: get("gateway", "http", "-n", NAMESPACE)
    reported = lambda: sorted(address["value"] for address in gateway()["status"].get("addresses") or [])
    service = lambda: get("service", "gloo-proxy-http", "-n", NAMESPACE)
    nodes = sorted(address["address"] for node in items("nodes") for address in node["status"]["addresses"] if address["type"] == "InternalIP")
    uid, cluster_ip = service()["metadata"]["uid"], service()["spec"]["clusterIP"]
    scene.installed(gloo=True, **{"service.type": "NodePort"})
    await_that(f"addresses {nodes}", 30, lambda: reported() == nodes)
    scene.installed(gloo=True, **{"service.type": "ClusterIP"})
    await_that(f"address {cluster_ip}", 30, lambda: reported() == [cluster_ip])
    must("the Service is another one", service()["metadata"]["uid"] == uid)
    scene.installed(gloo=True, **{"service.type": "LoadBalancer"})
    await_that("a LoadBalancer", 30, lambda: service()["spec"]["type"] == "LoadBalancer")
    classes = {"service.type": "LoadBalancer", "service.loadBalancerClass": "e2e.example/lb"}
    scene.installed(gloo=True, **classes)
    told = lambda: condition(gateway(), "Programmed").get("message", "")
    if scene.WHERE == "local":  # where load balancers give addresses
        words = await_that("words about the class", 30, lambda: told() if "keeps spec.loadBalancerClass" in told() else None)
        must(f"the Gateway is not programmed: {words}", programmed_in(NAMESPACE, "http")())
    version = service()["metadata"]["resourceVersion"]
    time.sleep(5)
    must("the Service is written again and again", service()["metadata"]["resourceVersion"] == version)
    kubectl("delete", "service", "gloo-proxy-http", "-n", NAMESPACE)
    await_that("Service with the new class", 30, lambda: (service() or {"spec": {}})["spec"].get("loadBalancerClass") == "e2e.example/lb")
    scene.installed(gloo=True)
    kubectl("delete", "service", "gloo-proxy-http", "-n", NAMESPACE)
    await_that("Service without a class", 30, lambda: service() and not service()["spec"].get("loadBalancerClass"))
    await_that("programmed Gateway", 60, programmed_in(NAMESPACE, "http"))
    return f"nodes {nodes}, cluster IP {cluster_ip}, and of the class: {words}" if scene.WHERE == "local" else f"nodes {nodes}, cluster IP {cluster_ip}"


def crds_applied():
    """clingfish crds --apply under load: an older CRD is brought to this version and the changes are named, a newer one stays; 0 failed"""
    binary, crd = os.environ.get("E2E_BINARY"), "upstreams.gloo.solo.io"
    if not binary:
        return "skipped: there is no binary"

    def applied(*flags):
        done = subprocess.run([binary, "crds", "--apply", *flags], capture_output=True, text=True, timeout=60)
        line = next((line for line in done.stdout.splitlines() if line.startswith(crd)), done.stderr)
        return done.returncode, line

    def patched(*operations):
        kubectl("patch", "crd", crd, "--type=json", "-p", json.dumps(operations))

    at = "/metadata/annotations/clingfish.dev~1version"
    fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    field = "loadBalancerConfig"
    with Sessions() as sessions:
        applied()
        must(f"a second time: {applied()}", applied() == (0, f"{crd}: unchanged"))
        patched({"op": "replace", "path": at, "value": "0.0.1"}, {"op": "remove", "path": f"{fields}/{field}"}, {"op": "add", "path": f"{fields}/old", "value": {"type": "string"}})
        code, would = applied("--dry-run")
        must(f"a dry run: {code} {would}", code == 0 and "would change" in would and f"v1.spec.{field}" in would and "fields go: v1.spec.old" in would)
        must("a dry run has written", applied("--dry-run")[1] == would)
        code, told = applied()
        must(f"an older CRD: {code} {told}", code == 0 and told == would.replace("would change", "changed"))
        must(f"after that: {applied()}", applied() == (0, f"{crd}: unchanged"))
        patched({"op": "replace", "path": at, "value": "99.0.0"})
        version = get("crd", crd)["metadata"]["resourceVersion"]
        code, refused = applied()
        must(f"a newer CRD: {code} {refused}", code == 1 and "it is of version 99.0.0" in refused)
        must("a newer CRD was written", get("crd", crd)["metadata"]["resourceVersion"] == version)
        patched({"op": "replace", "path": at, "value": "0.0.1"})
        applied()
    return f"{sessions.told}; {told}; {refused}"


def own_parameters():
    """A Gateway's own parameters shape its Service; a wrong value is InvalidParameters with its field, and the Service stays; helm test passes"""
    scene.installed(gloo=True)
    name, kind = "e2e-own", "gatewayparameters"
    reference = {"group": "clingfish.dev", "kind": "GatewayParameters", "name": name}
    gateway = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": NAMESPACE}}
    listener = {"name": "http", "protocol": "HTTP", "port": 8080}
    apply({**gateway, "spec": {"gatewayClassName": "clingfish", "infrastructure": {"parametersRef": reference}, "listeners": [listener]}})
    accepted = lambda: condition(get("gateway", name, "-n", NAMESPACE), "Accepted")
    refused = lambda words: accepted().get("reason") == "InvalidParameters" and words in accepted()["message"]
    service = lambda: get("service", f"gloo-proxy-{name}", "-n", NAMESPACE)
    await_that("refusal of a Gateway without its parameters", 30, lambda: refused("there is none"))
    must("a Gateway that was never served has a Service", not service())

    def parameters(**values):
        apply({"apiVersion": "clingfish.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"service": values}})

    own = {"type": "NodePort", "labels": {"team": "edge"}, "annotations": {"example.com/a": "b"}, "externalTrafficPolicy": "Cluster", "nodePorts": [{"port": 8080, "nodePort": 30880}]}
    parameters(**own)
    await_that("programmed Gateway", 60, programmed_in(NAMESPACE, name))
    found = service()
    told = (found["spec"]["type"], found["spec"]["externalTrafficPolicy"], found["spec"]["ports"][0]["nodePort"], found["metadata"]["labels"]["team"], found["metadata"]["annotations"]["example.com/a"])
    must(f"the Service has {told}", told == ("NodePort", "Cluster", 30880, "edge", "b"))
    for values, words in ((dict(own, nodePorts=[{"port": 8080, "nodePort": 70000}]), "spec.service.nodePorts[0].nodePort"), (dict(own, typ="x"), "spec.service.typ")):
        parameters(**values)
        await_that(f"refusal that names {words}", 30, lambda: refused(words))
        must("the Gateway is not served", programmed_in(NAMESPACE, name)())
    kubectl("delete", kind, name, "-n", NAMESPACE)
    await_that("refusal of a Gateway whose parameters are gone", 30, lambda: refused("there is none"))
    must("the Service was changed", service()["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"])
    parameters(type="ClusterIP")
    await_that("accepted Gateway", 30, lambda: accepted().get("status") == "True" and service()["spec"]["type"] == "ClusterIP")
    must("the Service is another one", service()["metadata"]["uid"] == found["metadata"]["uid"])
    kubectl("delete", f"gateway/{name}", f"{kind}/{name}", "-n", NAMESPACE)
    tested = run("helm", "test", "clingfish", "-n", NAMESPACE, "--timeout=150s")
    must(f"helm test: {tested[-300:]}", "Phase:          Succeeded" in tested)
    return f"the Service had {told}, and stayed through wrong values; helm test passed"
