"""Steps: what the gateway tells, and what it asks."""
import json, os, pathlib, shutil, socket, subprocess, tempfile, time, urllib.error, urllib.parse, urllib.request

import scene
from kube import PortForward, await_that, get, items, kubectl, must, pods
from scene import NAMESPACE, SELECTOR, WHERE, Load, no_failures


def metrics():
    """A real Prometheus scrapes every gateway pod: the requests counted are the requests sent, series do not grow with routes"""
    if not shutil.which("prometheus"):
        return "skipped: no prometheus here (Debian's package of that name)"
    scene.installed(gloo=True)
    scene.backend(replicas=2)
    scene.guide("maglev")
    names = [pod["metadata"]["name"] for pod in pods(NAMESPACE, SELECTOR)]
    forwards = [PortForward(NAMESPACE, f"pod/{name}", 9901) for name in names]
    try:
        with Prometheus([f"127.0.0.1:{forward.port}" for forward in forwards]) as prometheus:
            await_that("scrape of every pod", 30, lambda: prometheus.value("sum(up)") == len(names))
            before, series = prometheus.value("sum(clingfish_requests_total)"), prometheus.value('count({__name__=~"clingfish_.*"})')
            load = Load("metrics", scene.url(), sessions=50, rate=200)
            load.places()
            totals, events = load.stop()
            no_failures(totals, events)
            sent = totals["requests"] + totals["resent"]
            counted = await_that(f"count of {sent} requests", 20, lambda: (lambda c: c if c - (before or 0) >= totals["requests"] else None)(prometheus.value("sum(clingfish_requests_total)")))
            must(f"{counted - (before or 0):.0f} requests counted, {totals['requests']} sent", counted - (before or 0) <= sent)
            baseline = prometheus.value('count({__name__=~"clingfish_.*"})')
            many_routes(50)
            time.sleep(5)
            grown = prometheus.value('count({__name__=~"clingfish_.*"})')
            kubectl("delete", "httproutes", "-n", NAMESPACE, "-l", "e2e=many")
            must(f"{baseline:.0f} series became {grown:.0f} with 50 routes", grown == baseline)
            return f"{len(names)} pods scraped, {counted - (before or 0):.0f} requests counted of {totals['requests']}, {baseline:.0f} series with or without 50 more routes (idle {series:.0f})"
    finally:
        for forward in forwards:
            forward.__exit__()


def logs():
    """One pod's log changes while it runs, at the admin port on its loopback; the access log has what the filters ask for, with trace ids"""
    scene.installed(gloo=True, accessLog="json", **{"accessLogFilter.status[0]": "4xx", "accessLogFilter.minDuration": "700ms"})
    scene.backend(replicas=1)
    scene.guide("maglev")
    changed, other = pods(NAMESPACE, SELECTOR)[:2]
    name = changed["metadata"]["name"]
    port = next(port["targetPort"] for port in get("service", "gloo-proxy-http", "-n", NAMESPACE)["spec"]["ports"] if port["port"] == 8080)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with PortForward(NAMESPACE, f"pod/{name}", 9902) as admin, PortForward(NAMESPACE, f"pod/{name}", port) as traffic:

        def logging(query=None):
            request = urllib.request.Request(f"http://127.0.0.1:{admin.port}/logging{f'?{query}' if query else ''}", method="POST" if query else "GET")
            return json.load(urllib.request.urlopen(request, timeout=5))

        def status(path):
            headers = {"host": "httpbin.example", "traceparent": f"00-{trace}-b7ad6b7169203331-00"}
            try:
                return urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{traffic.port}{path}", headers=headers), timeout=10).status
            except urllib.error.HTTPError as error:
                return error.code

        def log(pod=name):
            return kubectl("logs", "-n", NAMESPACE, pod).splitlines()

        await_that("the route", 30, lambda: status("/status/200") == 200)
        must("the level before is not the chart's", logging() == {"level": "info", "format": "json"})
        sent = [status(path) for path in ("/status/200", "/status/404", "/delay/1", "/status/418", "/status/500")]
        must(f"answers: {sent}", sent == [200, 404, 200, 418, 500])

        def of_requests():
            lines = [json.loads(line) for line in log() if line.startswith("{")]
            return [(line["path"], line["status"], line["trace_id"]) for line in lines if "upstream_host" in line]

        # While the route was awaited there may have been 404s, of no backend.
        expected = [("/status/404", 404, trace), ("/delay/1", 200, trace), ("/status/418", 418, trace)]
        await_that("lines of the access log", 10, lambda: [line for line in of_requests() if line[0] != "/status/200"][-3:] == expected)
        must(f"lines: {of_requests()}", not any(status in (200, 500) and path != "/delay/1" for path, status, _ in of_requests()))
        after = logging("level=debug&format=text")
        must(f"told {after}", after == {"level": "debug", "format": "text"} and logging() == after)
        # A route that is new makes the controller talk.
        many_routes(1)
        await_that("a line of the new level, in the new format", 20, lambda: any(" DEBUG " in line and not line.startswith("{") for line in log()))
        quiet = [line for line in log(other["metadata"]["name"]) if "DEBUG" in line]
        must(f"the other pod too: {quiet[:1]}", not quiet)
        told = [line for line in log() if "was changed at the admin port" in line]
        logging("level=info&format=json")
        kubectl("delete", "httproutes", "-n", NAMESPACE, "-l", "e2e=many")
        must("the change is not in the log", told)
    if WHERE == "local":
        # The network of the pods is reachable from here, and this port is not.
        try:
            socket.create_connection((changed["status"]["podIP"], 9902), timeout=2).close()
        except ConnectionRefusedError:
            pass
        else:
            must("the port is open to the network of the pods", False)
    return f"level and format changed in one of two pods, {len(told)} line says so; of 5 requests the access log has the 3 that the filters name"


def many_routes(count):
    base = scene.manifest("route.yaml")
    texts = [base.replace("httpbin-upstream", f"many-{n}\n labels: {{e2e: many}}").replace("httpbin.example", f"many-{n}.example") for n in range(count)]
    kubectl("apply", "-f", "-", input="\n---\n".join(texts))


class Prometheus:
    """Debian's package, with a configuration and a database of its own."""

    def __init__(self, targets):
        self.folder = tempfile.TemporaryDirectory()
        jobs = [{"job_name": "clingfish", "static_configs": [{"targets": targets}]}]
        configuration = pathlib.Path(self.folder.name) / "prometheus.yml"
        configuration.write_text(json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={self.folder.name}/data", f"--web.listen-address={self.address}", "--log.level=error"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        try:
            await_that("Prometheus", 30, self.ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"prometheus ended with code {self.process.returncode}")
        try:
            return urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=2).status == 200
        except OSError:
            return False

    def value(self, query):
        """The single value of a query; None if there is none."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        found = json.load(urllib.request.urlopen(url, timeout=5))["data"]["result"]
        return float(found[0]["value"][1]) if found else None

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


def rights():
    """The audit log's verbs and resources are the chart's RBAC: nothing was refused, nothing granted that was never used"""
    log = pathlib.Path(os.environ.get("CLUSTER_STATE", "/var/lib/clingfish-cluster")) / "logs" / "audit.log"
    if WHERE != "local" or not log.exists():
        return "skipped: no audit log"
    # While a release is uninstalled its pods outlive its roles: refusals count from when the roles of now were made.
    since = get("clusterrole", f"{NAMESPACE}:clingfish")["metadata"]["creationTimestamp"]
    user, used, refused = f"system:serviceaccount:{NAMESPACE}:clingfish", set(), set()
    for line in log.read_text().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the line being written
        reference = event.get("objectRef") or {}
        if event["user"]["username"] != user or not reference.get("resource"):
            continue
        resource = reference["resource"] + (f"/{reference['subresource']}" if reference.get("subresource") else "")
        key = (event["verb"], reference.get("apiGroup", ""), resource, reference.get("namespace", ""))
        used.add(key)
        # The authorizer's word, not the code: creating in a namespace that is being deleted is a 403 as well.
        decision = (event.get("annotations") or {}).get("authorization.k8s.io/decision")
        if decision == "forbid" and event["requestReceivedTimestamp"] > since:
            refused.add(key)
    must("the audit log has no request of the gateway", used)
    must(f"refused: {sorted(refused)}", not refused)
    granted = grants()
    # Kinds that only Gloo's chart brings are watched where they are.
    absent = [kind for kind in ("virtualhostoptions", "listeneroptions", "httplisteneroptions") if not get("crd", f"{kind}.gateway.solo.io")]
    idle = sorted(f"{verb} {resource} ({scope or 'cluster'})" for verb, group, resource, scope in granted if resource not in absent and not covered(verb, group, resource, scope, used))
    must(f"granted and never used: {', '.join(idle)}", not idle)
    return f"{len(granted)} rights granted, all used; {len(used)} kinds of request seen, none refused"


def covered(verb, group, resource, scope, used):
    """Whether the right was used; one that the install namespace's Role gives too must have been used elsewhere."""
    elsewhere = not scope and resource == "services" and verb not in ("list", "watch")
    return any(u[:3] == (verb, group, resource) and (u[3] == scope if scope else not elsewhere or u[3] != NAMESPACE) for u in used)


def grants():
    """Every (verb, group, resource, namespace or '') that this release's roles give."""
    found = set()
    for arguments in (("clusterroles",), ("roles", "-n", NAMESPACE)):
        for role in items(*arguments, "-l", SELECTOR):
            if not role["metadata"].get("namespace") and not role["metadata"]["name"].startswith(f"{NAMESPACE}:"):
                continue  # of another install
            for rule in role["rules"]:
                for verb in rule["verbs"]:
                    for group in rule["apiGroups"]:
                        found.update((verb, group, resource, role["metadata"].get("namespace", "")) for resource in rule["resources"])
    return found
