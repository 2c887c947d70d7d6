"""A backend that records what it gets, read as strictly as RFC 9112 allows: whatever could be read in two ways is malformed."""
import asyncio
import dataclasses
import re
import threading
import time

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
TARGET = re.compile(rb"(?:/[\x21\x22\x24-\x7e]*|\*)")
VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
LENGTH = re.compile(rb"0|[1-9][0-9]{0,19}")
PATIENCE = 5.0
# The suites want five bytes at least, for what they try with windows.
BODY = b"hello"
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")


class Malformed(Exception):
    """What was sent has no single meaning."""


class Incomplete(Exception):
    """More is needed."""


@dataclasses.dataclass
class Message:
    method: bytes
    target: bytes
    headers: list
    framing: str
    body: bytes
    trailers: list

    def values(self, name):
        return [value for key, value in self.headers if key.lower() == name]


@dataclasses.dataclass
class Broken:
    """A connection that ended within a message, or a message that is malformed."""
    reason: str
    received: bytes


def parse(received):
    """The first message of these bytes, and how many it takes."""
    head_end = received.find(b"\r\n\r\n")
    if head_end < 0:
        if b"\n" in received.replace(b"\r\n", b""):
            raise Malformed("a line that ends in LF alone")
        raise Incomplete
    request_line, *lines = received[:head_end].split(b"\r\n")
    parts = request_line.split(b" ")
    if len(parts) != 3 or not TOKEN.fullmatch(parts[0]) or not TARGET.fullmatch(parts[1]) or parts[2] != b"HTTP/1.1":
        raise Malformed(f"the request line {request_line!r}")
    message = Message(parts[0], parts[1], fields(lines), "none", b"", [])
    hosts, codings, lengths = (message.values(name) for name in (b"host", b"transfer-encoding", b"content-length"))
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        raise Malformed(f"the Host {hosts!r}")
    body_start = head_end + 4
    if codings:
        if lengths or codings != [b"chunked"]:
            raise Malformed(f"the framing {codings!r} {lengths!r}")
        message.framing = "chunked"
        return message, chunked(received, body_start, message)
    if lengths:
        if len(lengths) != 1 or not LENGTH.fullmatch(lengths[0]):
            raise Malformed(f"the length {lengths!r}")
        message.framing = "length"
        end = body_start + int(lengths[0])
        message.body = received[body_start:end]
        if len(received) < end:
            raise Incomplete
        return message, end
    return message, body_start


def fields(lines):
    found = []
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
            raise Malformed(f"the header line {line!r}")
        found.append((name, value))
    return found


def chunked(received, at, message):
    while True:
        line_end = received.find(b"\r\n", at)
        if line_end < 0:
            raise Incomplete
        size = received[at:line_end]
        if not CHUNK_SIZE.fullmatch(size):
            raise Malformed(f"the chunk size {size!r}")
        size, at = int(size, 16), line_end + 2
        if size == 0:
            break
        if len(received) < at + size + 2:
            raise Incomplete
        if received[at + size:at + size + 2] != b"\r\n":
            raise Malformed("no CRLF behind a chunk")
        message.body += received[at:at + size]
        at += size + 2
    if received[at:at + 2] == b"\r\n":
        return at + 2
    end = received.find(b"\r\n\r\n", at)
    if end < 0:
        raise Incomplete
    message.trailers = fields(received[at:end].split(b"\r\n"))
    return end + 4


class Backend:
    """Answers every message with 200 on a port of its own, in a thread of its own."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.records = []
        self.unfinished = {}
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self.serve, "127.0.0.1", 0), self.loop).result()
        self.port = server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        key = object()
        received = b""
        try:
            while chunk := await reader.read(65536):
                received += chunk
                received = self.answer(received, writer)
                self.unfinished[key] = received
        except Malformed as malformed:
            self.records.append(Broken(f"malformed: {malformed}", received))
        except OSError:
            pass
        else:
            if received:
                self.records.append(Broken("broke off", received))
        self.unfinished.pop(key, None)
        writer.close()

    def answer(self, received, writer):
        while received:
            try:
                message, end = parse(received)
            except Incomplete:
                return received
            self.records.append(message)
            received = received[end:]
            body = b"" if message.method == b"HEAD" else BODY
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY) + body)
        return received

    def settle(self, witness):
        """Returns when all that was sent before has been read, and no connection stays within a message."""
        deadline = time.monotonic() + PATIENCE
        witness.ask()
        while any(list(self.unfinished.values())) and time.monotonic() < deadline:
            witness.ask()

    def take(self):
        """What came since the last call."""
        async def swap():
            taken, self.records = self.records, []
            return taken
        return asyncio.run_coroutine_threadsafe(swap(), self.loop).result()
