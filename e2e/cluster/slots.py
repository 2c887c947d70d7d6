"""The step `slots`: with identity Slot a rollout moves each session once, and a scale-up the ideal share."""
import collections, time

import scene
from kube import apply, await_that, get, kubectl, must
from scene import BACKEND, NAMESPACE, Load, manifest, no_failures

POLICY = {
    "apiVersion": "clingfish.dev/v1alpha1", "kind": "AffinityPolicy", "metadata": {"name": "httpbin", "namespace": BACKEND},
    "spec": {
        "targetRefs": [{"group": "", "kind": "Service", "name": "httpbin"}],
        "keys": [{"cookie": {"name": "slotcookie", "ttl": "1h"}}], "identity": "Slot", "spareTime": "10s",
    },
}
ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "slots", "namespace": NAMESPACE},
    "spec": {
        "parentRefs": [{"name": "http"}], "hostnames": ["slots.example"],
        "rules": [{"backendRefs": [{"name": "httpbin", "namespace": BACKEND, "port": 8000}]}],
    },
}
GRANT = {
    "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant", "metadata": {"name": "slots", "namespace": BACKEND},
    "spec": {"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": NAMESPACE}], "to": [{"group": "", "kind": "Service"}]},
}
# A pod is ready before another one leaves, and one that leaves still serves while gateways learn of it.
ROLLOUT = """
spec:
  strategy: {type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 2}}
  template: {spec: {containers: [{name: httpbin, lifecycle: {preStop: {sleep: {seconds: 5}}}}]}}
"""
SESSIONS = 200


def slots():
    """A rollout of 10 pods with identity Slot under load: each session moves once, 0 needlessly, 0 failed; 10 - 12 moves the ideal share"""
    scene.installed(gloo=True)
    scene.backend(replicas=1)
    apply(manifest("gateway.yaml"), POLICY, ROUTE, GRANT)
    kubectl("patch", "deployment", "httpbin", "-n", BACKEND, "--patch", ROLLOUT)
    scene.scale(10)
    told = await_that("10 pods with a slot each", 60, lambda: settled(10))
    load = Load("slots", scene.url(), host="slots.example", sessions=SESSIONS, key="cookie=slotcookie", slow_every="0")
    try:
        before = load.places()
        kubectl("rollout", "restart", "deployment/httpbin", "-n", BACKEND)
        scene.settled(10)
        rolled = load.places()
        must("the slots have other numbers after the rollout", await_that("10 pods with a slot each", 60, lambda: settled(10)) == told)
        began = load.state()["now"]
        scene.scale(12)
        await_that("12 pods with a slot each", 60, lambda: settled(12))
        time.sleep(1)
        scaled = load.places()
    finally:
        totals, events = load.stop()
        kubectl("delete", "httproute", "slots", "-n", NAMESPACE)
        kubectl("delete", "affinitypolicy", "httpbin", "-n", BACKEND)
    no_failures(totals, events)
    moves = collections.Counter(event["s"] for event in events if event["kind"] == "move" and event["t"] <= began)
    needless = [session for session, place in rolled.items() if place["pod"] == before[session]["pod"]]
    must(f"{len(needless)} sessions are on pods that are gone", not needless)
    odd = {session: count for session, count in moves.items() if count != 1}
    must(f"{len(odd)} sessions moved more than once: {odd}; {[e for e in events if e.get('s') in odd][:12]}", not odd)
    must(f"{len(moves)} of {SESSIONS} sessions moved", len(moves) == SESSIONS)
    known = {place["pod"] for place in rolled.values()}
    went = [session for session, place in scaled.items() if place["pod"] != rolled[session]["pod"]]
    stray = [session for session in went if scaled[session]["pod"] in known]
    must(f"10 - 12 moved {len(went)} of {SESSIONS}, {len(stray)} of them to pods that were there", SESSIONS / 12 < len(went) < SESSIONS / 3 and len(stray) <= SESSIONS / 20)
    return f"rollout: {sum(moves.values()) / SESSIONS:.2f} moves a session, 0 needless, 0 of {totals['requests']} requests failed; 10 - 12: {len(went)} moved (ideal {SESSIONS / 6:.0f}), {len(stray)} needlessly"


def settled(count):
    """The numbers of the slots, if there are so many, all held, and nobody waits."""
    spec = (get("affinityslots", "service-httpbin", "-n", BACKEND) or {}).get("spec", {})
    held = [slot["number"] for slot in spec.get("slots", []) if slot.get("holder")]
    return sorted(held) if len(held) == len(spec.get("slots", [])) == count and not spec.get("spares") else None
