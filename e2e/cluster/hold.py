"""Step: sessions of a policy with `hold: WhileAlive` stay on their pods for as long as these serve."""
import datetime, json, re, time

import scene
from kube import apply, await_that, get, items, kubectl, must, pods
from scene import BACKEND, NAMESPACE, SELECTOR, Load, manifest, no_failures

# How long a pod that ends goes on serving; main.py makes it shorter for --quick.
PRE_STOP = {"seconds": 60}

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: hold, namespace: httpbin}
spec:
  parentRefs: [{name: http, namespace: gloo-system}]
  hostnames: [hold.example]
  rules: [{backendRefs: [{name: httpbin, port: 8000}]}]
"""

POLICY = """
apiVersion: clingfish.dev/v1alpha1
kind: AffinityPolicy
metadata: {name: hold, namespace: httpbin}
spec:
  targetRefs: [{group: "", kind: Service, name: httpbin}]
  keys: [{cookie: {name: sid, ttl: 1h}}]
  hold: WhileAlive
"""


def hold():
    """3 - 10 - 3 pods under load through two gateway pods: no session moves while its pod serves, a preStop hook included, 0 failed"""
    scene.installed(gloo=True)
    scene.backend(replicas=3)
    with_pre_stop(PRE_STOP["seconds"])
    scene.settled(3)
    apply(manifest("gateway.yaml"), ROUTE, POLICY)
    await_that("accepted policy", 30, policy_is_accepted)
    gateways = pods(NAMESPACE, SELECTOR)
    must(f"{len(gateways)} gateway pods", len(gateways) >= 2)
    loads = []
    try:
        loads.append(Load("hold-first", scene.url(), host="hold.example", key="cookie=sid"))
        first = loads[0].places()
        scene.scale(10)
        must_stay("more pods", first, loads[0].places())
        loads.append(Load("hold-second", scene.url(), host="hold.example", key="cookie=sid"))
        second = loads[1].places()
        spread = {place["pod"] for place in second.values()}
        must(f"new sessions are on {len(spread)} of 10 pods", len(spread) == 10)
        lag = loads[0].lag()
        kubectl("scale", "deployment", "httpbin", "-n", BACKEND, "--replicas=3")
        ends = await_that("seven pods that end", 20, ending)
        seen = await_that("the same in the metrics", 20, lambda: (lambda counts: counts if set(counts) == {7.0} else None)(draining(gateways)))
        # With most of their time behind them.
        while time.time() < min(ends.values()) - PRE_STOP["seconds"] / 3:
            time.sleep(1)
        for load, before in zip(loads, (first, second)):
            must_stay("pods that end", before, load.places())
        scene.settled(3)
        time.sleep(2)
        left = {pod["metadata"]["name"] for pod in pods(BACKEND, "app=httpbin")}
        for load in loads:
            lost = {place["pod"] for place in load.places().values()} - left
            must(f"sessions on pods that are gone: {lost}", not lost)
    finally:
        told = [load.stop() for load in loads]
        for kind in ("affinitypolicy", "httproute"):
            kubectl("delete", kind, "hold", "-n", BACKEND, "--ignore-not-found")
        with_pre_stop(None)
    moved = []
    for totals, events in told:
        no_failures(totals, events)
        moved += [event for event in events if event["kind"] == "move"]
    # A second for what is between the clocks.
    early = [event for event in moved if event["sent"] / 1000 - lag < ends.get(event["from"], float("inf")) - 1]
    must(f"{len(early)} sessions moved while their pod served: {early[:3]}", not early)
    expected = sum(place["pod"] in ends for places in (first, second) for place in places.values())
    must(f"{len(moved)} moves, {expected} sessions were on pods that ended", len(moved) == expected)
    requests = sum(totals["requests"] for totals, _ in told)
    return (
        f"0 of {requests} requests failed; of {len(first) + len(second)} sessions 0 moved at 3 - 10, 0 in the {PRE_STOP['seconds']} s of preStop of "
        f"{len(ends)} pods (seen as draining by {len(seen)} gateway pods), and {len(moved)} once, when their pod was gone"
    )


def with_pre_stop(seconds):
    """Pods go on serving for so long after they were told to end."""
    hook = {"preStop": {"sleep": {"seconds": seconds}}} if seconds else None
    spec = {"terminationGracePeriodSeconds": (seconds or 20) + 10, "containers": [{"name": "httpbin", "lifecycle": hook}]}
    kubectl("patch", "deployment", "httpbin", "-n", BACKEND, "-p", json.dumps({"spec": {"template": {"spec": spec}}}))


def policy_is_accepted():
    ancestors = (get("affinitypolicy", "hold", "-n", BACKEND) or {}).get("status", {}).get("ancestors", [])
    conditions = [c for ancestor in ancestors for c in ancestor["conditions"]]
    return any(c["type"] == "Accepted" and c["status"] == "True" for c in conditions)


def ending():
    """When the preStop hook of each of seven pods ends."""
    found = {}
    for pod in items("pods", "-n", BACKEND, "-l", "app=httpbin"):
        if at := pod["metadata"].get("deletionTimestamp"):
            gone = datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()
            found[pod["metadata"]["name"]] = gone - pod["metadata"]["deletionGracePeriodSeconds"] + PRE_STOP["seconds"]
    return found if len(found) == 7 else None


def draining(gateways):
    """What each gateway pod says of pods that end and still serve."""
    counts = []
    for gateway in gateways:
        text = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{gateway['metadata']['name']}:9901/proxy/metrics")
        counts += [float(count) for count in re.findall(r"(?m)^clingfish_affinity_draining_hosts (\S+)$", text)]
    return counts


def must_stay(when, before, after):
    moved = [session for session, place in after.items() if place["pod"] != before[session]["pod"]]
    must(f"{when}: {len(moved)} sessions moved", not moved)
