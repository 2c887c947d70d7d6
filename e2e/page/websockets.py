"""A server of a page and of WebSockets that says who it is: just enough of RFC 6455 for a browser."""
import base64
import hashlib
import socketserver
import struct
import sys
import threading

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            head = []
            while (line := self.rfile.readline().strip()):
                head.append(line.decode("latin-1"))
            if not head:
                return
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            if headers.get("upgrade", "").lower() == "websocket":
                return self.websocket(headers["sec-websocket-key"])
            body = f"<!doctype html><title>{self.server.name}</title>".encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    def websocket(self, key):
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        self.wfile.write(f"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n".encode())
        self.send(TEXT, self.server.name.encode())
        while True:
            kind, payload = self.receive()
            if kind == CLOSE:
                self.send(CLOSE, payload)
                return
            if kind == TEXT and payload == b"please close":
                self.send(CLOSE, struct.pack("!H", 4001) + b"as you like")
                self.receive()
                return
            self.send(PONG if kind == PING else kind, payload)

    def receive(self):
        """A whole message; its fragments put together."""
        kind, whole = None, b""
        while True:
            first, second = self.rfile.read(2)
            length = second & 127
            if length == 126:
                length = struct.unpack("!H", self.rfile.read(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self.rfile.read(8))[0]
            mask = self.rfile.read(4)
            data = self.rfile.read(length)
            repeated = (mask * (length // 4 + 1))[:length]
            whole += (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
            kind = kind or first & 15
            if first & 128:
                return kind, whole

    def send(self, kind, payload):
        length = len(payload)
        head = bytes([128 | kind]) + (bytes([length]) if length < 126 else struct.pack("!BH", 126, length) if length < 65536 else struct.pack("!BQ", 127, length))
        self.wfile.write(head + payload)
        self.wfile.flush()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_):
        # A connection that ended in the middle: the browser's tab was closed.
        if not isinstance(sys.exc_info()[1], (ConnectionError, ValueError)):
            super().handle_error(*_)


def start(address, port, name):
    server = Server((address, port), Handler)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]
