"""Steps: what must not lose a request or move a session."""
import collections, datetime, itertools, json, os, pathlib, re, subprocess, time

import scene
from affinity import exact
from kube import StepError, apply, await_that, condition, get, items, kubectl, must, pods, rolled_out, run
from scene import BACKEND, CLUSTER, NAMESPACE, SELECTOR, WHERE, Backends, Load, no_failures

ALGORITHM = "maglev"
STATE = os.environ.get("CLUSTER_STATE", "/var/lib/clingfish-cluster")  # of a local cluster


class Sessions:
    """The guide under load, and what must hold at the end: no failed request, no moved session."""

    def __enter__(self):
        scene.installed(gloo=True)
        scene.backend(replicas=3)
        scene.guide(ALGORITHM)
        self.backends = Backends()
        self.load = Load("sessions", scene.url())
        exact(self.load, self.load.places(), self.backends, ALGORITHM, "at the start")
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                exact(self.load, self.load.places(), self.backends, ALGORITHM, "at the end")
        finally:
            totals, events = self.load.stop()
            self.backends.stop()
        if kind is None:
            no_failures(totals, events)
            must(f"{totals['moved']} sessions moved", totals["moved"] == 0)
            self.told = f"0 of {totals['requests']} requests failed, {totals['resent']} resent, slowest {totals['slowest_ms']} ms, no session of {scene_count(events)} moved"


def scene_count(events):
    return len({event["s"] for event in events if event["kind"] == "first"})


def new_route(name, seconds):
    """A new HTTPRoute is served, and its status written by whoever leads; returns seconds until the status."""
    text = scene.manifest("route.yaml").replace("httpbin-upstream", name).replace("httpbin.example", f"{name}.example")
    start = time.monotonic()
    apply(text)
    await_that(f"status of HTTPRoute {name}", seconds, lambda: condition(get("httproute", name, "-n", NAMESPACE), "Accepted", parent="http").get("status") == "True")
    took = time.monotonic() - start
    kubectl("delete", "httproute", name, "-n", NAMESPACE)
    return took


def gateway_rolled():
    """The gateway's own pods (2) are rolled under load: 0 failed, no session moves"""
    with Sessions() as sessions:
        before = {pod["metadata"]["name"] for pod in pods(NAMESPACE, SELECTOR)}
        kubectl("rollout", "restart", f"deployment/{scene.deployment(True)}", "-n", NAMESPACE)
        rolled_out(NAMESPACE, scene.deployment(True))
        await_that("end of the old pods", 90, lambda: not before & {pod["metadata"]["name"] for pod in items("pods", "-n", NAMESPACE, "-l", SELECTOR)})
        time.sleep(1)
    return sessions.told


def only_pod_replaced():
    """The only pod is rolled without a surge, with a preStop hook: it serves until its successor does, 0 failed"""
    scene.installed(gloo=True)
    scene.backend(replicas=1)
    scene.guide(ALGORITHM)
    hook = {"name": "httpbin", "lifecycle": {"preStop": {"sleep": {"seconds": 10}}}}
    no_surge = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    patch = {"spec": {"strategy": no_surge, "template": {"spec": {"containers": [hook]}}}}
    try:
        kubectl("patch", "deployment", "httpbin", "-n", BACKEND, "-p", json.dumps(patch))
        scene.settled(1)
        backends = Backends()
        load = Load("only-pod", scene.url())
        try:
            kubectl("rollout", "restart", "deployment/httpbin", "-n", BACKEND)
            scene.settled(1)
        finally:
            totals, events = load.stop()
            backends.stop()
    finally:
        kubectl("delete", "deployment", "httpbin", "-n", BACKEND)  # the next step has it without the hook
    no_failures(totals, events)
    spans = [until - since for (since, ready), (until, _) in itertools.pairwise(backends.sets) if not ready]
    must("a pod was ready all the while: nothing was shown", spans)
    return f"0 of {totals['requests']} requests failed, no pod was ready for {sum(spans):.1f} s"


def leader():
    """The name of the pod that holds the Lease."""
    holder = (get("lease", "clingfish", "-n", NAMESPACE) or {}).get("spec", {}).get("holderIdentity") or ""
    return next((pod["metadata"]["name"] for pod in pods(NAMESPACE, SELECTOR) if pod["metadata"]["name"] in holder), None)


def leader_killed():
    """The leader is stopped under load, then killed with SIGKILL: another leads, statuses go on, 0 failed in the first case"""
    with Sessions() as sessions:
        old = await_that("leader", 30, leader)
        kubectl("delete", "pod", old, "-n", NAMESPACE, "--wait=false")
        stopped = new_route("after-stop", 30)
        must("the leader is the same", leader() != old)
        rolled_out(NAMESPACE, scene.deployment(True))
    kill(await_that("leader", 30, leader))
    killed = new_route("after-kill", 45)
    rolled_out(NAMESPACE, scene.deployment(True))
    return f"{sessions.told}; a new route's status: {stopped:.1f} s after the leader was stopped, {killed:.1f} s after it was killed"


def kill(pod):
    """SIGKILL where the node is ours, else the shortest end that the API server offers."""
    if WHERE != "local":
        kubectl("delete", "pod", pod, "-n", NAMESPACE, "--grace-period=0", "--force")
        return
    container = get("pod", pod, "-n", NAMESPACE)["status"]["containerStatuses"][0]["containerID"].split("//")[1]
    run("ctr", "--address", f"{STATE}/containerd.sock", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", container)


def api_server_restarted():
    """The API server is silent for 40 s under load, then away for 15 s: 0 failed, no session moves, silence is noticed within 15 s, every watch is back within 5 s; an idle pod asks less than once a second"""
    if WHERE != "local":
        return "skipped: only where the API server is ours to stop"
    with Sessions() as sessions:
        idle = idle_requests()
        silence = api_server_silent()
        stopped = time.time()
        commands = stop_control_plane()
        time.sleep(15)
        start_control_plane(commands)
        took = new_route("after-return", 30)
        rolled_out(NAMESPACE, scene.deployment(True))
        told = {pod["metadata"]["name"]: outage_lines(pod, stopped) for pod in pods(NAMESPACE, SELECTOR)}
        # Twice, if an API server that is starting answers and then does not: never once for each of a dozen kinds.
        must(f"the outage was told in these lines: {told}", any(told.values()) and all(len(lines) <= 2 for lines in told.values()))
        restarts = sum(status["restartCount"] for pod in pods(NAMESPACE, SELECTOR) for status in pod["status"]["containerStatuses"])
    return f"{sessions.told}; {idle}; {silence}; a new route's status {took:.1f} s after the return, {restarts} restarts so far"


QUIET = 60


def idle_requests():
    """How often each pod asks the API server in a quiet minute, by the audit log."""
    time.sleep(10)  # what came before is written
    start = time.time()
    time.sleep(QUIET)
    asked = collections.Counter()
    for event in audit_events(start, start + QUIET):
        asked[pod_of(event)] += 1
    names = {pod["metadata"]["name"] for pod in pods(NAMESPACE, SELECTOR)}
    must(f"the audit log knows the pods {sorted(asked)}, not {sorted(names)}", names <= set(asked))
    rates = sorted(asked[name] / QUIET for name in names)
    must(f"idle pods ask {rates} times a second", rates[-1] < 1)
    return f"idle pods ask {' and '.join(f'{rate:.2f}' for rate in rates)} times a second"


def audit_events(start, end):
    """Requests of the gateway's account that came in this time, each once."""
    user, seen = f"system:serviceaccount:{NAMESPACE}:clingfish", set()
    for line in pathlib.Path(f"{STATE}/logs/audit.log").read_text().splitlines():
        if user not in line:
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the line being written
        came = datetime.datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp()
        # A watch has a line when it begins and one when it ends.
        if event["user"]["username"] == user and start <= came < end and event["auditID"] not in seen:
            seen.add(event["auditID"])
            yield event


def pod_of(event):
    return (event["user"].get("extra") or {}).get("authentication.kubernetes.io/pod-name", ["?"])[0]


def api_server_silent(seconds=40):
    """Packets between the gateway's pods and the API server are dropped: neither side hears of an end."""
    ports = {port["port"] for subset in get("endpoints", "kubernetes", "-n", "default")["subsets"] for port in subset["ports"]}
    gateways = pods(NAMESPACE, SELECTOR)
    ips = ", ".join(pod["status"]["podIP"] for pod in gateways)
    both = ", ".join(str(port) for port in ports)
    run("nft", "-f", "-", input=f"""table inet e2e {{
        chain in {{ type filter hook input priority -10; ip saddr {{ {ips} }} tcp dport {{ {both} }} drop; }}
        chain out {{ type filter hook output priority -10; ip daddr {{ {ips} }} tcp sport {{ {both} }} drop; }}
    }}""")
    gone = time.time()
    try:
        time.sleep(seconds)
    finally:
        run("nft", "delete", "table", "inet", "e2e")
    back = time.time()
    noticed = [max_first(first_line(pod, "does not answer", gone), pod) - gone for pod in gateways]
    must(f"the silence was noticed after {noticed} s", max(noticed) <= 15)
    away = await_that("all watches, 5 s after the return", 6, lambda: watches_are_back(gateways, back), every=0.3)
    must(f"all watches were back {away:.1f} s after the return", away <= 5)
    return f"silence noticed after {max(noticed):.1f} s, all watches back {away:.1f} s after its end"


def first_line(pod, words, since):
    """When a pod logged this for the first time since then; None if it did not."""
    log = kubectl("logs", "-n", NAMESPACE, pod["metadata"]["name"], "--timestamps", "--since=120s")
    times = [datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", line.split(" ", 1)[0])).timestamp() for line in log.splitlines() if words in line]
    return min((at for at in times if at >= since), default=None)


def max_first(at, pod):
    must(f"{pod['metadata']['name']} has not noticed the silence", at is not None)
    return at


def watches_are_back(gateways, back):
    """Seconds since the return, if every watch of every pod has had a sign of life since; else None."""
    before = time.time()
    for pod in gateways:
        metrics = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}:9901/proxy/metrics", timeout=10)
        ages = [float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith("clingfish_watch_age_seconds{")]
        if not ages or max(ages) > before - back:
            return None
    return before - back


def outage_lines(pod, since):
    """What a pod has logged of an API server that does not answer; nothing, if it was started after the outage."""
    log = kubectl("logs", "-n", NAMESPACE, pod["metadata"]["name"], f"--since={time.time() - since:.0f}s")
    return [line for line in log.splitlines() if "does not answer" in line]


def stop_control_plane():
    """Stops the API server and the controller manager; returns the command of each.

    A controller manager that lives through an outage finds the node's lease stale before it sees it renewed, half a minute
    after the return: then it marks every pod as not ready for a few seconds, and any gateway rightly has nowhere to send to."""
    commands = {}
    for part in ("controller-manager", "apiserver"):
        pid = pathlib.Path(f"{STATE}/pids/{part}").read_text().strip()
        commands[part] = pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
        run(CLUSTER, "stop", part)
    return commands


def start_control_plane(commands, *api_server_flags):
    """Starts what stop_control_plane stopped, the API server with these flags more."""
    start("apiserver", [*commands["apiserver"], *api_server_flags])
    await_that("API server", 60, lambda: kubectl("get", "--raw", "/readyz", timeout=10) == "ok")
    start("controller-manager", commands["controller-manager"])


def start(part, command):
    log = open(f"{STATE}/logs/{part}.log", "a")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    pathlib.Path(f"{STATE}/pids/{part}").write_text(str(process.pid))


def classic_lists():
    """An API server without streaming lists (WatchList=false): the gateway starts, serves and follows changes"""
    if WHERE != "local":
        return "skipped: only where the API server is ours to configure"
    commands = stop_control_plane()
    start_control_plane(commands, "--feature-gates=WatchList=false")
    try:
        with Sessions() as sessions:
            kubectl("rollout", "restart", f"deployment/{scene.deployment(True)}", "-n", NAMESPACE)
            rolled_out(NAMESPACE, scene.deployment(True))
            took = new_route("classic", 30)
        return f"{sessions.told}; a new route's status after {took:.1f} s"
    finally:
        stop_control_plane()
        start_control_plane(commands)


BROKEN = 1000


def broken_objects():
    """1,000 broken objects beside the good under load: each says so in its status, the good ones serve and change on"""
    with Sessions() as sessions:
        texts = [json.dumps(broken(number)) for number in range(BROKEN)]
        start = time.monotonic()
        kubectl("create", "-f", "-", input="\n---\n".join(texts))
        created = time.monotonic() - start
        took = new_route("beside-broken", 30)
        reported = await_that("status of every broken object", 180, all_reported, every=2)
        heal = broken(0)
        heal["spec"]["options"] = {"lbHash": {"hashPolicies": [{"header": "x-user"}]}}
        apply(heal)
        kubectl("delete", "httproutes,routeoptions,upstreams", "-n", NAMESPACE, "-l", "e2e=broken", "--wait=false")
        await_that("end of the broken objects", 120, lambda: not items("httproutes,routeoptions,upstreams", "-n", NAMESPACE, "-l", "e2e=broken"), every=2)
    return f"{sessions.told}; {BROKEN} created in {created:.0f} s, {reported} reported; a new route's status beside them after {took:.1f} s"


def broken(number):
    """RouteOptions, Upstreams and HTTPRoutes in turn, each wrong in its own way, none of them about the guide's objects."""
    kinds = [
        ("gateway.solo.io/v1", "RouteOption", {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": f"broken-{number + 2}"}], "options": {"lbHash": {"hashPolicies": [{"cookie": {"name": "a b;c", "ttl": "60s"}}]}}}),
        ("gloo.solo.io/v1", "Upstream", {"kube": {"serviceName": "httpbin", "serviceNamespace": "httpbin", "servicePort": 8000}, "loadBalancerConfig": {"ringHash": {"ringHashConfig": {"minimumRingSize": 2048, "maximumRingSize": 16}}}}),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", {"parentRefs": [{"name": "http"}], "hostnames": [f"broken-{number}.example"], "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "/(unclosed"}}], "backendRefs": [{"name": f"absent-{number}", "kind": "Upstream", "group": "gloo.solo.io"}]}]}),
    ]
    version, kind, spec = kinds[number % 3]
    return {"apiVersion": version, "kind": kind, "metadata": {"name": f"broken-{number}", "namespace": NAMESPACE, "labels": {"e2e": "broken"}}, "spec": spec}


def all_reported():
    """How many of them have a status that refuses them, if all have one."""
    found = items("httproutes,routeoptions,upstreams", "-n", NAMESPACE, "-l", "e2e=broken")
    refused = sum(refuses(item) for item in found)
    return refused if refused == BROKEN else None


def refuses(item):
    status = item.get("status", {})
    if item["kind"] == "HTTPRoute":
        return any(c["status"] == "False" for parent in status.get("parents", []) for c in parent["conditions"])
    return any(str(entry.get("state")) in ("Rejected", "2", "Warning", "3") for entry in status.get("statuses", {}).values())
