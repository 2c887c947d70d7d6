"""What is known to fail, with the reason. One failure more fails the run, and one less too: then its line goes."""

BLANKS = "blanks around a value pass; in HTTP/1.1 they are no part of it"

# How many tests each suite has: one that runs fewer has not run.
TOTAL = {"h2spec": 146, "h2spec-tls": 146, "httpwg": 107}

KNOWN = {
    "h2spec": {
        "http2/3.5 Sends invalid connection preface":
            "what is no preface is a request of HTTP/1.1 on the same port, and is answered as one",
    },
    "h2spec-tls": {},
    "httpwg": {
        "8. expressing http semantics in http2 :: sends headers frame with leading space in field value": BLANKS,
        "8. expressing http semantics in http2 :: sends headers frame with trailing tab in field value": BLANKS,
        "8. expressing http semantics in http2 :: sends headers frame with mismatched host authority":
            "the RFC says SHOULD; :authority wins, and the other name reaches nobody",
    },
    "desync": {},
    "downgrade": {},
}

# What may fail or not, with the reason; the fewest possible.
UNSTEADY = {
    "httpwg": {},
}
