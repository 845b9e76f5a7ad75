"""DSSE envelopes: docs/format/envelope.md."""

import base64
import hashlib
import re

import strict_json
from keys import verifies
from refusal import Refused, demand

MOST_SIGNATURES = 32
FIELDS = strict_json.record({
    "payload": strict_json.text,
    "payloadType": strict_json.text,
    "signatures": strict_json.array(
        strict_json.record({"keyid": strict_json.text, "sig": strict_json.text}), most=MOST_SIGNATURES, too_many="E_TOO_MANY"),
})


class Envelope:
    """What an envelope says, before any signature in it was looked at."""

    def __init__(self, data, limit):
        demand(len(data) <= limit, "E_TOO_BIG", f"{len(data)} bytes where {limit} are the most")
        fields = FIELDS(strict_json.parse(data), "envelope")
        self.type = fields["payloadType"]
        self.payload = decode_base64(fields["payload"])
        self.signatures = [(each["keyid"], each["sig"]) for each in fields["signatures"]]
        self.digest = hashlib.sha256(self.payload).hexdigest()

    def pae(self):
        """The bytes that are signed."""
        kind = self.type.encode()
        return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(self.payload), self.payload)

    def signers(self, allowed, threshold, known):
        """The distinct keys of `allowed` that signed, if they reach the threshold. Both are {id: key bytes}."""
        message = self.pae()
        good, other, bad = {}, False, False
        for identity, signature in self.signatures:
            public = allowed.get(identity) or known.get(identity)
            if public is None:
                continue
            if not verifies(public, _signature(signature), message):
                bad = True
            elif identity in allowed:
                good[public] = identity
            else:
                other = True
        if len(good) >= max(1, threshold):
            return good
        demand(self.signatures, "E_SIG_MISSING", "no signature")
        if good:
            raise Refused("E_THRESHOLD", f"{len(good)} of {threshold} keys signed")
        demand(not other, "E_ROLE", "signed by a key that may not sign this")
        demand(not bad, "E_SIG", "a signature by a known key does not verify")
        raise Refused("E_SIG_UNTRUSTED", "no signature by a known key")


def _signature(text):
    """No base64 is a bad signature, for garbage in the list does no harm."""
    try:
        return decode_base64(text)
    except Refused:
        return b""


def decode_base64(text):
    """Padded base64 of one meaning, in either alphabet."""
    plain = text.replace("-", "+").replace("_", "/")
    demand(re.fullmatch("[A-Za-z0-9+/]*={0,2}", plain) and len(plain) % 4 == 0, "E_JSON", "no padded base64")
    data = base64.b64decode(plain)
    demand(base64.b64encode(data).decode() == plain, "E_JSON", "base64 with trailing bits")
    return data
