"""Step: clingfish doctor, from outside the cluster, as an operator runs it."""
import json, os, subprocess

import scene
from install import certificate, must_be_programmed
from kube import StepError, apply, await_that, get, kubectl, must, rolled_out
from scene import BACKEND, NAMESPACE

BINARY = os.environ.get("E2E_BINARY", "")


def doctor():
    """clingfish doctor finds nothing in a healthy install, and names each of nine things that are broken, with what to do"""
    if not BINARY:
        return "skipped: no binary to run outside the cluster"
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    scene.guide("maglev")
    # A pod that an earlier step killed is a finding for an hour.
    kubectl("rollout", "restart", f"deployment/{scene.deployment(True)}", "-n", NAMESPACE)
    rolled_out(NAMESPACE, scene.deployment(True))
    try:
        await_that("healthy install", 60, lambda: not problems(), every=1)
    except StepError as error:
        raise StepError(f"{error}: {problems()}") from error
    must("a page for people is not good news", ask("--output", "text")[0] == 0)
    must("an API server that is not there is no problem", run_doctor({"KUBECONFIG": "/nowhere"})[0] == 2)
    must("a namespace without an install is no problem", ask("-n", "default")[0] == 2)
    told = []
    for check, words, breaks, mends in CASES:
        breaks()
        try:
            found = await_that(f"finding of {check}", 60, lambda: finding(check, words), every=1)
            told.append(f"{check}: {found['what'][:60]}")
        finally:
            mends()
        await_that(f"end of the finding of {check}", 90, lambda: not problems(), every=1)
    return f"{len(told)} of {len(CASES)} named, each gone when mended: {'; '.join(told)}"


def run_doctor(environment, *arguments):
    done = subprocess.run([BINARY, "doctor", *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def ask(*arguments):
    return run_doctor({}, *arguments)


def report():
    code, text = ask("--output", "json")
    found = json.loads(text)
    must(f"exit code {code} with {found['verdict']}", code == {"good": 0, "findings": 1, "unasked": 2}[found["verdict"]])
    return found


def problems():
    return [f"{check['check']}: {line}" for check in report()["checks"] for line in [*check["findings"], *check["unasked"]]]


def finding(check, words):
    """The finding of this check with these words, if there is one; each says what to do."""
    found = [finding for outcome in report()["checks"] if outcome["check"] == check for finding in outcome["findings"]]
    must(f"a finding without what to do: {found}", all(finding["to_do"] for finding in found))
    return next((finding for finding in found if words in finding["object"] + " " + finding["what"]), None)


def rule_of_events():
    rules = get("clusterrole", f"{NAMESPACE}:clingfish")["rules"]
    return next(index for index, rule in enumerate(rules) if "events" in rule["resources"])


def patch(kind, name, *operations):
    kubectl("patch", kind, name, "--type=json", "-p", json.dumps(operations))


SAVED = {}


def take_right():
    index = rule_of_events()
    SAVED["rule"] = get("clusterrole", f"{NAMESPACE}:clingfish")["rules"][index]
    patch("clusterrole", f"{NAMESPACE}:clingfish", {"op": "remove", "path": f"/rules/{index}"})


def give_right():
    patch("clusterrole", f"{NAMESPACE}:clingfish", {"op": "add", "path": "/rules/-", "value": SAVED["rule"]})


# A CRD of an older version, which drops what it does not know.
SPEC = "/spec/versions/0/schema/openAPIV3Schema/properties/spec"
KEEPS = [f"{SPEC}/x-kubernetes-preserve-unknown-fields", f"{SPEC}/properties/kube/x-kubernetes-preserve-unknown-fields"]
FIELD = f"{SPEC}/properties/kube/properties/serviceNamespace"


def take_field():
    value = get("crd", "upstreams.gloo.solo.io")
    for part in FIELD.split("/")[1:]:
        value = value[int(part)] if part.isdigit() else value[part]
    SAVED["field"] = value
    patch("crd", "upstreams.gloo.solo.io", *({"op": "remove", "path": path} for path in (FIELD, *KEEPS)))


def give_field():
    # The API server may have dropped the field from what was written meanwhile.
    patch("crd", "upstreams.gloo.solo.io", {"op": "add", "path": FIELD, "value": SAVED["field"]}, *({"op": "add", "path": path, "value": True} for path in KEEPS))
    apply(scene.manifest("upstream-maglev.yaml"))


def gateway(name, listener, class_name="gloo-gateway"):
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"gatewayClassName": class_name, "listeners": [listener]}}


HTTPS = {"name": "https", "protocol": "HTTPS", "port": 443, "tls": {"certificateRefs": [{"name": "web"}]}}
STATIC = {"apiVersion": "gloo.solo.io/v1", "kind": "Upstream", "metadata": {"name": "by-service", "namespace": NAMESPACE}, "spec": {"static": {"hosts": [{"addr": f"httpbin.{BACKEND}.svc.cluster.local", "port": 8000}]}, "loadBalancerConfig": {"maglev": {}}}}


def expiring():
    certificate(NAMESPACE, "soon")
    apply(gateway("expiring", HTTPS))
    must_be_programmed(NAMESPACE, "expiring")


def no_more_expiring():
    kubectl("delete", "gateway", "expiring", "-n", NAMESPACE)
    kubectl("delete", "secret", "web", "-n", NAMESPACE)


# The check, words of its finding, how it is broken and how it is mended.
CASES = [
    ("rights", "may not create events", take_right, give_right),
    ("crds", "does not know spec.kube.serviceNamespace", take_field, give_field),
    ("backends", "has no endpoints", lambda: scene.scale(0), lambda: scene.scale(2)),
    ("affinity", "istio-injection", lambda: kubectl("label", "namespace", NAMESPACE, "istio-injection=enabled"), lambda: kubectl("label", "namespace", NAMESPACE, "istio-injection-")),
    ("affinity", "by-service", lambda: apply(STATIC), lambda: kubectl("delete", "upstream", "by-service", "-n", NAMESPACE)),
    ("gateways", "listener https", lambda: apply(gateway("uncertified", HTTPS)), lambda: kubectl("delete", "gateway", "uncertified", "-n", NAMESPACE)),
    ("classes", "no GatewayClass nobodys", lambda: apply(gateway("astray", {"name": "http", "protocol": "HTTP", "port": 80}, "nobodys")), lambda: kubectl("delete", "gateway", "astray", "-n", NAMESPACE)),
    ("routes", "HTTPRoute gloo-system/astray", lambda: apply(scene.manifest("route.yaml").replace("httpbin-upstream", "astray").replace("name: http\n", "name: nowhere\n")), lambda: kubectl("delete", "httproute", "astray", "-n", NAMESPACE)),
    ("certificates", "expires in", expiring, no_more_expiring),
]
