"""Random cases: an endpoint set, a balancer and hash policies, as Kubernetes resources and as Envoy configuration."""
import dataclasses
import ipaddress
import json

NAMESPACE = "gloo-system"
HEADERS = ["x-user", "X-Session-Id", "x-tenant", "authorization", "accept-language", "Accept", "origin", "cache-control"]
# These are joined or moved by an HTTP proxy before the key is read.
SPECIAL_HEADERS = ["host", "user-agent", "x-forwarded-for", "cookie"]
COOKIES = ["hashbasedcookie", "sid", "Session", "a.b-c_d"]
TTLS = [None, "0s", "60s", "1m", "1h30m", "900ms", "2500ms"]
TTL_SECONDS = {"0s": "0s", "60s": "60s", "1m": "60s", "1h30m": "5400s", "900ms": "0.9s", "2500ms": "2.5s"}
REWRITTEN = "rewritten.example"
PATHS = [None, "/", "/shop"]
# At some of these numbers of equal hosts, floating point gives the first one an extra point.
COUNTS = [1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 30, 50, 75, 77, 91, 93, 99, 105]
# As docs/verify.md has it, for keys in cookies and in x-user.
ACCESS_LOG = {
    "method": "%REQ(:METHOD)%", "authority": "%REQ(:AUTHORITY)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "source": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "upstream_host": "%UPSTREAM_HOST%", "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "response_flags": "%RESPONSE_FLAGS%",
    "headers": {"cookie": "%REQ(COOKIE)%", "x-user": "%REQ(X-USER)%", "x-forwarded-for": "%REQ(X-FORWARDED-FOR)%"},
}
# Listeners by index: their Gateway, its class, and how Envoy calls that profile.
PROFILES = [("http", "gloo-gateway", False), ("edge", "clingfish", True)]


@dataclasses.dataclass
class Case:
    index: int
    profile: int                 # index into PROFILES
    kind: str                    # kube or static
    hosts: list                  # (ip, port, weight or None) in the order in which Envoy is told them
    slices: list                 # for kube: [(port, [(ip, ready)])]
    balancer: dict               # Gloo's loadBalancerConfig
    policies: list               # Gloo's hashPolicies
    header_filter: dict          # Gateway API's RequestHeaderModifier, or empty
    rewrite_host: bool           # a URLRewrite of the host name comes before the key is read
    extension_ref: bool          # the RouteOption is named by the rule, not by targetRefs

    @property
    def name(self):
        return f"case-{self.index}"

    @property
    def host(self):
        return f"{self.name}.example"

    def always_keyed(self):
        """Whether every request has a key, whatever it carries."""
        return any("sourceIp" in p or p.get("cookie", {}).get("ttl") is not None for p in self.policies)

    def describe(self):
        weights = "weighted" if any(weight for _, _, weight in self.hosts) else "equal"
        return (f"{self.name} ({PROFILES[self.profile][0]}, {self.kind}, {len(self.hosts)} {weights} hosts, "
                f"{json.dumps(self.balancer)}, {json.dumps(self.policies)}, filter {json.dumps(self.header_filter)})")


def random_case(rng, index, ports, ipv6):
    kind = rng.choice(["kube", "static"])
    count = rng.choice(COUNTS)
    ips = set()
    while len(ips) < count:
        # 127.0.0.x is left to the proxies, 127.64 and up to the clients.
        ips.add(str(ipaddress.ip_address(f"127.{rng.randint(1, 63)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}")))
    ips = sorted(ips)
    rng.shuffle(ips)
    slices = []
    if kind == "static":
        weighted = rng.choice([False, True, True])
        limit = rng.choice([2, 5, 100])
        hosts = [(ip, rng.choice(ports), rng.choice([None, rng.randint(1, limit)]) if weighted else None) for ip in ips]
        if ipv6 and rng.random() < 0.2:
            hosts += [("::1", port, None) for port in ports[:rng.randint(1, len(ports))]]
            rng.shuffle(hosts)
    else:
        hosts, slices = random_slices(rng, ips, ports)
    header_filter = {}
    policies = random_policies(rng)
    if rng.random() < 0.2:
        header_filter = random_header_filter(rng, policies)
    rewrite_host = any(policy.get("header") == "host" for policy in policies) and rng.random() < 0.5
    return Case(index, rng.choice([0, 0, 1]), kind, hosts, slices, random_balancer(rng), policies, header_filter,
                rewrite_host, rng.random() < 0.3)


def random_slices(rng, ips, ports):
    """Slices in any order with pods that are not ready; the hosts are the ready ones by address."""
    slices, hosts = [], []
    pieces = rng.randint(1, 3)
    for piece in range(pieces):
        port = rng.choice(ports)
        mine = ips[piece::pieces]
        slices.append((port, [(ip, True) for ip in mine]))
        hosts += [(ip, port, None) for ip in mine]
    if rng.random() < 0.4:
        slices[0][1].append((f"127.0.1.{rng.randint(1, 254)}", False))
    hosts.sort(key=lambda host: (int(ipaddress.ip_address(host[0])), host[1]))
    return hosts, [piece for piece in slices if piece[1]]


def random_balancer(rng):
    choice = rng.random()
    if choice < 0.4:
        return {"maglev": {}}
    if choice < 0.6:
        return {"ringHash": {}}
    low = rng.choice([1, 2, 10, 100, 500, 1024, 2000, 5000])
    high = rng.choice([low, low + 1, low * 2, 200, 1024, 65536, 8388608])
    if high < low:
        low, high = high, low
    # 64-bit numbers are quoted by some writers of Gloo's resources.
    low, high = ((str(low), str(high)) if rng.random() < 0.3 else (low, high))
    sizes = rng.choice([{"minimumRingSize": low, "maximumRingSize": high}, {"minimumRingSize": low}])
    return {"ringHash": {"ringHashConfig": sizes}}


def random_policies(rng):
    policies = draw_policies(rng)
    if any(policy.get("cookie", {}).get("ttl") for policy in policies):
        # A cookie that is sent back changes the header as a whole, so its own hash would change with it.
        policies = [policy for policy in policies if policy.get("header") != "cookie"]
    return policies


def draw_policies(rng):
    policies, seen = [], set()
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        kind = rng.choice(["header", "header", "cookie", "cookie", "sourceIp"])
        if kind == "header":
            policy = {"header": rng.choice(SPECIAL_HEADERS if rng.random() < 0.15 else HEADERS)}
            name = policy["header"].lower()
        elif kind == "cookie":
            name = rng.choice(COOKIES)
            policy = {"cookie": {"name": name, "ttl": rng.choice(TTLS), "path": rng.choice(PATHS)}}
            policy["cookie"] = {key: value for key, value in policy["cookie"].items() if value is not None}
        else:
            policy, name = {"sourceIp": True}, "sourceIp"
        if name in seen:
            continue
        seen.add(name)
        if rng.random() < 0.25:
            policy["terminal"] = True
        policies.append(policy)
    return policies


def random_header_filter(rng, policies):
    """A filter on a hashed header: the key is read after it. The source address keeps every request keyed."""
    names = [p["header"] for p in policies if "header" in p and p["header"] in HEADERS]
    if not names:
        return {}
    if not any("sourceIp" in policy for policy in policies):
        policies.append({"sourceIp": True})
    verb = rng.choice(["set", "add", "remove"])
    if verb == "remove":
        return {"remove": [names[0]]}
    return {verb: [{"name": names[0], "value": rng.choice(["fixed", "a,b", "z z"])}]}


def manifests(cases, listener_ports):
    """The resources for Clingfish, as documents."""
    for (gateway, gateway_class, _), port in zip(PROFILES, listener_ports):
        yield resource("gateway.networking.k8s.io/v1", "GatewayClass", gateway_class, None,
                       spec={"controllerName": "clingfish.dev/gateway-controller"})
        yield resource("gateway.networking.k8s.io/v1", "Gateway", gateway, NAMESPACE, spec={
            "gatewayClassName": gateway_class,
            "listeners": [{"name": "http", "port": port, "protocol": "HTTP",
                           "allowedRoutes": {"namespaces": {"from": "All"}}}]})
    for case in cases:
        yield from case_manifests(case)


def resource(version, kind, name, namespace, **rest):
    metadata = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **rest}


def case_manifests(case):
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": case.header_filter}] if case.header_filter else []
    if case.rewrite_host:
        filters.append({"type": "URLRewrite", "urlRewrite": {"hostname": REWRITTEN}})
    option = {"options": {"lbHash": {"hashPolicies": case.policies}}}
    if case.extension_ref:
        filters.append({"type": "ExtensionRef",
                        "extensionRef": {"group": "gateway.solo.io", "kind": "RouteOption", "name": case.name}})
    else:
        option["targetRefs"] = [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": case.name}]
    rule = {"backendRefs": [{"group": "gloo.solo.io", "kind": "Upstream", "name": case.name}]}
    if filters:
        rule["filters"] = filters
    yield resource("gateway.networking.k8s.io/v1", "HTTPRoute", case.name, NAMESPACE, spec={
        "parentRefs": [{"name": PROFILES[case.profile][0]}], "hostnames": [case.host], "rules": [rule]})
    yield resource("gateway.solo.io/v1", "RouteOption", case.name, NAMESPACE, spec=option)
    upstream = {"loadBalancerConfig": case.balancer}
    if case.kind == "static":
        upstream["static"] = {"hosts": [
            {"addr": ip, "port": port, **({"loadBalancingWeight": weight} if weight else {})} for ip, port, weight in case.hosts]}
    else:
        upstream["kube"] = {"serviceName": case.name, "serviceNamespace": "apps", "servicePort": 8000}
        # Two ports: the slices' port is found by its name.
        yield resource("v1", "Service", case.name, "apps", spec={"ports": [
            {"name": "http", "port": 8000, "targetPort": "web"}, {"name": "tcp", "port": 9000, "targetPort": 9000}]})
        for number, (port, endpoints) in enumerate(case.slices):
            yield resource("discovery.k8s.io/v1", "EndpointSlice", f"{case.name}-{number}", "apps", addressType="IPv4",
                           ports=[{"name": "tcp", "port": 9000}, {"name": "http", "port": port}],
                           endpoints=[{"addresses": [ip], "conditions": {"ready": ready}} for ip, ready in endpoints])
            document_labels = {"kubernetes.io/service-name": case.name}
            yield {"labels": document_labels}
    yield resource("gloo.solo.io/v1", "Upstream", case.name, NAMESPACE, spec=upstream)


def write_manifests(path, cases, listener_ports):
    documents = []
    for document in manifests(cases, listener_ports):
        if set(document) == {"labels"}:
            documents[-1]["metadata"]["labels"] = document["labels"]
        else:
            documents.append(document)
    with open(path, "w") as file:
        # JSON is YAML, too.
        file.write("".join("---\n" + json.dumps(document, indent=1) + "\n" for document in documents))


def envoy_config(cases, listener_ports, logs=None):
    """The same for Envoy, as Gloo Gateway would translate it. logs: a directory for an access log of each listener."""
    listeners = [envoy_listener([case for case in cases if case.profile == index], gateway, use_remote, port, logs)
                 for index, ((gateway, _, use_remote), port) in enumerate(zip(PROFILES, listener_ports))]
    return {"node": {"id": "e2e", "cluster": "e2e"},
            "static_resources": {"listeners": listeners, "clusters": [envoy_cluster(case) for case in cases]}}


def envoy_listener(cases, gateway, use_remote, port, logs=None):
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": gateway, "codec_type": "AUTO", "use_remote_address": use_remote,
        "route_config": {"name": gateway, "ignore_port_in_host_matching": True,
                         "virtual_hosts": [{"name": case.name, "domains": [case.host], "routes": [envoy_route(case)]}
                                           for case in cases]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}
    if logs:
        manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(logs / f"{gateway}.log"), "log_format": {"json_format": ACCESS_LOG}}}]
    return {"name": gateway, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager",
                                            "typed_config": manager}]}]}


def envoy_route(case):
    route = {"match": {"prefix": "/"},
             "route": {"cluster": case.name, "hash_policy": [envoy_policy(policy) for policy in case.policies]}}
    if case.rewrite_host:
        route["route"]["host_rewrite_literal"] = REWRITTEN
    actions = {"set": "OVERWRITE_IF_EXISTS_OR_ADD", "add": "APPEND_IF_EXISTS_OR_ADD"}
    for verb, action in actions.items():
        if verb in case.header_filter:
            route["request_headers_to_add"] = [
                {"header": {"key": header["name"], "value": header["value"]}, "append_action": action}
                for header in case.header_filter[verb]]
    if "remove" in case.header_filter:
        route["request_headers_to_remove"] = case.header_filter["remove"]
    return route


def envoy_policy(policy):
    made = {"terminal": policy.get("terminal", False)}
    if "header" in policy:
        made["header"] = {"header_name": policy["header"]}
    elif "cookie" in policy:
        made["cookie"] = dict(policy["cookie"])
        if "ttl" in policy["cookie"]:
            made["cookie"]["ttl"] = TTL_SECONDS[policy["cookie"]["ttl"]]
    else:
        made["connection_properties"] = {"source_ip": True}
    return made


def envoy_cluster(case):
    endpoints = [{"endpoint": {"address": {"socket_address": {"address": ip, "port_value": port}}},
                  **({"load_balancing_weight": weight} if weight else {})} for ip, port, weight in case.hosts]
    cluster = {"name": case.name, "type": "STATIC", "connect_timeout": "5s",
               "load_assignment": {"cluster_name": case.name, "endpoints": [{"lb_endpoints": endpoints}]}}
    if "maglev" in case.balancer:
        return {**cluster, "lb_policy": "MAGLEV"}
    sizes = case.balancer["ringHash"].get("ringHashConfig", {})
    names = {"minimumRingSize": "minimum_ring_size", "maximumRingSize": "maximum_ring_size"}
    return {**cluster, "lb_policy": "RING_HASH",
            "ring_hash_lb_config": {names[name]: int(size) for name, size in sizes.items()}}
