"""The two public suites for HTTP/2: installs them, runs them against a port, and reads what they say."""
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

import processes

HTTPWG_VERSION = "0.2.5"
# The suite's longest wait for a frame that does not come, in milliseconds.
HTTPWG_PATIENCE = 1000
SUITE_SECONDS = 300


def h2spec(module, port, work, tls=False):
    """How many tests were run, and what is wrong, by test."""
    binary = processes.CACHE / "h2spec" / "h2spec"
    report = work / f"h2spec-{port}.xml"
    subprocess.run(["go", "build", "-o", binary, "github.com/summerwind/h2spec/cmd/h2spec"], cwd=module, check=True)
    command = [binary, "--strict", "--port", str(port), "--junit-report", report] + (["--tls", "--insecure"] if tls else [])
    run(command, work / f"h2spec-{port}.log")
    wrong, total = {}, 0
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        total += 1
        outcome = next((case.find(kind) for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None)
        if outcome is not None:
            wrong[f"{case.get('package')} {case.get('classname')}"] = " ".join("".join(outcome.itertext()).split()) or outcome.tag
    return total, wrong


def httpwg(port, work, unsteady):
    """As `h2spec`. `unsteady`: tests that crash the suite now and then, which does not say which one crashed."""
    home = processes.CACHE / f"httpwg-{HTTPWG_VERSION}"
    if not (home / "bin" / "httpwg").exists():
        print(f"installing httpwg-cli {HTTPWG_VERSION} into {home}", file=sys.stderr)
        subprocess.run(["cargo", "install", "--quiet", "--locked", "--root", home, f"httpwg-cli@{HTTPWG_VERSION}"], check=True)
    command = [home / "bin" / "httpwg", "--address", f"127.0.0.1:{port}", "--frame-timeout", str(HTTPWG_PATIENCE)]
    said = re.sub(r"\x1b\[[0-9;]*m", "", run(command, work / "httpwg.log"))
    figures = re.search(r"Passed (\d+)/(\d+) tests", said)
    if not figures:
        raise SystemExit(f"httpwg did not finish:\n{said[-3000:]}")
    passed = set(re.findall(r"Test passed: RFC 9113 :: (.+)", said))
    wrong = {name: " ".join(why.split())[:200] for name, why in re.findall(r"Test failed: RFC 9113 :: (.+)\n\s*0: (.+)", said)}
    crashed = int(figures[2]) - len(passed) - len(wrong)
    for name in [name for name in unsteady if name not in passed and name not in wrong][:crashed]:
        wrong[name] = "crashed"
        crashed -= 1
    if crashed or len(passed) != int(figures[1]):
        wrong["(a test that crashed)"] = f"{crashed} tests: {re.findall(r'Message:  (.+)', said)}"
    return int(figures[2]), wrong


def run(command, log):
    """What the suite says; its exit code says nothing that its report does not."""
    with open(log, "wb") as output:
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=SUITE_SECONDS, check=False,
                       env={**os.environ, "NO_COLOR": "1"})
    return log.read_text(encoding="utf-8", errors="replace")
