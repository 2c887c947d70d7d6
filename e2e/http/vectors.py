"""The format of `desync.vectors` and `downgrade.vectors`.

A vector is a block of lines up to an empty one:

    [NAME] SOURCE           its name, and where the verdict comes from
    > BYTES                 desync: what the client sends, lines joined; a line `fin` behind them: then it closes its direction
    > METHOD SCHEME AUTHORITY PATH
                            downgrade: the pseudo-headers, in this order; `-` leaves one out
    h NAME = VALUE          downgrade: a header, or a pseudo-header of its own, in this order; `h*N`: N times
    d BYTES                 downgrade: a DATA frame
    t NAME = VALUE          downgrade: a trailer
    raw                     downgrade: the last frame does not end the stream
    = METHOD TARGET FRAMING BODY
                            the backend gets this message, and the client gets its answer; FRAMING is `empty` (no header of
                            framing, or `content-length: 0`), `length` or `chunked`
    + NAME: VALUE           that message has exactly one such header
    - NAME                  it has no such header
    no-trailer NAME         it has no such trailer
    < STATUS...             the gateway answers with one of these and closes; nothing of it reaches the backend. `silent`: it may
                            close without an answer. downgrade: or it resets the stream, or ends the connection
    <partial STATUS...      the same, but a message may have begun at the backend, which sees it break off
    reply STATUS...         the gateway answers with one of these, and the connection goes on; nothing reaches the backend
    close                   after the answers the gateway closes; `close?`: it may
    or                      another verdict that is as good

Escapes: `\\r \\n \\t \\0 \\\\ \\xNN`, and `\\*N{TEXT}` for N times TEXT.
"""
import dataclasses
import pathlib
import re

ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|\*(\d+)\{([^}]*)\}|([rnt0\\]))")
FIELD = re.compile(r"[ht](\*\d+)?")
PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


@dataclasses.dataclass
class Forward:
    """A message that the backend gets."""
    method: bytes
    target: bytes
    framing: str
    body: bytes
    present: list = dataclasses.field(default_factory=list)
    absent: list = dataclasses.field(default_factory=list)
    untrailed: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Reply:
    """An answer of the gateway's own, behind which the connection goes on."""
    statuses: set


@dataclasses.dataclass
class Refuse:
    """The answer of the gateway's own that ends the connection."""
    statuses: set
    silent: bool
    partial: bool


@dataclasses.dataclass
class Verdict:
    steps: list = dataclasses.field(default_factory=list)
    refuse: Refuse | None = None
    end: str = "open"

    def forwards(self):
        return [step for step in self.steps if isinstance(step, Forward)]


@dataclasses.dataclass
class Vector:
    name: str
    source: str
    line: int
    sent: bytes = b""
    fin: bool = False
    headers: list = dataclasses.field(default_factory=list)
    data: list = dataclasses.field(default_factory=list)
    trailers: list = dataclasses.field(default_factory=list)
    unended: bool = False
    verdicts: list = dataclasses.field(default_factory=lambda: [Verdict()])


def unescape(text):
    """The bytes that a text of the table stands for; every character below U+0100 is one byte."""
    def replace(found):
        octet, count, repeated, plain = found.groups()
        if octet:
            return chr(int(octet, 16))
        return unescape(repeated).decode("latin-1") * int(count) if count else PLAIN[plain]
    return ESCAPE.sub(replace, text).encode("latin-1")


def read(path, kind):
    """The vectors of a file; ends the program on a line that it does not understand."""
    found, vector = [], None
    for number, line in enumerate(pathlib.Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            vector = None if not line.strip() else vector
            continue
        head = re.fullmatch(r"\[(.+)\] (.+)", line)
        if head:
            vector = Vector(head[1], head[2], number)
            found.append(vector)
            continue
        if vector is None or not LINES[kind](vector, line):
            raise SystemExit(f"{path}:{number}: not understood: {line}")
    names = [vector.name for vector in found]
    twice = {name for name in names if names.count(name) > 1}
    empty = [vector.name for vector in found if any(not verdict.steps and not verdict.refuse for verdict in vector.verdicts)]
    if twice or empty:
        raise SystemExit(f"{path}: twice: {sorted(twice)}; without a verdict: {empty}")
    return found


def desync_line(vector, line):
    if line.startswith("> "):
        vector.sent += unescape(line[2:])
    elif line == "fin":
        vector.fin = True
    else:
        return verdict_line(vector, line)
    return True


def downgrade_line(vector, line):
    key, _, rest = line.partition(" ")
    if key == ">":
        names = (b":method", b":scheme", b":authority", b":path")
        vector.headers += [(name, unescape(value)) for name, value in zip(names, rest.split(" "), strict=True) if value != "-"]
    elif FIELD.fullmatch(key):
        name, _, value = rest.partition(" =")
        fields = vector.headers if key[0] == "h" else vector.trailers
        fields += [(unescape(name), unescape(value.removeprefix(" ")))] * int(key[2:] or 1)
    elif key == "d":
        vector.data.append(unescape(rest))
    elif line == "raw":
        vector.unended = True
    else:
        return verdict_line(vector, line)
    return True


LINES = {"desync": desync_line, "downgrade": downgrade_line}


def verdict_line(vector, line):
    verdict = vector.verdicts[-1]
    key, _, rest = line.partition(" ")
    if key == "=" and not verdict.refuse:
        method, target, framing, *body = rest.split(" ", 3)
        verdict.steps.append(Forward(method.encode(), unescape(target), framing, unescape(body[0]) if body else b""))
        return framing in ("empty", "length", "chunked")
    if key in ("<", "<partial") and not verdict.refuse:
        words = set(rest.split())
        verdict.refuse = Refuse({int(word) for word in words - {"silent"}}, "silent" in words, key == "<partial")
        return bool(words)
    if key == "reply" and not verdict.refuse:
        verdict.steps.append(Reply({int(word) for word in rest.split()}))
    elif key == "+" and verdict.forwards():
        name, _, value = rest.partition(":")
        verdict.forwards()[-1].present.append((name.encode(), unescape(value.strip())))
    elif key == "-" and verdict.forwards():
        verdict.forwards()[-1].absent.append(rest.encode())
    elif key == "no-trailer" and verdict.forwards():
        verdict.forwards()[-1].untrailed.append(rest.encode())
    elif line in ("close", "close?") and verdict.steps:
        verdict.end = line
    elif line == "or":
        vector.verdicts.append(Verdict())
    else:
        return False
    return True
