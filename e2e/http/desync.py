"""Runs `desync.vectors`: each vector as a whole and byte by byte, on a connection of its own."""
import client
import verdict

TAIL = b"GET /tail HTTP/1.1\r\nhost: tail\r\nconnection: close\r\n\r\n"
# A long vector is not sent in single bytes: it is about a limit.
LONG = 4096


def run(vectors, port, backend):
    """What is wrong, by vector."""
    wrong = {}
    witness = client.Witness(port)
    for vector in vectors:
        for pieces in (1 << 20, 1 if len(vector.sent) < LONG else 1000):
            complaint = verdict.judge(vector, once(vector, port, backend, pieces, witness))
            if complaint:
                how = "" if pieces > 1000 else " (in pieces)"
                wrong.setdefault(vector.name, complaint + how)
    return wrong


def once(vector, port, backend, pieces, witness):
    backend.settle(witness)
    backend.take()
    methods = [forward.method for forward in vector.verdicts[-1].forwards()]
    sent = vector.sent if vector.fin else vector.sent + TAIL
    answers = client.converse(port, sent, pieces, vector.fin, methods)
    backend.settle(witness)
    return verdict.Observed(*verdict.sorted_records(backend.take()), answers.statuses, answers.closed, answers.rest)
