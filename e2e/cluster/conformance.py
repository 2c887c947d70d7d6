"""Step: the official conformance suite, as a binary that ../conformance/run has built."""
import os, subprocess

import scene
from kube import await_that, kubectl, must


def suite():
    """The Gateway API's conformance suite against the GatewayClass clingfish"""
    binary, report, flags = (os.environ.get(name, "") for name in ("CONFORMANCE", "CONFORMANCE_REPORT", "CONFORMANCE_FLAGS"))
    must("run it as e2e/conformance/run", binary)
    scene.uninstalled()
    scene.installed(gloo=False)
    if os.environ.get("CONFORMANCE_PERSISTENCE"):
        persistence(binary, f"{report}.persistence.log")
        return "session persistence alone"
    chosen = ["-gateway-class=clingfish", "-conformance-profiles=GATEWAY-HTTP,GATEWAY-GRPC,GATEWAY-TLS,GATEWAY-TCP,GATEWAY-UDP", f"-report-output={report}"]
    if scene.WHERE == "local":
        # Inside the pool of the cluster's load balancer, and outside of it.
        chosen += ["-usable-address=10.124.0.200", "-unusable-address=192.0.2.1"]
    elif "-usable-address" not in flags and "-core" not in flags.split():
        print("GatewayStaticAddresses is left out: it needs -usable-address and -unusable-address of this cluster's load balancer", flush=True)
        given = [flag for flag in flags.split() if flag.lstrip("-").startswith("skip-tests=")]
        left_out = ["GatewayStaticAddresses", *(flag.split("=", 1)[1] for flag in given)]
        flags = " ".join([*(flag for flag in flags.split() if flag not in given), f"-skip-tests={','.join(left_out)}"])
    log = f"{report}.log"
    with open(log, "w") as out:
        done = subprocess.run([binary, "-test.v", "-test.run=^TestConformance$", "-test.timeout=60m", *chosen, *flags.split()], stdout=out, stderr=subprocess.STDOUT)
    with open(log) as text:
        lines = text.read().splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith("Gateway API ")), max(0, len(lines) - 40))
    print("\n".join(line for line in lines[start:] if not line.lstrip().startswith(("--- PASS", "--- SKIP", "FAIL", "PASS", "exit"))), flush=True)
    must(f"the suite failed (exit code {done.returncode}); its log is {log}", done.returncode == 0)
    if "-core" not in flags.split() and not any(flag.lstrip("-").startswith("run-test=") for flag in flags.split()):
        persistence(binary, f"{report}.persistence.log")
    return f"report: {report}"


def persistence(binary, log):
    """Our tests of session persistence, which the suite has none of."""
    # The official suite has deleted its namespaces, and ours begins with the same.
    await_that("the namespaces of the suite are gone", 180, lambda: not [name for name in kubectl("get", "namespaces", "-o", "name").split() if "gateway-conformance-" in name])
    with open(log, "w") as out:
        done = subprocess.run([binary, "-test.v", "-test.run=^TestPersistence$", "-test.timeout=20m", "-gateway-class=clingfish"], stdout=out, stderr=subprocess.STDOUT)
    with open(log) as text:
        results = [line.strip() for line in text if line.startswith("    --- ")]
    passed = sum(line.startswith("--- PASS") for line in results)
    print(f"session persistence (GEP-1619): {passed} of {len(results)} tests passed", flush=True)
    must(f"tests of session persistence failed; their log is {log}: {[line for line in results if 'PASS' not in line]}", done.returncode == 0 and passed > 0)
