"""kubectl and helm, and polling: what every step needs of a cluster."""
import json, subprocess, threading, time


class StepError(Exception):
    """A step did not see what it must see."""


def run(*command, input=None, check=True, timeout=300):
    """The command's standard output."""
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise StepError(f"{' '.join(command)[:300]}: exit code {done.returncode}\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def kubectl(*arguments, input=None, check=True, timeout=300):
    return run("kubectl", *arguments, input=input, check=check, timeout=timeout)


def get(*arguments):
    """The object or list as JSON; None if there is none."""
    text = kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def items(*arguments):
    return (get(*arguments) or {}).get("items", [])


def apply(*documents):
    """Objects, or YAML texts."""
    texts = [document if isinstance(document, str) else json.dumps(document) for document in documents]
    return kubectl("apply", "-f", "-", input="\n---\n".join(texts))


def await_that(what, seconds, holds, every=0.2):
    """Polls until holds() is true, and returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found, problem = holds(), None
        except (StepError, subprocess.SubprocessError, ValueError) as error:
            found, problem = None, error
        if found:
            return found
        if time.monotonic() > deadline:
            raise StepError(f"no {what} after {seconds} s" + (f": {problem}" if problem else ""))
        time.sleep(every)


def must(what, holds):
    if not holds:
        raise StepError(what)


def rolled_out(namespace, deployment, seconds=180):
    kubectl("rollout", "status", f"deployment/{deployment}", "-n", namespace, f"--timeout={seconds}s", timeout=seconds + 10)


def pods(namespace, selector):
    """Pods that are not on their way out."""
    return [pod for pod in items("pods", "-n", namespace, "-l", selector) if "deletionTimestamp" not in pod["metadata"]]


def condition(object_, type_, parent=None):
    """The condition of the object, or of its status for the parent of that name."""
    status = (object_ or {}).get("status", {})
    if parent is not None:
        status = next((p for p in status.get("parents", []) if p["parentRef"]["name"] == parent), {})
    return next((c for c in status.get("conditions", []) if c["type"] == type_), {})


class Watch:
    """Follows a kubectl watch in a thread, through restarts of the API server, and calls handle(type, object)."""

    def __init__(self, arguments, handle):
        self.arguments, self.handle, self.stopping, self.process = arguments, handle, False, None
        self.thread = threading.Thread(target=self.follow, daemon=True)
        self.thread.start()

    def follow(self):
        while not self.stopping:
            command = ["kubectl", "get", *self.arguments, "--watch", "--output-watch-events", "-o", "json"]
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for line in self.process.stdout:  # one event a line
                event = json.loads(line)
                self.handle(event["type"], event["object"])
            time.sleep(0.2)

    def stop(self):
        self.stopping = True
        if self.process:
            self.process.terminate()
            self.process.wait()


class PortForward:
    """kubectl port-forward to a free local port, or the one asked for."""

    def __init__(self, namespace, target, port, local=""):
        command = ["kubectl", "port-forward", "-n", namespace, target, f"{local}:{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> ...
        if not line:
            raise StepError(f"{' '.join(command)}: {self.process.stderr.read().strip()}")
        self.port = int(line.split(" -> ")[0].rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
