"""The load: connections that press on a gateway's memory until standard input ends. Prints what became of them as JSON.

Whoever is refused comes back at once, as clients do.
"""
import asyncio
import json
import resource
import socket
import ssl
import sys

REST = 0.1
HUGE = 1 << 40
# One for all: each would read the authorities of the system.
CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(index, value):
    """A header field by the name of an index of HPACK's static table."""
    return bytes([index, len(value)]) + value


def http2(streams):
    """The client's first flight: windows as large as they go, and a request on every stream."""
    head = b"\x82\x86" + literal(1, b"a") + literal(4, b"/large")
    settings = (4).to_bytes(2, "big") + (0x7FFFFFFF).to_bytes(4, "big")
    window = frame(8, 0, 0, (0x7FFF0000).to_bytes(4, "big"))
    requests = b"".join(frame(1, 5, 2 * index + 1, head) for index in range(streams))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(4, 1, 0, b"") + window + requests


def upgrade(path):
    return b"GET %s HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n" % path


def endless_hello():
    """Most of a ClientHello that says it has 60 KiB."""
    hello = b"\x01\x00\xea\x60\x03\x03" + bytes(59000)
    parts = [hello[start:start + 16384] for start in range(0, len(hello), 16384)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


class Tls:
    """TLS on a socket, of which no more is read than is asked for."""

    def __init__(self, loop, sock):
        self.loop, self.sock = loop, sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = CONTEXT.wrap_bio(self.incoming, self.outgoing, server_hostname="a.example")

    async def until_done(self, step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self.flush()
                received = await self.loop.sock_recv(self.sock, 2048)
                if not received:
                    raise ConnectionResetError
                self.incoming.write(received)
            finally:
                await self.flush()

    async def flush(self):
        if self.outgoing.pending:
            await self.loop.sock_sendall(self.sock, self.outgoing.read())

    async def shake_hands(self):
        await self.until_done(self.session.do_handshake)

    async def send(self, data):
        await self.until_done(lambda: self.session.write(data))

    async def receive(self, most):
        return await self.until_done(lambda: self.session.read(most))


class Load:
    def __init__(self, port, tls_port, streams):
        self.port, self.tls_port, self.counts = port, tls_port, {}
        self.first = {
            "uploads": b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % HUGE,
            "readers": b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
            "streams": http2(streams),
            "tunnels-up": upgrade(b"/tunnel-up"),
            "tunnels-down": upgrade(b"/tunnel-down"),
            "tls-hellos": endless_hello(),
            "tls-readers": b"GET /large HTTP/1.1\r\nhost: a.example\r\n\r\n",
            "tls-tunnels": upgrade(b"/tunnel-down"),
        }

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    async def keep(self, kind):
        """One client, which comes back whenever its connection ends."""
        while True:
            try:
                self.count(f"{kind} begun")
                await self.press(kind)
                self.count(f"{kind} answered or closed")
            except (OSError, ssl.SSLError):
                self.count(f"{kind} refused or reset")
            await asyncio.sleep(REST)

    async def press(self, kind):
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            # What the kernel buffers is not what is measured.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(sock, ("127.0.0.1", self.tls_port if kind.startswith("tls-") else self.port))
            await self.behave(kind, loop, sock)
        finally:
            sock.close()

    async def behave(self, kind, loop, sock):
        first = self.first.get(kind)
        # A refusal is read; of what comes else nothing is.
        if kind in ("tls-readers", "tls-tunnels"):
            tls = Tls(loop, sock)
            await tls.shake_hands()
            await tls.send(first)
            if (await tls.receive(12))[9:12] in (b"200", b"101"):
                await asyncio.Event().wait()
        elif kind == "tls-silent":
            # Says whom it wants, and does not answer what it is told.
            tls = Tls(loop, sock)
            try:
                tls.session.do_handshake()
            except ssl.SSLWantReadError:
                await tls.flush()
            while await loop.sock_recv(sock, 4096):
                pass
        elif kind == "tls-hellos":
            await loop.sock_sendall(sock, first)
            await self.until_readable(loop, sock)
        elif kind in ("readers", "tunnels-down"):
            await loop.sock_sendall(sock, first)
            if (await loop.sock_recv(sock, 12))[9:12] in (b"200", b"101"):
                await asyncio.Event().wait()
        elif kind == "streams":
            await loop.sock_sendall(sock, first)
            await asyncio.sleep(60)
        else:
            await loop.sock_sendall(sock, first)
            if kind == "tunnels-up" and (await loop.sock_recv(sock, 4096))[9:12] != b"101":
                return
            upload = asyncio.ensure_future(self.upload(loop, sock))
            try:
                await self.until_readable(loop, sock)
            finally:
                upload.cancel()

    async def upload(self, loop, sock):
        piece = bytes(65536)
        while True:
            await loop.sock_sendall(sock, piece)

    async def until_readable(self, loop, sock):
        await loop.sock_recv(sock, 1)


async def main(port, tls_port, streams, counts):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    load = Load(port, tls_port, streams)
    clients = [asyncio.ensure_future(load.keep(kind)) for kind, count in counts.items() for _ in range(count)]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    print(json.dumps(load.counts))


asyncio.run(main(*map(int, sys.argv[1:4]), json.loads(sys.argv[4])))
