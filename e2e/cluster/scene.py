"""What the steps act on: the chart, the guide's Gateway, go-httpbin, sessions under load from a pod, and who is ready when."""
import itertools, json, os, pathlib, time

from kube import StepError, Watch, apply, await_that, condition, get, items, kubectl, must, pods, rolled_out, run
from tables import owner

HERE = pathlib.Path(__file__).parent
CHART = HERE.parent.parent / "charts" / "clingfish"
NAMESPACE, BACKEND, LOAD = "gloo-system", "httpbin", "e2e"
SELECTOR = "app.kubernetes.io/name=clingfish"
WHERE, IMAGE, LOAD_IMAGE = (os.environ.get(name, "") for name in ("E2E_WHERE", "E2E_IMAGE", "E2E_LOAD_IMAGE"))
CLUSTER = os.environ.get("CLUSTER", "")
HTTPBIN = "docker.io/mccutchen/go-httpbin:2.26.0"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SAFE = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 65532, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}


def manifest(name):
    return (HERE / "manifests" / name).read_text()


def namespace(name, labels=None):
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}


def deployment(gloo):
    return "gloo-proxy-http" if gloo else "clingfish"


def gateway_api():
    """The Gateway API's CRDs, if they are not there."""
    if get("crd", "gatewayclasses.gateway.networking.k8s.io"):
        return
    channel = os.environ.get("GATEWAY_API_CHANNEL", "experimental")
    if WHERE == "local":
        run(CLUSTER, "crds", channel)
    else:
        release = f"https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.6.3/{channel}-install.yaml"
        kubectl("apply", "--server-side", "-f", os.environ.get("GATEWAY_API_CRDS") or release)


def chart_values(gloo, values):
    """Flags of helm."""
    repository, tag = IMAGE.rsplit(":", 1)
    chosen = {"image.repository": repository, "image.tag": tag, "gloo.enabled": str(gloo).lower(), **values}
    if WHERE != "local":
        chosen.setdefault("service.type", "ClusterIP")
    # A tag such as 1 or 1.0 is text too.
    return [f"--set{'-string' if name == 'image.tag' else ''}={name}={value}" for name, value in chosen.items()]


def installed(gloo=True, **values):
    """The chart in a namespace that enforces the restricted Pod Security Standard, ready, with just these values."""
    gateway_api()
    apply(namespace(NAMESPACE, RESTRICTED))
    run("helm", "upgrade", "--install", "clingfish", str(CHART), "-n", NAMESPACE, "--reset-values", "--wait", "--timeout=120s", *chart_values(gloo, values))
    rolled_out(NAMESPACE, deployment(gloo))


def beside(release, where, **values):
    """Another release of the chart, ready."""
    apply(namespace(where, RESTRICTED))
    run("helm", "upgrade", "--install", release, str(CHART), "-n", where, "--reset-values", "--wait", "--timeout=120s", *chart_values(False, values))


def uninstalled():
    run("helm", "uninstall", "clingfish", "-n", NAMESPACE, "--ignore-not-found", "--wait", "--timeout=120s")
    await_that("end of the gateway's pods", 90, lambda: not items("pods", "-n", NAMESPACE, "-l", SELECTOR))


def backend(replicas=2):
    """go-httpbin as the guide's get-started page has it; no preStop hook, so it stops listening before anyone can know."""
    apply(namespace(BACKEND), manifest("httpbin.yaml"))
    scale(replicas)


def scale(replicas):
    kubectl("scale", "deployment", "httpbin", "-n", BACKEND, f"--replicas={replicas}")
    settled(replicas)


def settled(replicas):
    """Until exactly so many pods are there, ready, and none is leaving."""
    rolled_out(BACKEND, "httpbin")

    def all_ready():
        found = items("pods", "-n", BACKEND, "-l", "app=httpbin")
        return len(found) == replicas and all(condition(pod, "Ready").get("status") == "True" for pod in found)

    await_that(f"{replicas} httpbin pods and no other", 120, all_ready)


def guide(algorithm):
    """The guide's Gateway, Upstream with this algorithm, HTTPRoute and RouteOption; removed are other algorithms."""
    apply(manifest("gateway.yaml"), manifest("route.yaml"), manifest("routeoption.yaml"))
    kubectl("replace", "--force", "-f", "-", input=manifest(f"upstream-{algorithm}.yaml"))
    await_that("programmed Gateway", 60, lambda: condition(get("gateway", "http", "-n", NAMESPACE), "Programmed").get("status") == "True")


def url(service="gloo-proxy-http", where=NAMESPACE, port=8080):
    """The gateway's Service as a pod of the cluster reaches it."""
    return "http://" + authority(get("service", service, "-n", where)["spec"]["clusterIP"], port)


def authority(address, port):
    """Address and port as URLs and Envoy write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Backends:
    """Which pods of the Service are ready, as the API server tells it, with the times of every change."""

    def __init__(self):
        self.slices, self.sets, self.names = {}, [], {}
        self.watch = Watch(["endpointslices", "-n", BACKEND, "-l", "kubernetes.io/service-name=httpbin"], self.handle)
        await_that("ready pods", 30, lambda: self.sets and self.sets[-1][1])

    def handle(self, event, item):
        now, hosts = time.time(), set()
        port = next((p["port"] for p in item.get("ports") or [] if p.get("name") == "http"), None)
        for endpoint in item.get("endpoints") or [] if event != "DELETED" else []:
            host = authority(endpoint["addresses"][0], port)
            self.names[endpoint["targetRef"]["name"]] = host
            if endpoint["conditions"].get("ready", True):
                hosts.add(host)
        self.slices[item["metadata"]["name"]] = hosts
        ready = frozenset().union(*self.slices.values())
        if not self.sets or self.sets[-1][1] != ready:
            self.sets.append((now, ready))

    def now(self):
        return self.sets[-1][1]

    def between(self, start, end):
        """Every set that was in force at some time of the span."""
        bounds = [moment for moment, _ in self.sets[1:]] + [float("inf")]
        return [hosts for (begin, hosts), until in zip(self.sets, bounds) if begin <= end and until >= start]

    def stop(self):
        self.watch.stop()


class Load:
    """Sessions kept busy from a pod; `url` is the gateway as that pod reaches it."""

    def __init__(self, name, url, host="httpbin.example", sessions=200, connections=8, rate=200, key="cookie=hashbasedcookie", slow_every="1s"):
        self.name, self.path = name, f"/api/v1/namespaces/{LOAD}/pods/{name}:8099/proxy"
        self.period = sessions / rate
        arguments = [f"-url={url}", f"-host={host}", f"-sessions={sessions}", f"-connections={connections}", f"-rate={rate}", f"-{key}", f"-slow-every={slow_every}", "-control=:8099"]
        container = {"name": "load", "image": LOAD_IMAGE, "imagePullPolicy": "IfNotPresent", "args": arguments, "securityContext": SAFE}
        apply(namespace(LOAD, RESTRICTED))
        kubectl("delete", "pod", name, "-n", LOAD, "--ignore-not-found", "--grace-period=1")
        spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
        apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": LOAD}, "spec": spec})
        await_that("session on its pod, for every session", 60, lambda: len(self.state()["sessions"]) == sessions)

    def ask(self, what):
        return json.loads(kubectl("get", "--raw", f"{self.path}/{what}"))

    def state(self):
        return self.ask("state")

    def lag(self):
        """Seconds that the load's clock is ahead of this machine's."""
        before = time.time()
        told = self.state()["now"] / 1000
        return told - (before + time.time()) / 2

    def places(self):
        """Where every session is, each asked again since the call."""
        start = self.state()["now"]

        def all_asked():
            sessions = self.state()["sessions"]
            return sessions if all(place["sent"] > start for place in sessions.values()) else None

        return await_that("answer for every session", 30 + 4 * self.period, all_asked)

    def stop(self):
        """Totals and events, after what was in flight has ended."""
        self.ask("stop")
        state = await_that("end of the load", 60, lambda: (lambda s: s if s["done"] else None)(self.state()))
        events = self.ask("events") or []
        kubectl("delete", "pod", self.name, "-n", LOAD, "--grace-period=1", "--wait=false")
        return state["totals"], events


def misplaced(places, hosts, names, algorithm):
    """Sessions that are not where Envoy would put their key: what is wrong with each, by its number."""
    wrong = {}
    for session, place in places.items():
        expected, found = owner(algorithm, hosts, place["key"]), names.get(place["pod"])
        if found != expected:
            wrong[session] = f"session {session} with key {place['key']} is on {found}, Envoy says {expected}"
    return wrong


def unexplained(events, lag, backends, algorithm):
    """Moves that no set of ready pods near their time explains: neither the key's owner there, nor its owner without some of the pods that were
    leaving, where a failed connect to one of those sends it."""
    odd = []
    for event in events:
        if event["kind"] != "move":
            continue
        start, end, found = event["sent"] / 1000 - lag - 3, event["t"] / 1000 - lag + 2, backends.names.get(event["pod"])
        sets = backends.between(start, end)
        ready_throughout = frozenset.intersection(*sets) if sets else frozenset()
        allowed = {owner(algorithm, hosts, event["key"]) for hosts in (*sets, *without_some(sets, ready_throughout)) if hosts}
        if found not in allowed:
            odd.append(f"{event['key']}: {event['from']} -> {event['pod']} ({found}); allowed {sorted(allowed)}")
    return odd


def without_some(sets, ready_throughout):
    """Each set without any of its pods that were leaving."""
    for hosts in sets:
        leaving = sorted(hosts - ready_throughout)
        for count in range(1, len(leaving) + 1):
            for gone in itertools.combinations(leaving, count):
                if rest := hosts - frozenset(gone):
                    yield rest


def no_failures(totals, events):
    failures = [event for event in events if event["kind"] == "fail"]
    shown = "; ".join(f"{f['path']}: {f['error']}" for f in failures[:5])
    must(f"{totals['failed']} of {totals['requests']} requests failed: {shown}", totals["failed"] == 0 and not failures)
    must(f"only {totals['requests']} requests were sent", totals["requests"] > 100)
