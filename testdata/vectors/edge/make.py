#!/usr/bin/env python3
"""Makes vectors.jsonl: Ed25519 signatures at the edges, in which keys and R have parts of small order.

They are what C2SP/CCTV's ed25519 vectors are about (which are not in any package registry), made here from the group law and
RFC 8032 alone, with fixed seeds. `valid` is what docs/format/envelope.md asks for: S below the order, R and key canonical
and not of small order, and S*B = R + k*A without the cofactor.
"""

import hashlib
import json
import math

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(one, other):
    (x1, y1), (x2, y2) = one, other
    cross = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + cross, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - cross, -1, P) % P)


def times(number, point):
    found = (0, 1)
    while number:
        found, point, number = add(found, point) if number & 1 else found, add(point, point), number >> 1
    return found


def recover(y, sign):
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != square:
        return None
    return (P - x if x & 1 != sign else x, y)


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = recover(4 * pow(5, -1, P) % P, 0)
# A point of order 8 is what is left of any point of the curve when its part in the large subgroup is taken out.
EIGHT = next(torsion for y in range(2, 100) if (point := recover(y, 0))
             if times(4, torsion := times(L, point)) != (0, 1))
TORSION = [times(number, EIGHT) for number in range(8)]
# The same points with a y of 2^255 - 19 or more, or with the sign of an x that is 0.
OTHER_FORMS = [(P + 1, 0), (P + 1, 1), (P, 0), (P, 1), (1, 1), (P - 1, 1)]


def challenge(r, key, message):
    return int.from_bytes(hashlib.sha512(r + key + message).digest(), "little") % L


def scalar(text):
    return int.from_bytes(hashlib.sha512(text.encode()).digest(), "little") % L


def messages(prefix):
    return (f"{prefix} {number}".encode() for number in range(10**6))


def vector(why, key, message, r, s, valid):
    return {"why": why, "key": key.hex(), "message": message.hex(), "sig": (r + s.to_bytes(32, "little")).hex(), "valid": valid}


def mixed():
    """Key and R each with every part of small order; the parts cancel out, or do not."""
    for of_key in range(8):
        for of_r in range(8):
            a, r = scalar(f"key {of_key}"), scalar(f"r {of_key} {of_r}")
            key, point = encode(add(times(a, BASE), TORSION[of_key])), encode(add(times(r, BASE), TORSION[of_r]))
            for cancel in (True, False):
                # k * of_key reaches the multiples of their common divisor with 8, and nothing else.
                reached = {(of_r + step) % 8 for step in range(0, 8, math.gcd(of_key, 8))}
                if not ({0} <= reached if cancel else reached - {0}):
                    continue
                message = next(each for each in messages("mixed")
                               if ((of_r + challenge(point, key, each) * of_key) % 8 == 0) == cancel)
                why = f"parts of small order {of_key} and {of_r} of 8 that {'cancel out' if cancel else 'remain'}"
                yield vector(why, key, message, point, (r + challenge(point, key, message) * a) % L, cancel)


def small():
    """A key or R of small order, in every form, where the equation holds: with such a key anybody can sign."""
    forms = [(encode(point), number) for number, point in enumerate(TORSION)]
    for y, sign in OTHER_FORMS:
        for number, point in enumerate(TORSION):
            if point[1] == y % P and (point[0] & 1 == sign or point[0] == 0):
                forms.append(((y | sign << 255).to_bytes(32, "little"), number))
    a, r = scalar("strong key"), scalar("strong r")
    for form, order in forms:
        for message in messages("small"):
            point = encode(times(r, BASE))
            k = challenge(point, form, message)
            if k * order % 8 == 0:
                yield vector("a key of small order", form, message, point, r, False)
                break
        for message in messages("small r") if order == 0 else []:
            key = encode(times(a, BASE))
            yield vector("an R of small order", key, message, form, challenge(form, key, message) * a % L, False)
            break


def malleable():
    """The same signature with S above the order."""
    a, r, message = scalar("strong key"), scalar("strong r"), b"malleable"
    key, point = encode(times(a, BASE)), encode(times(r, BASE))
    s = (r + challenge(point, key, message) * a) % L
    yield vector("a plain signature", key, message, point, s, True)
    for more in (1, 2, 8):
        yield vector(f"S with {more} times the order more", key, message, point, s + more * L, False)
    yield vector("an R with the other sign", key, message, bytes([*point[:31], point[31] ^ 128]), s, False)


with open("vectors.jsonl", "w") as file:
    for each in [*mixed(), *small(), *malleable()]:
        file.write(json.dumps(each) + "\n")
