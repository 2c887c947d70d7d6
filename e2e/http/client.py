"""Raw HTTP/1.1 towards the gateway: sends bytes as they are, reads answers until the gateway closes."""
import dataclasses
import socket
import time

from backend import BODY

PATIENCE = 5.0


@dataclasses.dataclass
class Answers:
    """The statuses of the final answers, and how the connection ended."""
    statuses: list
    closed: bool
    rest: bytes


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def converse(port, sent, pieces, fin, methods):
    """Sends `sent` in pieces of so many bytes, and reads until the gateway closes. `methods`: those of the requests, for HEAD."""
    with connect(port) as sock:
        try:
            for at in range(0, len(sent), pieces):
                sock.sendall(sent[at:at + pieces])
            if fin:
                sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The gateway has closed already; what it said before can still be read.
        received, closed = until_closed(sock)
    statuses, rest = answers(received, methods)
    return Answers(statuses, closed, rest)


def until_closed(sock):
    received, deadline = b"", time.monotonic() + PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            chunk = sock.recv(65536)
        except TimeoutError:
            break
        except OSError:
            return received, True
        if not chunk:
            return received, True
        received += chunk
    return received, False


def answers(received, methods):
    statuses = []
    while b"\r\n\r\n" in received and received.startswith(b"HTTP/1."):
        head, received = received.split(b"\r\n\r\n", 1)
        lines = head.lower().split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        if status < 200:
            continue
        statuses.append(status)
        method = methods[len(statuses) - 1] if len(statuses) <= len(methods) else b"GET"
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        if method != b"HEAD":
            received = received[length:]
    return statuses, received


class Witness:
    """One connection that stays: when its request has come back, the backend has read what was sent before."""

    def __init__(self, port):
        self.sock = connect(port)

    def ask(self):
        self.sock.sendall(b"GET /witness HTTP/1.1\r\nhost: witness\r\n\r\n")
        received = b""
        while not received.endswith(b"\r\n\r\n" + BODY):
            chunk = self.sock.recv(65536)
            if not chunk:
                raise SystemExit(f"the gateway closed a connection of an honest client after {received!r}")
            received += chunk
