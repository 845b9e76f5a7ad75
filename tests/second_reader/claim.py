"""Entries of the lease log by themselves, and the claim inside of a fence: docs/format/lease.md."""

import json
import re

import strict_json
from envelope import Envelope
from image import NAME
from refusal import Refused, Void, demand
from strict_json import anything, array, digest, hexadecimal, integer, record, text, time

TYPE, LIMIT, MOST_VOID = "application/vnd.snapkit.lease+json", 16 * 1024, 64
NONCE = hexadecimal(16)
FIELDS = record(
    {
        "format": text, "chain": digest, "group": text, "seq": integer(), "term": integer(), "kind": text,
        "holder": record({"node": text, "instance": NONCE, "key": digest}, {"writer": digest, "api": text}),
        "nonce": NONCE, "time": time,
        "head": record({"epoch": integer(), "seq": integer(), "digest": digest, "term": integer()}),
    },
    {
        "previous": digest, "void": array(record({"seq": integer(), "sha256": digest}), most=MOST_VOID, too_many="E_TOO_MANY"),
        "ttl_ms": integer(), "reason": strict_json.plain_text(1, 1024), "critical": anything, "ext": anything,
    },
)


def rule(condition, message):
    """A rule of an entry by itself."""
    demand(condition, "E_LEASE", message)


def check(entry):
    """What holds of an entry without signature and neighbour."""
    kind, seq, term, void = entry["kind"], entry["seq"], entry["term"], entry.get("void", [])
    rule(NAME.fullmatch(entry["group"]), "the group is no name")
    rule(seq >= 1 and term >= 1, "slot or term 0")
    first = seq - len(void)
    rule([each["seq"] for each in void] == list(range(first, seq)), "void slots that are not before it")
    rule(first >= 1 and (first == 1) == ("previous" not in entry), "`previous` without an entry before, or none with one")
    rule(kind == "claim" or "previous" in entry, f"a {kind} as the first entry")
    above = term > entry["head"]["term"] if kind == "claim" else term >= entry["head"]["term"]
    rule(above, "below the term of the chain")
    rule(kind != "release" or "ttl_ms" not in entry, "a release with a ttl")
    rule(5000 <= entry.get("ttl_ms", 5000) <= 86_400_000, "a ttl out of its range")
    rule(kind != "renew" or "reason" not in entry, "a renewal with a reason")
    for value in (entry["holder"]["node"], entry["holder"].get("api", "-")):
        plain = not re.search("[\x00-\x1f\x7f-\x9f]", value)
        rule(1 <= len(value.encode()) <= 255 and plain, "a name or address that is no text")


def read_entry(document):
    """The fields and rules of an entry."""
    strict_json.check_growth(document)
    if isinstance(document.get("kind"), str):
        demand(document["kind"] in ("claim", "renew", "release"), "E_NEWER", f"the kind {document['kind']}")
    entry = FIELDS(document, "entry")
    check(entry)
    return entry


def claim_in(nested, root, chain):
    """The claim that a fence embeds, as an object. Membership is not judged: nobody has the pins there."""
    data = json.dumps(nested).encode()
    envelope = Envelope(data, LIMIT)
    demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for a lease entry")
    try:
        by = set(envelope.signers(root.role("node")[0], 1, root.keys).values())
    except Refused as refused:
        raise Void(refused.refusal, str(refused)) from refused
    document = strict_json.parse(envelope.payload)
    demand(isinstance(document, dict), "E_JSON", "the payload is no object")
    entry = read_entry(document)
    demand(entry["holder"]["key"] in by, "E_KEYID", "`holder.key` has not signed")
    demand(entry["chain"] == chain, "E_ORIGIN", "of another chain")
    return entry
