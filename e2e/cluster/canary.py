"""Step: a canary with `split: Hash` is raised and taken back, and each user changes the version at most once."""
import json

import scene
from agree import Replica, endpoint
from kube import StepError, apply, await_that, condition, get, kubectl, must, pods
from scene import BACKEND, NAMESPACE, SELECTOR, manifest

WEIGHTS, USERS = (1, 5, 25, 100, 1), 200
POLICY = """
apiVersion: clingfish.dev/v1alpha1
kind: AffinityPolicy
metadata: {name: canary, namespace: httpbin}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: canary}]
  keys: [{header: {name: x-user}}]
  split: Hash
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: httpbin}
spec:
  parentRefs: [{name: http, namespace: gloo-system}]
  hostnames: [agree.example]
  rules:
  - backendRefs: [{name: canary-old, port: 8000, weight: OLD}, {name: canary-new, port: 8000, weight: NEW}]
    filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-weight, value: "NEW"}]}}]
"""


def canary():
    """A canary 1 -> 5 -> 25 -> 100 -> 1 asked of two gateway pods: 0 users move more than once or back, and the first ones are left in the end"""
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    gateways = pods(NAMESPACE, SELECTOR)
    must(f"{len(gateways)} gateway pods", len(gateways) == 2)
    old, new = pods(BACKEND, "app=httpbin")
    apply(manifest("gateway.yaml"), POLICY, route(WEIGHTS[0]), *version("canary-old", old), *version("canary-new", new))
    try:
        await_that("programmed Gateway", 60, lambda: condition(get("gateway", "http", "-n", NAMESPACE), "Programmed").get("status") == "True")
        with Replica(gateways[0]) as one, Replica(gateways[1]) as other:
            steps = [step(weight, (one, other), {old["metadata"]["name"]: False, new["metadata"]["name"]: True}) for weight in WEIGHTS]
    finally:
        for kind, name in (("affinitypolicy", "canary"), ("httproute", "canary"), *((kind, f"canary-{version}") for kind in ("service", "endpointslice") for version in ("old", "new"))):
            kubectl("delete", kind, name, "-n", BACKEND, "--ignore-not-found")
    raised = steps[:-1]
    back = [user for before, after in zip(raised, raised[1:]) for user in before - after]
    must(f"users that went back while the canary was raised: {back}", not back)
    must(f"at 100 % only {len(raised[-1])} of {USERS} users are there", len(raised[-1]) == USERS)
    must(f"taken back, the canary has {sorted(steps[-1])} in the place of {sorted(steps[0])}", steps[-1] == steps[0])
    must(f"at 25 % the canary has {len(steps[2])} of {USERS} users", USERS * 0.12 < len(steps[2]) < USERS * 0.4)
    return f"{' -> '.join(f'{weight} %: {len(users)}' for weight, users in zip(WEIGHTS, steps))} of {USERS} users, the same at both gateway pods; 0 moved more than once or back"


def step(weight, replicas, versions):
    """The users of the canary once both replicas have this weight; both must say the same of every user."""
    apply(route(weight))

    def users_of(replica):
        return {user for user in range(USERS) if versions[ask(replica, user, weight)]}

    first, second = (await_that(f"weight {weight} in both replicas", 60, lambda replica=replica: [users_of(replica)])[0] for replica in replicas)
    must(f"at {weight} % the replicas differ about users {sorted(first ^ second)}", first == second)
    return first


def ask(replica, user, weight):
    """The pod that answers a user, by a rule of this weight."""
    body, headers = replica.ask(replica.data, "/hostname", {"Host": "agree.example", "x-user": f"user-{user}"})
    if headers.get("x-weight") != str(weight):
        raise StepError(f"the rule has weight {headers.get('x-weight')} and not {weight}")
    return json.loads(body)["hostname"]


def route(weight):
    return ROUTE.replace("NEW", str(weight)).replace("OLD", str(100 - weight))


def version(name, pod):
    """A Service with one pod."""
    labels = {"kubernetes.io/service-name": name}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": BACKEND}, "spec": {"ports": [{"name": "http", "port": 8000}]}}
    yield {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": name, "namespace": BACKEND, "labels": labels}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}], "endpoints": [endpoint(pod["status"]["podIP"], pod["metadata"])],
    }
