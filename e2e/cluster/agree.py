"""Steps: replicas agree about every key while pods come and go, what moves is told, and a map of slots that is refused is seen."""
import http.client, json, random, re, threading, time

import scene
from kube import PortForward, StepError, apply, await_that, get, items, kubectl, must, pods
from operator_day import lead, metrics
from scene import BACKEND, NAMESPACE, SELECTOR, manifest

CHANGES, SESSIONS = 100, 40
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: agree, namespace: httpbin}
spec:
  parentRefs: [{name: http, namespace: gloo-system}]
  hostnames: [agree.example]
  rules: [{backendRefs: [{name: SERVICE, port: 8000}]}]
"""
POLICY = """
apiVersion: clingfish.dev/v1alpha1
kind: AffinityPolicy
metadata: {name: agree, namespace: httpbin}
spec:
  targetRefs: [{group: "", kind: Service, name: SERVICE}]
  keys: [{cookie: {name: sid, ttl: 1h}}]
  FIELD
"""
# Endpoints that come and go have nobody behind them: sessions that are bound never ask them.
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "agree", "namespace": BACKEND}, "spec": {"ports": [{"name": "http", "port": 8000}]}}
REFUSAL = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: e2e-no-slots}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [clingfish.dev], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [affinityslots]}]
  validations: [{expression: "false", message: "the e2e test wants no slots"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: e2e-no-slots}
spec: {policyName: e2e-no-slots, validationActions: [Deny]}
"""


def agree():
    """100 changes of endpoints seen by two gateway pods: the time in which any key's pods differ (p99), 0 bound sessions moved, Agreed told once"""
    scene.installed(gloo=True)
    scene.backend(replicas=3)
    gateways = pods(NAMESPACE, SELECTOR)
    must(f"{len(gateways)} gateway pods", len(gateways) == 2)
    real = [endpoint(pod["status"]["podIP"], pod["metadata"]) for pod in pods(BACKEND, "app=httpbin")]
    apply(SERVICE, slice_of(real))
    apply(manifest("gateway.yaml"), ROUTE.replace("SERVICE", "agree"), POLICY.replace("SERVICE", "agree").replace("FIELD", "hold: WhileAlive"))
    try:
        await_that("policy whose replicas agree", 60, lambda: told("Agreed").get("reason") == "ReplicasAgree")
        with Replica(gateways[0]) as one, Replica(gateways[1]) as other:
            await_that("the same tables in both", 30, lambda: one.digest() == other.digest())
            return churned(one, other, real)
    finally:
        for kind in ("affinitypolicy", "httproute", "service", "endpointslice"):
            kubectl("delete", kind, "agree", "-n", BACKEND, "--ignore-not-found")


def churned(one, other, real):
    """Changes the endpoints while both replicas are asked for their tables and for every session."""
    sessions = await_that("sessions that both replicas know", 30, lambda: [session(one, other) for _ in range(SESSIONS)])
    written = get("affinitypolicy", "agree", "-n", BACKEND)["metadata"]["resourceVersion"]
    stop, samples, wrong, asked = threading.Event(), [], [], [0]

    def look():
        while not stop.is_set():
            samples.append((time.monotonic(), one.digest(), other.digest()))
            time.sleep(0.005)

    def ask():
        while not stop.is_set():
            for number, (cookie, pod) in enumerate(sessions):
                for replica in (one, other):
                    found = replica.place(cookie)[0]
                    asked[0] += 1
                    if found != pod:
                        wrong.append(f"session {number}: {pod} -> {found}")

    failed = []

    def guarded(work):
        try:
            work()
        except Exception as error:  # a thread's end must fail the step
            failed.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in (look, ask)]
    for thread in threads:
        thread.start()
    try:
        # The same changes in every run.
        chance, seen = random.Random(17), 0
        for _ in range(CHANGES):
            before = one.digest()
            made_up = [endpoint(f"10.244.250.{number}", {"name": f"made-up-{number}", "uid": f"made-up-{number}"}) for number in chance.sample(range(1, 200), chance.randint(1, 6))]
            apply(slice_of(real + made_up))
            await_that("the change in both replicas", 10, lambda: one.digest() == other.digest() != before, every=0.02)
            seen += 1
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    must(f"a thread failed: {failed}", not failed)
    must(f"{len(wrong)} of {asked[0]} answers were of another pod: {wrong[:5]}", not wrong)
    must(f"bound sessions were asked for {asked[0]} times only", asked[0] > 2 * SESSIONS)
    spans = sorted(differing(samples))
    p99 = spans[min(len(spans) - 1, int(len(spans) * 0.99))] if spans else 0.0
    must(f"tables differed for {spans[-1] if spans else 0:.3f} s", not spans or spans[-1] < 1)
    condition = told("Agreed")
    must(f"Agreed is {condition}", condition.get("status") == "True")
    now = get("affinitypolicy", "agree", "-n", BACKEND)["metadata"]["resourceVersion"]
    must(f"the policy was written meanwhile: {written} -> {now}", now == written)
    return (
        f"{seen} changes, looked at every {(samples[-1][0] - samples[0][0]) / len(samples) * 1000:.0f} ms: tables differed {len(spans)} times, for {p99 * 1000:.0f} ms (p99), "
        f"{(spans[-1] if spans else 0) * 1000:.0f} ms at most; 0 of {asked[0]} requests of {SESSIONS} bound sessions elsewhere; the status was not written again"
    )


def differing(samples):
    """How long each stretch of looks lasted in which the two had other tables."""
    spans, since = [], None
    for moment, one, other in samples:
        if one != other:
            since = since or moment
        elif since:
            spans.append(moment - since)
            since = None
    return spans


def session(one, other):
    """A session's cookie and pod; both replicas must know it."""
    pod, cookie = one.place()
    must(f"session of {pod} elsewhere", other.place(cookie)[0] == pod)
    return cookie, pod


def endpoint(address, pod):
    target = {"kind": "Pod", "namespace": BACKEND, "name": pod["name"], "uid": pod["uid"]}
    return {"addresses": [address], "conditions": {"ready": True, "serving": True, "terminating": False}, "targetRef": target}


def slice_of(endpoints):
    metadata = {"name": "agree", "namespace": BACKEND, "labels": {"kubernetes.io/service-name": "agree"}}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}


def told(type_):
    """The condition of the policy, at its Gateway."""
    ancestors = (get("affinitypolicy", "agree", "-n", BACKEND) or {}).get("status", {}).get("ancestors", [])
    return next((c for ancestor in ancestors for c in ancestor["conditions"] if c["type"] == type_), {})


class Replica:
    """One gateway pod, asked past the Service."""

    def __init__(self, pod):
        name = pod["metadata"]["name"]
        service = await_that("Service of the Gateway", 60, lambda: get("service", "gloo-proxy-http", "-n", NAMESPACE))
        self.admin = PortForward(NAMESPACE, f"pod/{name}", 9901)
        self.data = PortForward(NAMESPACE, f"pod/{name}", service["spec"]["ports"][0]["targetPort"])

    def digest(self):
        return json.loads(self.ask(self.admin, "/digest")[0])["digest"]

    def place(self, cookie=None):
        """The pod that answers, and the cookie to come back with."""
        body, headers = self.ask(self.data, "/hostname", {"Host": "agree.example", **({"Cookie": cookie} if cookie else {})})
        given = headers.get("set-cookie")
        return json.loads(body)["hostname"], given.split(";")[0] if given else cookie

    def ask(self, forward, path, headers={}):
        """The body and the headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", forward.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise StepError(f"{path}: {response.status} {body[:200]}")
        return body, response.headers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.admin.__exit__()
        self.data.__exit__()


def moves():
    """kubectl scale 2 - 4: an Event on the Service says what moved and why, and so do the metrics of both gateway pods"""
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    apply(manifest("gateway.yaml"), ROUTE.replace("SERVICE", "httpbin"), POLICY.replace("SERVICE", "httpbin").replace("FIELD", "identity: Address"))
    try:
        await_that("policy that counts", 60, lambda: told("Accepted").get("status") == "True")
        gateways = pods(NAMESPACE, SELECTOR)
        before = {gateway["metadata"]["name"]: scaled(gateway) for gateway in gateways}
        known = {event["metadata"]["uid"] for event in moved_events()}
        scene.scale(4)
        # Changes of steps before may still wait for theirs: at most 100 of them, one a second.
        event = await_that("Event on the Service", 150, lambda: next((e for e in moved_events() if e["metadata"]["uid"] not in known), None))
        must(f"the Event says {event}", "scale" in event.get("message", event.get("note", "")))
        grown = await_that("moves in the metrics of both", 30, lambda: all_grown(gateways, before))
    finally:
        for kind in ("affinitypolicy", "httproute"):
            kubectl("delete", kind, "agree", "-n", BACKEND, "--ignore-not-found")
    return f"{event.get('message') or event.get('note')}; counted by {len(grown)} gateway pods: {', '.join(f'{share:.2f}' for share in grown)}"


def moved_events():
    return items("events", "-n", BACKEND, "--field-selector", "reason=SessionsMoved,involvedObject.kind=Service,involvedObject.name=httpbin")


def scaled(gateway):
    """The shares of the keys that changes of the number of pods have moved, as the gateway pod counts them."""
    return float(re.search(r'(?m)^clingfish_affinity_moved_ratio_total\{cause="scale"\} (\S+)$', metrics(gateway)).group(1))


def all_grown(gateways, before):
    grown = [scaled(gateway) - before[gateway["metadata"]["name"]] for gateway in gateways]
    return grown if all(share > 0 for share in grown) else None


def slots_refused():
    """Nobody may write AffinitySlots: SlotsWritten=False with the reason, a metric of the leader; both are over when it may be written"""
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    kubectl("delete", "affinityslots", "service-httpbin", "-n", BACKEND, "--ignore-not-found")
    apply(REFUSAL)
    try:
        await_that("admission policy in force", 30, refuses)
        apply(manifest("gateway.yaml"), ROUTE.replace("SERVICE", "httpbin"), POLICY.replace("SERVICE", "httpbin").replace("FIELD", "identity: Slot"))
        said = await_that("condition that says why", 60, lambda: (lambda c: c if "wants no slots" in c.get("message", "") else None)(told("SlotsWritten")))
        must(f"the condition is {said}", said["status"] == "False" and said["reason"] == "SlotsRefused")
        leader = lambda: next(pod for pod in pods(NAMESPACE, SELECTOR) if lead(pod))
        await_that("refusal in the metrics", 10, lambda: "clingfish_affinity_slots_refused 1" in metrics(leader()))
        kubectl("delete", "-f", "-", input=REFUSAL)
        await_that("map of slots", 60, lambda: get("affinityslots", "service-httpbin", "-n", BACKEND))
        await_that("end of the condition", 20, lambda: told("Accepted").get("status") == "True" and not told("SlotsWritten"))
        await_that("end of the refusal in the metrics", 10, lambda: "clingfish_affinity_slots_refused 0" in metrics(leader()))
    finally:
        kubectl("delete", "-f", "-", "--ignore-not-found", input=REFUSAL)
        for kind in ("affinitypolicy", "httproute"):
            kubectl("delete", kind, "agree", "-n", BACKEND, "--ignore-not-found")
    return said["message"]


def refuses():
    probe = {"apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinitySlots", "metadata": {"name": "probe", "namespace": BACKEND}, "spec": {}}
    try:
        kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(probe))
    except StepError as error:
        return "wants no slots" in str(error)
