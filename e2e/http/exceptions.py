"""What is known to fail, with the reason. One failure more fails the run, and one less too: then its line goes."""

PSEUDO = "the library drops it and goes on; nothing of it reaches the backend"
BLANKS = "the library lets blanks around a value pass; in HTTP/1.1 they are no part of it"
CODE = "the connection ends, but with PROTOCOL_ERROR: the library has no other code for frames that it cannot parse"
CLOSED = "the connection ends, with PROTOCOL_ERROR instead of STREAM_CLOSED"

# How many tests each suite has: one that runs fewer has not run.
TOTAL = {"h2spec": 146, "h2spec-tls": 146, "httpwg": 107}

KNOWN = {
    "h2spec": {
        "http2/3.5 Sends invalid connection preface":
            "what is no preface is a request of HTTP/1.1 on the same port, and is answered as one",
    },
    "h2spec-tls": {},
    "httpwg": {
        "4. http frames :: invalid header block fragment": CODE,
        "5. streams and multiplexing :: closed sends headers frame": CLOSED,
        "5. streams and multiplexing :: closed sends headers frame after rst stream": CLOSED,
        "5. streams and multiplexing :: half closed remote sends headers frame": CLOSED,
        "6. frame definitions :: sends ping frame with invalid length": CODE,
        "6. frame definitions :: sends priority frame with invalid length": CODE,
        "6. frame definitions :: sends rst stream frame with invalid length": CODE,
        "6. frame definitions :: sends settings frame with ack and payload": CODE,
        "6. frame definitions :: sends settings frame with invalid length": CODE,
        "6. frame definitions :: sends settings initial window size with exceeded max window size value": CODE,
        "6. frame definitions :: sends settings initial window size with invalid value": CODE,
        "6. frame definitions :: sends window update frame with invalid length": CODE,
        "8. expressing http semantics in http2 :: sends connect without authority": "every CONNECT is answered with 405",
        "8. expressing http semantics in http2 :: sends headers frame with leading space in field value": BLANKS,
        "8. expressing http semantics in http2 :: sends headers frame with trailing tab in field value": BLANKS,
        "8. expressing http semantics in http2 :: sends headers frame with mismatched host authority":
            "the RFC says SHOULD; :authority wins, and the other name reaches nobody",
        "8. expressing http semantics in http2 :: sends headers frame with pseudo header in trailer": PSEUDO,
    },
    "desync": {},
    "downgrade": {
        "a pseudo-header among the trailers": PSEUDO,
    },
}

# What may fail or not, with the reason; the fewest possible.
UNSTEADY = {
    "httpwg": {
        "5. streams and multiplexing :: half closed remote sends data frame":
            CLOSED + ", unless the answer was sent before",
        "6. frame definitions :: sends data frame on invalid stream state":
            CLOSED + ", unless the answer was sent before",
        "7. error codes :: sends goaway frame with unknown error code":
            "a client that says GOAWAY and has no stream open may find the connection closed before its PING is answered",
        "8. expressing http semantics in http2 :: client sends push promise frame":
            "the suite sends it without END_HEADERS, and the library waits for the rest: it passes only when the connection happens to end",
    },
}
