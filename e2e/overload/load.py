"""The load: connections that press on a gateway's memory until standard input ends. Prints what became of them as JSON.

Whoever is refused comes back at once, as clients do.
"""
import asyncio
import json
import resource
import socket
import sys

REST = 0.1
HUGE = 1 << 40


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


class Load:
    def __init__(self, port, streams):
        self.port, self.counts = port, {}
        self.first = {
            "uploads": b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % HUGE,
            "readers": b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
            "streams": http2(streams),
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
            except OSError:
                self.count(f"{kind} refused or reset")
            await asyncio.sleep(REST)

    async def press(self, kind):
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        try:
            sock.setblocking(False)
            # What the kernel buffers is not what is measured.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(sock, ("127.0.0.1", self.port))
            await loop.sock_sendall(sock, self.first[kind])
            if kind == "uploads":
                upload = asyncio.ensure_future(self.upload(loop, sock))
                try:
                    await self.until_readable(loop, sock)
                finally:
                    upload.cancel()
            elif kind == "readers":
                # A refusal is read; of a body that comes nothing is.
                if (await loop.sock_recv(sock, 12))[9:12] == b"200":
                    await asyncio.Event().wait()
            else:
                await asyncio.sleep(60)
        finally:
            sock.close()

    async def upload(self, loop, sock):
        piece = bytes(65536)
        while True:
            await loop.sock_sendall(sock, piece)

    async def until_readable(self, loop, sock):
        await loop.sock_recv(sock, 1)


async def main(port, streams, counts):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    load = Load(port, streams)
    clients = [asyncio.ensure_future(load.keep(kind)) for kind, count in counts.items() for _ in range(count)]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    print(json.dumps(load.counts))


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])))
