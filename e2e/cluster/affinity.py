"""Steps: sessions stay on their pods, exactly where Envoy would put them."""
import json, re, tempfile, time

import scene
import tables as envoy
from kube import PortForward, await_that, get, kubectl, must, pods, run
from scene import BACKEND, HERE, NAMESPACE, Backends, Load, manifest, misplaced, no_failures, unexplained

SET_COOKIE = re.compile(r'^set-cookie: hashbasedcookie="[0-9a-f]{16}"; Max-Age=60; Path=/; HttpOnly$', re.MULTILINE)


def tables():
    """The tests' own Envoy tables choose what was recorded from Envoy"""
    count, different = envoy.replay(HERE.parent.parent / "tests" / "vectors")
    must(f"{len(different)} of {count} recorded choices differ: {different[:3]}", count and not different)
    return f"{count} recorded choices, 0 differences"


def guide_word_for_word():
    """The session affinity guide, as printed: curl, cookie jar, logs; by address and by port-forward; ring hash and Maglev"""
    scene.installed(gloo=True)
    scene.backend(replicas=1)
    # A clean start: what an earlier run left.
    for kind, name in (("routeoption", "lbhash"), ("httproute", "httpbin-upstream"), ("upstream", "httpbin")):
        kubectl("delete", kind, name, "-n", NAMESPACE, "--ignore-not-found")
    kubectl("apply", "-f-", input=manifest("gateway.yaml"))
    kubectl("scale", "deployment", "httpbin", "-n", "httpbin", "--replicas=2")
    scene.settled(2)
    kubectl("apply", "-f-", input=manifest("upstream-plain.yaml"))
    kubectl("apply", "-f-", input=manifest("route.yaml"))
    told = []
    with PortForward("gloo-system", "deployment/gloo-proxy-http", 8080, 8080):
        ways = {"port-forward": ("localhost:8080", "httpbin.example")}
        if outside := load_balancer():
            ways["address"] = (scene.authority(outside, 8080), "httpbin.example:8080")
        for way, (where, host) in ways.items():
            verify_route(where, host)
        for algorithm in ("guide", "maglev"):
            kubectl("apply", "-f-", input=manifest(f"upstream-{algorithm}.yaml"))
            kubectl("apply", "-f-", input=manifest("routeoption.yaml"))
            for way, (where, host) in ways.items():
                served = sticky(where, host)
                told.append(f"{way}/{algorithm}: 11 requests on {served}")
    kubectl("delete", "routeoption", "lbhash", "-n", "gloo-system")
    kubectl("delete", "httproute", "httpbin-upstream", "-n", "gloo-system")
    kubectl("delete", "upstream", "httpbin", "-n", "gloo-system")
    kubectl("scale", "deployment", "httpbin", "-n", "httpbin", "--replicas=1")
    return "; ".join(told)


def load_balancer():
    """As the guide reads it, into INGRESS_GW_ADDRESS."""
    if scene.WHERE != "local":
        return kubectl("get", "svc", "-n", "gloo-system", "gloo-proxy-http", "-o", "jsonpath={.status.loadBalancer.ingress[0]['hostname','ip']}", check=False)
    return await_that("address of gloo-proxy-http", 60, lambda: kubectl("get", "svc", "-n", "gloo-system", "gloo-proxy-http", "-o", "jsonpath={.status.loadBalancer.ingress[0]['hostname','ip']}"))


def verify_route(where, host):
    """Step 5."""
    answer = await_that("200 from the route", 30, lambda: ok(run("curl", "-si", f"http://{where}/headers", "-H", f"host: {host}", check=False)))
    for header in ("server: envoy", "x-envoy-upstream-service-time: "):
        must(f"the answer has no `{header}`:\n{answer}", re.search(f"(?mi)^{header}", answer))
    must(f"a cookie without a RouteOption:\n{answer}", "set-cookie" not in answer.lower())


def ok(answer):
    return answer if re.match(r"HTTP/1.1 200 ", answer) else None


def sticky(where, host):
    """Steps 8 to 10: returns the pod that served all of them."""
    with tempfile.TemporaryDirectory() as folder:
        jar, url, header = f"{folder}/cookie-jar", f"http://{where}/headers", f"host: {host}"

        def first():
            answer = run("curl", "-si", "-c", jar, url, "-H", header, check=False)
            return answer if ok(answer) and SET_COOKIE.search(answer.replace("Set-Cookie", "set-cookie")) else None

        answer = await_that("cookie as in the guide", 30, first)
        seen = json.loads(answer.split("\n\n", 1)[1])["headers"]
        for name, value in {"Host": f"^{re.escape(host)}$", "X-Envoy-Expected-Rq-Timeout-Ms": "^15000$", "X-Forwarded-Proto": "^http$", "X-Request-Id": "^[0-9a-f-]{36}$"}.items():
            must(f"the pod saw {name} {seen.get(name)}, expected {value}", re.match(value, (seen.get(name) or [""])[0]))
        start = log_counts()
        for _ in range(10):
            answer = run("curl", "-si", "-b", jar, url, "-H", header)
            must(f"the cookie is not sent back:\n{answer}", '"Cookie"' in answer)
            must(f"no 200 with the cookie:\n{answer}", ok(answer))
            must(f"a second cookie:\n{answer}", "set-cookie" not in answer.lower())
    counts = await_that("ten lines in the logs", 10, lambda: (lambda now: now if sum(now.values()) - sum(start.values()) >= 10 else None)(log_counts()))
    served = [pod for pod, lines in counts.items() if lines != start.get(pod, 0)]
    must(f"ten requests with one cookie were served by {served}", len(served) == 1)
    return served[0]


def log_counts():
    """How many requests for /headers each httpbin pod has logged."""
    names = [pod["metadata"]["name"] for pod in pods(BACKEND, "app=httpbin")]
    return {name: kubectl("logs", name, "-n", "httpbin").count("/headers") for name in names}


def scaling():
    """2 - 5 - 2 pods and a rollout under load: every session where Envoy puts it, moved only what the tables move, 0 failed"""
    scene.installed(gloo=True)
    return "; ".join(scaled(algorithm) for algorithm in ("ringHash", "maglev"))


def scaled(algorithm):
    scene.backend(replicas=2)
    scene.guide(algorithm)
    backends = Backends()
    load = Load("scaling", scene.url())
    moved = {}
    try:
        before, hosts = load.places(), backends.now()
        exact(load, before, backends, algorithm, "at 2 pods")
        for phase, act in {
            "up": lambda: scene.scale(5),
            "down": lambda: scene.scale(2),
            "rollout": lambda: (kubectl("rollout", "restart", "deployment/httpbin", "-n", BACKEND), scene.settled(2)),
        }.items():
            act()
            time.sleep(1)
            after, now = load.places(), backends.now()
            exact(load, after, backends, algorithm, f"after {phase}")
            foretold = {s for s, place in before.items() if envoy.owner(algorithm, hosts, place["key"]) != envoy.owner(algorithm, now, place["key"])}
            went = {s for s, place in after.items() if place["pod"] != before[s]["pod"]}
            must(f"{phase}: {len(went)} sessions moved, the tables move {len(foretold)}", went == foretold)
            moved[phase] = len(went)
            before, hosts = after, now
    finally:
        lag = load.lag()
        totals, events = load.stop()
        backends.stop()
    no_failures(totals, events)
    odd = unexplained(events, lag, backends, algorithm)
    must(f"{len(odd)} moves that no table explains: {odd[:3]}", not odd)
    went = ", ".join(f"{phase} {count}" for phase, count in moved.items())
    return f"{algorithm}: 0 of {totals['requests']} requests failed, {totals['resent']} resent; of {len(before)} sessions moved, each as the tables say: {went}"


def exact(load, places, backends, algorithm, when):
    wrong = misplaced(places, backends.now(), backends.names, algorithm)
    if wrong:
        told = "\n".join(wrong)
        must(f"{when}: {len(wrong)} of {len(places)} sessions are not where Envoy would put them:\n{told}\n{evidence(load, backends, wrong)}", False)


def evidence(load, backends, wrong):
    """What can explain misplaced sessions: who was ready when, when they were asked, and what each gateway pod says of itself."""
    now, lag = time.time(), load.lag()
    state, events = load.state()["sessions"], load.ask("events") or []
    lines = [f"pods: {backends.names}"]
    lines += [f"{moment - now:8.3f} s ready: {sorted(hosts)}" for moment, hosts in backends.sets[-6:]]
    for session in wrong:
        lines += [f"{event['sent'] / 1000 - lag - now:8.3f} s session {session} {event['kind']} on {event['pod']}" for event in events if str(event.get("s", 0)) == session]
        lines.append(f"{state[session]['sent'] / 1000 - lag - now:8.3f} s session {session} asked last: {state[session]['pod']}")
    for pod in pods(NAMESPACE, scene.SELECTOR):
        name = pod["metadata"]["name"]
        counts = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:9901/proxy/metrics", check=False)
        lines.append(f"--- {name}, {time.strftime('%H:%M:%S', time.gmtime(now))} UTC now")
        lines += [line for line in counts.splitlines() if re.match("clingfish_(upstream_(retries|connects)|hash_key_missing|.*generation|remapped_keys_ratio_count|table)", line)]
        lines.append(kubectl("logs", name, "-n", NAMESPACE, "--since=60s", "--tail=60", check=False))
    return "\n".join(lines)
