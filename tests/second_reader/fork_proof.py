"""Proofs that one chain was continued in two ways: docs/format/fork-proof.md."""

import strict_json
from chain import Chain
from envelope import Envelope, decode_base64
from record import LIMIT
from refusal import Refused, Void, demand
from root import first, following
from strict_json import array, record, text

MOST = 24 * 1024 * 1024
FORMAT = "snapkit fork proof 0-draft"
FIELDS = record({"format": text, "roots": array(text, 1, 257), "records": array(text, 2, 2)})


def verify(data, pin):
    """The two records, if they cannot be in one chain."""
    demand(len(data) <= MOST, "E_TOO_BIG", "longer than a proof may be")
    proof = FIELDS(strict_json.parse(data), "proof")
    demand(proof["format"] == FORMAT, "E_NEWER", f"the format {proof['format']}")
    try:
        trusted = first(decode_base64(proof["roots"][0]), pin)
        for each in proof["roots"][1:]:
            trusted = following(decode_base64(each), trusted)
        one, other = sorted((_record(decode_base64(each), trusted, pin) for each in proof["records"]), key=lambda each: each.seq)
    except Refused as refused:
        raise Refused("E_PROOF", f"nothing is proved: {refused}") from refused
    same = [each.header.get("chain") or each.digest for each in (one, other)]
    demand(same[0] == same[1] and one.header["epoch"] == other.header["epoch"], "E_PROOF", "of two chains or epochs")
    demand(one.digest != other.digest, "E_PROOF", "one record twice")
    before = other.seq - 1 - len(other.void)
    demand(one.seq == other.seq or (one.seq == before and other.header["previous"] != one.digest), "E_PROOF",
           "both may be in one chain")
    return one, other


def _record(data, trusted, pin):
    """A record by itself, at the place that it says it has."""
    claimed = strict_json.parse(Envelope(data, LIMIT).payload)
    demand(isinstance(claimed, dict), "E_JSON", "the payload is no object")
    alone = Chain(trusted, pin)
    alone.id = claimed.get("chain")
    found = alone.entitled(strict_json.integer()(claimed.get("seq"), "seq"), data)
    demand(not isinstance(found, Void), "E_PROOF", str(found))
    return found
