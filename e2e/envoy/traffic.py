"""Random requests for the cases, among them the odd ones that proxies read differently."""
import struct

from cases import PROFILES

LANES = 64
KEYLESS = 1
# Made in one place, whether they are hashed or not.
SPECIAL = ("host", "cookie", "x-forwarded-for", "user-agent")


def write_plan(path, rng, cases, count, subject, reference):
    """The driver's plan file (driver/src/plan.rs has the format)."""
    header = ["subject " + " ".join(f"127.0.0.1:{port}" for port in subject),
              "reference " + " ".join(f"127.0.0.1:{port}" for port in reference)]
    header += [f"lane 127.{64 + lane}.{rng.randint(0, 255)}.{rng.randint(1, 254)} {'h2' if lane % 4 == 3 else 'h1'}"
               for lane in range(LANES - 1)]
    header.append("lane 127.0.0.1 h1")
    header += [f"case {case.describe()}" for case in cases]
    with open(path, "wb") as file:
        file.write(("\n".join(header) + "\n\n").encode())
        for number in range(count):
            # Every case gets its share, in random company.
            case = cases[number % len(cases)]
            flags, request = random_request(rng, case)
            # At the edge Envoy takes 127.0.0.1 for its own and appends the machine's address: no client of a pod has it.
            lanes = LANES - 1 if PROFILES[case.profile][2] else LANES
            file.write(struct.pack("<BBHHI", case.profile, flags, rng.randrange(lanes), case.index, len(request)) + request)


def random_request(rng, case):
    keyed = case.always_keyed() or rng.random() < 0.97
    # One policy that surely yields a key; the others get what chance gives.
    sure = None if case.always_keyed() or not keyed else rng.choice(case.policies)
    lines, cookies, special = [], [], {}
    for policy in case.policies:
        if "header" in policy:
            name = policy["header"]
            if name.lower() in SPECIAL:
                special[name.lower()] = policy is sure
            else:
                lines += header_lines(rng, name, policy is sure, keyed)
        elif "cookie" in policy:
            cookies += cookie_lines(rng, policy["cookie"]["name"], policy is sure, keyed)
    if special.get("cookie") and not cookies:
        cookies = [b"Cookie: all=" + word(rng)]
    for name in ("user-agent", "referer"):
        if special.get(name) or rng.random() < 0.3:
            lines += [name.encode() + b": " + word(rng) for _ in range(1 if rng.random() < 0.8 else 2)]
    lines += forwarded_lines(rng, special.get("x-forwarded-for", False))
    lines += cookies
    rng.shuffle(lines)
    lines = keep_cookie_order(lines, cookies)
    host = case.host + rng.choice(["", "", ":8080", ":80"])
    method = rng.choice(["GET", "GET", "GET", "HEAD", "DELETE"])
    head = [f"{method} /{rng.randint(0, 999)}{rng.choice(['', '?user=7', '?a=b&c'])} HTTP/1.1".encode(), b"Host: " + host.encode()]
    # A header that is hashed may be there by chance, so only requests that are bare of all of them are left out.
    return (0 if keyed else KEYLESS), b"\r\n".join(head + lines) + b"\r\n\r\n"


def keep_cookie_order(lines, cookies):
    """The order among cookie lines matters, and a sure cookie comes first."""
    queue = iter(cookies)
    return [next(queue) if line in cookies else line for line in lines]


def word(rng):
    if rng.random() < 0.7:
        return b"%x" % rng.getrandbits(rng.choice([8, 32, 64]))
    return bytes(rng.choice(b"abcXYZ019-_.~!#$&'*+^`|%/=?@()[]{}<>:,\\") for _ in range(rng.randint(1, 40)))


def value(rng):
    """A header's value: empty, padded, with bytes outside ASCII."""
    return rng.choice([
        lambda: word(rng), lambda: word(rng), lambda: word(rng), lambda: b"", lambda: b"  " + word(rng) + b" \t",
        lambda: word(rng) + b"," + word(rng), lambda: word(rng) + b" " + word(rng), lambda: "grüße".encode(), lambda: b"\xff\xfe" + word(rng),
    ])()


def header_lines(rng, name, sure, keyed):
    count = 1 if sure else rng.choice([0, 1, 1, 1, 2, 3]) if keyed else 0
    spelled = rng.choice([name, name.lower(), name.upper()]).encode()
    return [spelled + rng.choice([b": ", b":", b": ", b":  "]) + value(rng) for _ in range(count)]


def cookie_lines(rng, name, sure, keyed):
    """Whole Cookie lines for one cookie, clean or odd."""
    if not keyed:
        return []
    name = name.encode()
    if sure:
        return [b"Cookie: " + name + b"=" + cookie_value(rng)]
    odd = [
        lambda: [],
        lambda: [name + b"=" + cookie_value(rng)],
        lambda: [name + b"=" + cookie_value(rng)],
        lambda: [b"other=1; " + name + b"=" + cookie_value(rng) + b"; last=2"],
        lambda: [b"other=1", name + b"=" + cookie_value(rng)],
        lambda: [name + b"=" + cookie_value(rng), name + b"=" + cookie_value(rng)],
        lambda: [name + b"=" + cookie_value(rng) + b"; " + name + b"=second"],
        lambda: [name + b"=; " + name + b"=late"],
        lambda: [name + b" =" + cookie_value(rng)],
        lambda: [name + b"= " + cookie_value(rng)],
        lambda: [name + b"=" + cookie_value(rng) + b" ;x=y"],
        lambda: [b"  " + name + b"=" + cookie_value(rng)],
        lambda: [b"\t" + name + b"=" + cookie_value(rng)],
        lambda: [b"a=b;\t" + name + b"=" + cookie_value(rng)],
        lambda: [b"a=b;" + name + b"=" + cookie_value(rng)],
        lambda: [b"a=b;;; ;  " + name + b"=" + cookie_value(rng)],
        lambda: [name.swapcase() + b"=" + cookie_value(rng)],
        lambda: [name],
        lambda: [name + b"; " + name + b"=" + cookie_value(rng)],
        lambda: [b"x" + name + b"=" + cookie_value(rng)],
        lambda: [b"=" + cookie_value(rng) + b"; " + name + b"=" + cookie_value(rng)],
    ]
    return [b"Cookie: " + line for line in rng.choice(odd)()]


def cookie_value(rng):
    plain = b"%016x" % rng.getrandbits(64)
    return rng.choice([plain, plain, b'"' + plain + b'"', b'"' + plain, plain + b'"', b'""' + plain + b'""',
                       b'"a b"', b"%22" + plain + b"%22", plain + b"=" + plain, b'"' + plain + b'"x', b"a,b"])


def address(rng):
    v4 = ".".join(str(rng.randint(0, 255)) for _ in range(4))
    v6 = ":".join("%x" % rng.getrandbits(16) for _ in range(8))
    return rng.choice([v4, v4, v4, v6, v6.upper(), f"2001:DB8:0::{rng.randint(1, 9999)}", f"::ffff:{v4}", "::1", "::",
                       f"2001:db8:0:0:1:0:0:{rng.randint(1, 9999)}"])


def forwarded_lines(rng, sure):
    if not sure and rng.random() < 0.3:
        return []
    odd = ["", "unknown", "1.2.3.4:5678", "[2001:db8::9]", "1.2.3", "01.2.3.4", "1.2.3.256", "1.2.3.4 ", "for=1.2.3.4"]
    lines = []
    for _ in range(1 if rng.random() < 0.85 else 2):
        entries = [address(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
        if rng.random() < 0.15:
            entries[-1] = rng.choice(odd)
        lines.append(b"X-Forwarded-For: " + rng.choice([", ", ",", " , "]).join(entries).encode())
    return lines
