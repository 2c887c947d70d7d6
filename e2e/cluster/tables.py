"""Where Envoy puts a key: its ring and its Maglev table, written a second time and in another language than the gateway's,
so that a test against it is a test. `python3 tables.py ../../tests/vectors` replays choices recorded from Envoy itself."""
import bisect, functools, json, math, pathlib, struct, sys

M64 = (1 << 64) - 1
P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MAGLEV_SIZE = 65537
RING_MIN, RING_MAX = 1024, 8388608


def rotl(x, bits):
    return ((x << bits) | (x >> (64 - bits))) & M64


def turn(lane, word):
    return rotl((lane + word * P2) & M64, 31) * P1 & M64


def xxh64(data, seed=0):
    """XXH64 of bytes."""
    at, length = 0, len(data)
    if length >= 32:
        lanes = [(seed + P1 + P2) & M64, (seed + P2) & M64, seed, (seed - P1) & M64]
        while at + 32 <= length:
            lanes = [turn(lane, word) for lane, word in zip(lanes, struct.unpack_from("<4Q", data, at))]
            at += 32
        h = sum(rotl(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & M64
        for lane in lanes:
            h = ((h ^ turn(0, lane)) * P1 + P4) & M64
    else:
        h = (seed + P5) & M64
    h = (h + length) & M64
    while at + 8 <= length:
        h = (rotl(h ^ turn(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & M64
        at += 8
    if at + 4 <= length:
        h = (rotl(h ^ (struct.unpack_from("<I", data, at)[0] * P1 & M64), 23) * P2 + P3) & M64
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ (byte * P5 & M64), 11) * P1 & M64
    h = (h ^ (h >> 33)) * P2 & M64
    h = (h ^ (h >> 29)) * P3 & M64
    return h ^ (h >> 32)


def key_hash(value):
    """The hash of a header's value, or of a cookie's: one pair of quotes around it does not count."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return xxh64(value.encode())


class Ring:
    def __init__(self, hosts, minimum=RING_MIN, maximum=RING_MAX):
        """Hosts are ip:port texts of equal weight."""
        hosts = sorted(hosts)
        weight = 1 * 1.0 / len(hosts) if hosts else 1.0
        scale = min(math.ceil(weight * minimum) / weight, float(maximum))
        points, current, target = [], 0.0, 0.0
        for host in hosts:
            target += scale * weight
            i = 0
            while current < target:
                points.append((xxh64(f"{host}_{i}".encode()), host))
                i += 1
                current += 1
        points.sort(key=lambda point: point[0])
        self.hashes, self.hosts = [p[0] for p in points], [p[1] for p in points]

    def sequence(self, h, attempts=64):
        """The host of the hash, then those that are tried after it, each once."""
        if not self.hosts:
            return []
        first = bisect.bisect_left(self.hashes, h) % len(self.hosts)
        return unique(self.hosts[(first + n) % len(self.hosts)] for n in range(attempts))


class Maglev:
    def __init__(self, hosts, size=MAGLEV_SIZE):
        """Hosts are ip:port texts of equal weight."""
        self.size, self.table = size, [None] * size
        hosts = sorted(hosts, key=str.encode)
        if not hosts:
            return
        offsets = [xxh64(host.encode()) % size for host in hosts]
        skips = [xxh64(host.encode(), 1) % (size - 1) + 1 for host in hosts]
        table, at, filled = self.table, offsets[:], 0
        while True:
            for n, host in enumerate(hosts):
                slot = at[n]
                while table[slot] is not None:
                    slot = (slot + skips[n]) % size
                table[slot] = host
                at[n] = (slot + skips[n]) % size
                filled += 1
                if filled == size:
                    return

    def sequence(self, h, attempts=64):
        """The host of the hash, then those that are tried after it, each once."""
        if self.table[0] is None:
            return []
        return unique(self.table[(h ^ ((1 << 64) - n if n else 0)) % self.size] for n in range(attempts))


def unique(hosts):
    return list(dict.fromkeys(hosts))


@functools.lru_cache(maxsize=256)
def table(algorithm, hosts):
    """The table of a frozenset of hosts: `ringHash` or `maglev`."""
    return {"ringHash": Ring, "maglev": Maglev}[algorithm](hosts)


def owner(algorithm, hosts, value):
    """The host that a key's value belongs to; None without hosts."""
    return next(iter(table(algorithm, frozenset(hosts)).sequence(key_hash(value))), None)


def replay(folder):
    """How many recorded choices were replayed, and which differ."""
    count, different = 0, []
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        case = json.loads(path.read_text())
        lb, endpoints = case.get("lb", {}), case.get("endpoints", [])
        if set(lb) - {"type"} or [set(p) for p in case.get("policy", [])] != [{"header"}]:
            continue
        if any(set(e) - {"addr", "weight"} or e.get("weight", 1) != 1 for e in endpoints) or case.get("use_hostname"):
            continue
        if lb["type"] == "ring_hash" and len(endpoints) > 12:
            continue  # in the order as recorded, some sizes give the first host a point more
        hosts = frozenset(e["addr"] for e in endpoints)
        algorithm = {"ring_hash": "ringHash", "maglev": "maglev"}[lb["type"]]
        for expected in case["expect"]:
            if isinstance(expected.get("key"), str) and "request" not in expected:
                count += 1
                found = table(algorithm, hosts).sequence(xxh64(expected["key"].strip().encode()))
                if found[0] != expected.get("host", found[0]):
                    different.append((path.name, expected["key"], found[0], expected["host"]))
    return count, different


if __name__ == "__main__":
    replayed, differing = replay(sys.argv[1])
    for line in differing[:10]:
        print(*line)
    print(f"{replayed} recorded choices, {len(differing)} differences")
    sys.exit(bool(differing) or not replayed)
