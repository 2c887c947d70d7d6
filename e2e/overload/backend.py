"""A backend: answers `/plain`, sends without end for `/large`, does not take what is sent to `/upload`, and both in tunnels."""
import asyncio
import resource
import socket
import sys

PIECE = b"x" * 65536
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


class Connection(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.head, self.pumps = transport, b"", False

    def data_received(self, data):
        self.head += data
        while b"\r\n\r\n" in self.head:
            head, _, self.head = self.head.partition(b"\r\n\r\n")
            self.answer(head.split(b" ", 2)[1])

    def answer(self, path):
        if path == b"/upload":
            self.transport.pause_reading()
        elif path == b"/tunnel-up":
            self.transport.write(SWITCH)
            self.transport.pause_reading()
        elif path == b"/tunnel-down":
            self.transport.write(SWITCH)
            self.pumps, self.full = True, False
            self.pump()
        elif path == b"/large":
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1 << 40))
            self.pumps, self.full = True, False
            self.pump()
        else:
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def pump(self):
        for _ in range(4):
            if self.full or self.transport.is_closing():
                return
            self.transport.write(PIECE)
        asyncio.get_running_loop().call_soon(self.pump)

    def pause_writing(self):
        self.full = True

    def resume_writing(self):
        self.full = False
        if self.pumps:
            self.pump()


async def main(port):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # What the kernel buffers is not what is measured.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    listener.bind(("127.0.0.1", port))
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=4096)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
