"""Whether what happened is what a vector says."""
import dataclasses

from backend import Broken
from vectors import Forward


@dataclasses.dataclass
class Observed:
    """What a vector led to. `tail`: how often the request behind it was served. `ended`: the connection, or the vector's stream.
    `streams`: it is HTTP/2, where the refused ends with a reset as well as with an answer, and the tail is another stream."""
    messages: list
    broken: list
    tail: int
    statuses: list
    ended: bool
    rest: bytes = b""
    streams: bool = False
    reset: bool = False


def sorted_records(records):
    """The vector's own messages, the broken ones, the number of tails."""
    messages = [record for record in records if not isinstance(record, Broken) and record.target != b"/witness"]
    broken = [record for record in records if isinstance(record, Broken)]
    own = [message for message in messages if message.target != b"/tail"]
    return own, broken, len(messages) - len(own)


def judge(vector, observed):
    """`None`, or what is wrong: of several verdicts the one that needs the fewest words."""
    wrong = [complaint(verdict, observed) for verdict in vector.verdicts]
    return None if None in wrong else min(wrong, key=len)


def complaint(verdict, observed):
    malformed = [broken for broken in observed.broken if broken.reason != "broke off"]
    if malformed:
        return f"the backend got what has no single meaning: {malformed[0].reason}"
    forwards = verdict.forwards()
    if len(observed.messages) != len(forwards):
        targets = [(message.method + b" " + message.target[:40]).decode("latin-1") for message in observed.messages]
        return f"the backend got {len(observed.messages)} messages, not {len(forwards)}: {targets}; answers {observed.statuses}"
    for forward, message in zip(forwards, observed.messages, strict=True):
        if (wrong := difference(forward, message)) is not None:
            return wrong
    return answers(verdict, observed)


def answers(verdict, observed):
    expected = [{200} if isinstance(step, Forward) else step.statuses for step in verdict.steps]
    begun = len(observed.broken)
    if observed.rest:
        return f"bytes that are no answer: {observed.rest[:60]!r}"
    if not observed.ended:
        return f"the gateway waits; answers {observed.statuses}"
    if verdict.refuse:
        if observed.streams:
            return None if is_refused(verdict, observed) else f"answers {observed.statuses}, not {verdict.refuse.statuses}"
        if observed.tail:
            return "what came behind the refused bytes was served"
        if begun and not verdict.refuse.partial:
            return "a part of it reached the backend"
        if verdict.refuse.silent and fits(observed.statuses, expected):
            return None
        expected.append(verdict.refuse.statuses)
    else:
        if begun:
            return "the backend saw a message break off"
        if observed.tail and verdict.end == "close":
            return "the connection did not close"
        if not observed.tail and verdict.end == "open":
            return f"the connection closed; answers {observed.statuses}"
        expected += [{200}] * observed.tail
    return None if fits(observed.statuses, expected) else f"answers {observed.statuses}, not {expected}"


def is_refused(verdict, observed):
    """A stream: with an answer of the gateway's, or reset, before or behind the answer to a message that was whole by then."""
    if observed.broken and not verdict.refuse.partial:
        return False
    own = observed.statuses[:len(observed.statuses) - observed.tail]
    return not own or own[0] in verdict.refuse.statuses or (observed.reset and own == [200] and verdict.steps)


def fits(statuses, expected):
    return len(statuses) == len(expected) and all(status in allowed for status, allowed in zip(statuses, expected, strict=True))


def difference(forward, message):
    framings = {"empty": ("none",), "length": ("length",), "chunked": ("chunked",)}[forward.framing]
    if forward.framing == "empty" and message.framing == "length" and not message.body:
        framings = ("length",)
    expected = (forward.method, forward.target, forward.body)
    got = (message.method, message.target, message.body)
    if expected != got or message.framing not in framings:
        return f"the backend got {cut(got)} framed by {message.framing}, not {cut(expected)} framed by {forward.framing}"
    for name, value in forward.present:
        if message.values(name.lower()) != [value]:
            return f"{name.decode()} is {message.values(name.lower())}, not [{value!r}]"
    for name in forward.absent:
        if message.values(name):
            return f"{name.decode()} got through"
    for name in forward.untrailed:
        if any(key.lower() == name for key, _ in message.trailers):
            return f"{name.decode()} got through as a trailer"
    return None


def cut(parts):
    return tuple(part[:60] for part in parts)
