#!/usr/bin/env python3
"""A second opinion on slots, hash splits, vacant places and warm-ups, written from their description and not from `src/lb`.

    python3 tests/affinity_model/model.py > tests/affinity_model/vectors.json

Standard library only. The random histories come from fixed seeds, so that the output is always the same.
"""

import json
import math
import random

WORD = (1 << 64) - 1


# --- XXH64, from its specification ---------------------------------------------------------------------------------

P1, P2, P3, P4, P5 = 11400714785074694791, 14029467366897019727, 1609587929392839161, 9650029242287828579, 2870177450012600261


def rotl(value, bits):
    return ((value << bits) | (value >> (64 - bits))) & WORD


def xx_round(acc, lane):
    return rotl((acc + lane * P2) & WORD, 31) * P1 & WORD


def xxh64(data, seed=0):
    rest = data
    if len(data) >= 32:
        lanes = [(seed + P1 + P2) & WORD, (seed + P2) & WORD, seed, (seed - P1) & WORD]
        while len(rest) >= 32:
            for number in range(4):
                lanes[number] = xx_round(lanes[number], int.from_bytes(rest[8 * number : 8 * number + 8], "little"))
            rest = rest[32:]
        acc = sum(rotl(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & WORD
        for lane in lanes:
            acc = ((acc ^ xx_round(0, lane)) * P1 + P4) & WORD
    else:
        acc = (seed + P5) & WORD
    acc = (acc + len(data)) & WORD
    while len(rest) >= 8:
        acc = (rotl(acc ^ xx_round(0, int.from_bytes(rest[:8], "little")), 27) * P1 + P4) & WORD
        rest = rest[8:]
    if len(rest) >= 4:
        acc = (rotl(acc ^ (int.from_bytes(rest[:4], "little") * P1 & WORD), 23) * P2 + P3) & WORD
        rest = rest[4:]
    for byte in rest:
        acc = rotl(acc ^ (byte * P5 & WORD), 11) * P1 & WORD
    acc = (acc ^ (acc >> 33)) * P2 & WORD
    acc = (acc ^ (acc >> 29)) * P3 & WORD
    return acc ^ (acc >> 32)


assert xxh64(b"") == 0xEF46DB3751D8E999
assert xxh64(b"user-1") == 0xA173746B114C6BE8


def splitmix(state):
    """The first number of SplitMix64."""
    z = (state + 0x9E3779B97F4A7C15) & WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


# --- Maglev, with vacant places and hosts that warm up --------------------------------------------------------------


def maglev(keys, size):
    """The key of each slot; all weights are equal."""
    table = [None] * size
    walks = {key: iter_permutation(key, size) for key in sorted(keys)}
    while keys and None in table:
        for walk in walks.values():
            slot = next((slot for slot in walk if table[slot[0]] is None), None)
            if slot is None:
                return table
            table[slot[0]] = slot[1]
            if None not in table:
                break
    return table


def iter_permutation(key, size):
    data = key.encode()
    offset, skip = xxh64(data, 0) % size, xxh64(data, 1) % (size - 1) + 1
    for step in range(size):
        yield (offset + step * skip) % size, key


ADMIT_SALT = int.from_bytes(b"admits_1", "big")


def takes(admits, hashed):
    """`all`, `none`, or of how many of 65,536 hashes."""
    if admits in ("all", "none"):
        return admits == "all"
    return splitmix(hashed ^ ADMIT_SALT) >> 48 < admits


class Cluster:
    def __init__(self, hosts, size):
        self.admits = dict(hosts)
        whole = [key for key, admits in hosts if admits == "all"]
        if not whole:
            whole = [key for key, admits in hosts if admits != "none"]
            self.admits.update((key, "all") for key in whole)
        self.size = size
        self.table = maglev([key for key, _ in hosts], size)
        self.fallback = maglev(whole, size)

    def host(self, hashed):
        first = self.table[hashed % self.size]
        return first if takes(self.admits[first], hashed) else self.fallback[hashed % self.size]


def clusters(rng):
    for case in range(24):
        count = rng.randint(1, 9)
        kinds = [("all", "none", rng.randint(0, 65535)), ("all",), ("none", "none", 40000), (100, 30000)][case % 4 if case < 8 else 0]
        hosts = [(f"10.0.{case}.{n}:8080", rng.choice(kinds)) for n in range(count)]
        size = rng.choice([13, 307, 1021])
        cluster = Cluster(hosts, size)
        hashes = [rng.getrandbits(64) for _ in range(40)]
        yield {
            "size": size,
            "hosts": [{"key": key, "admits": admits} for key, admits in hosts],
            "choices": [{"hash": f"{hashed:016x}", "host": cluster.host(hashed)} for hashed in hashes],
        }


# --- Warm-up ----------------------------------------------------------------------------------------------------------


def warm_up(elapsed, duration, percent, steps):
    """What is taken, and when the next step is due: from the list of all steps."""
    if percent >= 100 or steps == 0:
        return "all", None
    times = [-(-number * duration // steps) for number in range(1, steps + 1)]
    made = sum(time <= elapsed for time in times)
    if made == steps:
        return "all", None
    return (percent * steps + (100 - percent) * made) * 65536 // (100 * steps), times[made]


def warm_ups(rng):
    for _ in range(200):
        duration, percent, steps = rng.choice([0, 1, 7, 60, 120, 600]), rng.choice([0, 1, 10, 33, 99, 100]), rng.choice([0, 1, 3, 10, 64])
        elapsed = rng.randint(0, duration + 2)
        admits, due = warm_up(elapsed, duration, percent, steps)
        yield {"elapsed": elapsed, "duration": duration, "percent": percent, "steps": steps, "admits": admits, "due": due}


# --- Splits of keys ------------------------------------------------------------------------------------------------------

SPLIT_SALT = int.from_bytes(b"split__1", "big")


def pick(backends, hashed):
    """Weighted rendezvous: the lowest -ln(u) / weight. By the logarithm of the C library, so not to the last bit."""
    best = None
    for name, weight in backends:
        if weight == 0:
            continue
        drawn = xxh64(xxh64(name.encode(), SPLIT_SALT).to_bytes(8, "little") + hashed.to_bytes(8, "little"), SPLIT_SALT)
        score = -math.log(((drawn >> 12) + 0.5) / 2**52) / weight
        if best is None or score < best[0]:
            best = (score, name)
    return best and best[1]


def splits(rng):
    names = ["shop/v1:80", "shop/v2:80", "shop/v3:8080"]
    hashes = [rng.getrandbits(64) for _ in range(80)]
    weights = [(99, 1), (95, 5), (50, 50), (0, 100), (60, 30, 10), (60, 30, 20), (1, 1, 1), (0, 0), (2**32 - 1, 1, 2**31)]
    for case in weights:
        backends = list(zip(names, case))
        if rng.random() < 0.5:
            backends.reverse()
        yield {
            "backends": [{"name": name, "weight": weight} for name, weight in backends],
            "picks": [{"hash": f"{hashed:016x}", "name": pick(backends, hashed)} for hashed in hashes],
        }


# --- Slots -----------------------------------------------------------------------------------------------------------------


class Slots:
    """Events in their order: who is gone, who is back, who inherits, what is dropped, who opens a slot."""

    def __init__(self):
        self.holders = {}  # number -> pod
        self.vacant = {}  # number -> (since, pod that left it)
        self.spares = {}  # pod -> since

    def step(self, pods, now, patience):
        ready = sorted(pod for pod, state in pods.items() if state == "Ready")
        first_ever = not self.holders and not self.vacant
        for number, pod in list(self.holders.items()):
            if pods.get(pod) not in ("Ready", "NotReady"):
                del self.holders[number]
                self.vacant[number] = (now, pod)
        for number, (_, pod) in sorted(self.vacant.items()):
            if pod in ready and pod not in self.holders.values():
                del self.vacant[number]
                self.holders[number] = pod
        self.spares = {pod: self.spares.get(pod, now) for pod in ready if pod not in self.holders.values()}
        while self.vacant and self.spares:
            number = min(self.vacant, key=lambda number: (self.vacant[number][0], number))
            self.give(number, self.oldest())
        for number in [number for number, (since, _) in self.vacant.items() if now >= since + patience]:
            del self.vacant[number]
        while self.spares and (first_ever or now >= self.spares[self.oldest()] + patience):
            number = 0
            while number in self.holders or number in self.vacant:
                number += 1
            self.give(number, self.oldest())
        waiting = [since for since, _ in self.vacant.values()] + list(self.spares.values())
        return min(waiting) + patience if waiting else None

    def oldest(self):
        return min(self.spares, key=lambda pod: (self.spares[pod], pod))

    def give(self, number, pod):
        self.vacant.pop(number, None)
        del self.spares[pod]
        self.holders[number] = pod

    def told(self):
        slots = [{"number": number, "pod": pod} for number, pod in self.holders.items()]
        slots += [{"number": number, "since": since, "left_by": pod} for number, (since, pod) in self.vacant.items()]
        spares = [{"pod": pod, "since": since} for pod, since in sorted(self.spares.items(), key=lambda spare: (spare[1], spare[0]))]
        return {"slots": sorted(slots, key=lambda slot: slot["number"]), "spares": spares}


def histories(rng):
    for case in range(24):
        patience, now = rng.choice([0, 10, 30]), 1_700_000_000
        pods, slots, steps, made = {}, Slots(), [], 0
        for _ in range(25):
            now += rng.choice([0, 1, 2, 5, 12, 31])
            for pod in list(pods):
                chance = rng.random()
                if pods[pod] == "Leaving" or chance < 0.04:
                    del pods[pod]
                elif chance < 0.15:
                    pods[pod] = "Leaving"
                elif chance < 0.22:
                    pods[pod] = "NotReady"
                elif pods[pod] == "NotReady" and chance < 0.7:
                    pods[pod] = "Ready"
            for _ in range(rng.choice([0, 0, 1, 1, 2])):
                made += 1
                # Sometimes one that was there before.
                name = f"pod-{rng.randint(0, made) if rng.random() < 0.3 else made:02}"
                pods.setdefault(name, rng.choice(["Ready", "Ready", "NotReady"]))
            due = slots.step(dict(pods), now, patience)
            listed = list(pods.items())
            rng.shuffle(listed)
            steps.append({"now": now, "pods": [list(pod) for pod in listed], "map": slots.told(), "due": due})
        yield {"patience": patience, "steps": steps}


def main():
    rng = random.Random(17)
    vectors = {
        "clusters": list(clusters(rng)),
        "warm_ups": list(warm_ups(rng)),
        "splits": list(splits(rng)),
        "histories": list(histories(rng)),
    }
    lines = []
    for name, cases in vectors.items():
        rows = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        lines.append(f'"{name}":[\n{rows}\n]')
    print("{" + ",\n".join(lines) + "}")


main()
