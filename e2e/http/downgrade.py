"""Runs `downgrade.vectors`: each is a stream of HTTP/2 with a request behind it on a second stream, and HTTP/1.1 at the backend."""
import contextlib
import dataclasses
import time

import hpack
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame

import client
import verdict

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TAIL = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"tail"), (b":path", b"/tail")]
LARGEST_FRAME = 16384


@dataclasses.dataclass
class Stream:
    status: int | None = None
    ended: bool = False
    reset: bool = False


def run(vectors, port, backend):
    """What is wrong, by vector."""
    wrong = {}
    witness = client.Witness(port)
    for vector in vectors:
        # The second time in several frames a header block, which changes nothing.
        for most_frames in (1, 3):
            complaint = verdict.judge(vector, once(vector, port, backend, witness, most_frames))
            if complaint:
                wrong.setdefault(vector.name, complaint + ("" if most_frames == 1 else " (in fragments)"))
    return wrong


def once(vector, port, backend, witness, most_frames):
    backend.settle(witness)
    backend.take()
    with client.connect(port) as sock:
        try:
            sock.sendall(frames(vector, most_frames))
        except OSError:
            pass  # The gateway has closed already; what it said before can still be read.
        own, tail, closed = converse(sock)
    backend.settle(witness)
    statuses = [stream.status for stream in (own, tail) if stream.status]
    return verdict.Observed(*verdict.sorted_records(backend.take()), statuses, own.ended or closed, streams=True, reset=own.reset)


def frames(vector, most_frames):
    encoder = hpack.Encoder()
    sent = [PREFACE, SettingsFrame(0).serialize()]
    ends = not vector.data and not vector.trailers and not vector.unended
    sent += header_block(encoder, 1, vector.headers, ends, most_frames)
    for index, data in enumerate(vector.data):
        last = index + 1 == len(vector.data) and not vector.trailers and not vector.unended
        sent.append(DataFrame(1, data, flags=["END_STREAM"] if last else []).serialize())
    if vector.trailers:
        sent += header_block(encoder, 1, vector.trailers, not vector.unended, most_frames)
    return b"".join(sent + header_block(encoder, 3, TAIL, True, 1))


def header_block(encoder, stream, headers, ends, most_frames):
    block = encoder.encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in headers])
    fragment = min(-(-len(block) // most_frames), LARGEST_FRAME)
    parts = [block[at:at + fragment] for at in range(0, len(block), fragment)] or [b""]
    first = HeadersFrame(stream, parts[0], flags=["END_STREAM"] if ends else [])
    made = [first] + [ContinuationFrame(stream, part) for part in parts[1:]]
    made[-1].flags.add("END_HEADERS")
    return [frame.serialize() for frame in made]


def converse(sock):
    """What became of the two streams, and whether the connection ended with them open."""
    decoder, received, deadline = hpack.Decoder(), b"", time.monotonic() + client.PATIENCE
    streams = {1: Stream(), 3: Stream()}
    while not all(stream.ended for stream in streams.values()) and (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            chunk = sock.recv(65536)
        except TimeoutError:
            break
        except OSError:
            chunk = b""
        if not chunk:
            return streams[1], streams[3], True
        received += chunk
        while len(received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(received[:9]))
            if len(received) < 9 + length:
                break
            frame.parse_body(memoryview(received[9:9 + length]))
            received = received[9 + length:]
            take(frame, streams, decoder)
            if acknowledged := acknowledgement(frame):
                with contextlib.suppress(OSError):
                    sock.sendall(acknowledged.serialize())
    return streams[1], streams[3], False


def acknowledgement(frame):
    if "ACK" in frame.flags:
        return None
    if isinstance(frame, SettingsFrame):
        return SettingsFrame(0, flags=["ACK"])
    return PingFrame(0, frame.opaque_data, flags=["ACK"]) if isinstance(frame, PingFrame) else None


def take(frame, streams, decoder):
    stream = streams.get(frame.stream_id, Stream())
    if isinstance(frame, HeadersFrame):
        fields = dict(decoder.decode(frame.data, raw=True))
        stream.status = stream.status or int(fields.get(b":status", b"0"))
    elif isinstance(frame, RstStreamFrame):
        stream.ended = stream.reset = True
    elif isinstance(frame, GoAwayFrame) and frame.error_code:
        for each in streams.values():
            each.ended = True
    if "END_STREAM" in frame.flags:
        stream.ended = True
