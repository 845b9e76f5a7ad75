"""Bootstrap manifests: docs/format/manifest.md."""

import json

import pins
import strict_json
from envelope import Envelope
from pins import above_zero, listed, name, one_of, rule, words
from refusal import demand
from strict_json import array, digest, integer, record, text, time

TYPE, LIMIT = "application/vnd.in-toto+json", 1024 * 1024
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:snapkit:manifest:"
COUNTS = {"trees": integer(), "entries": integer(), "files": integer(), "bytes": integer()}
STATEMENT = record({
    "_type": text, "predicateType": text, "predicate": strict_json.anything,
    "subject": array(record({"name": text, "digest": record({"sha256": digest})})),
})
PREDICATE = record(
    {
        "name": name, "chain": digest, "root": digest, "version": above_zero, "issued": time, "expires": time,
        "stores": listed(words, most=16, least=1),
        "head": record({"epoch": integer(), "seq": integer(), "digest": digest}),
        "snapshot": record({
            "epoch": integer(), "seq": integer(), "digest": digest, "name": words, "captured": time,
            "content_digest": digest, "full_digest": digest, **COUNTS,
        }),
        "pins": strict_json.anything, "key": digest,
    },
    {
        "accepted": listed(record({"what": one_of("incomplete", "torn", "unset"), "reason": words}), sorted_by=lambda each: each["what"]),
        "critical": strict_json.anything, "ext": strict_json.anything,
    },
)


def verify(data, root, pin, chain, now=None, wanted=None):
    """Steps 2, 4 and 5: what can be told without the store. Returns the manifest and its pins."""
    envelope = Envelope(data, LIMIT)
    demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for a manifest")
    keys, threshold = root.role("manifest")
    signers = envelope.signers(keys, threshold, root.keys)
    document = strict_json.parse(envelope.payload)
    demand(isinstance(document, dict), "E_JSON", "the statement is no object")
    demand(document.get("_type") == STATEMENT_TYPE, "E_TYPE", "no in-toto statement")
    kind = document.get("predicateType")
    demand(isinstance(kind, str) and kind.startswith(PREDICATE_TYPE), "E_TYPE", f"the predicate {kind}")
    strict_json.check_growth(document.get("predicate"), kind.removeprefix(PREDICATE_TYPE))
    statement = STATEMENT(document, "manifest")
    manifest = PREDICATE(statement["predicate"], "predicate")
    rule(len(statement["subject"]) == 1, "more than one subject")
    subject, snapshot = statement["subject"][0], manifest["snapshot"]
    rule(subject["name"] == snapshot["name"] and subject["digest"]["sha256"] == snapshot["digest"], "the subject is not the snapshot")
    rule(manifest["issued"] < manifest["expires"], "the manifest expires before it is issued")
    head = manifest["head"]
    rule((snapshot["epoch"], snapshot["seq"]) <= (head["epoch"], head["seq"]), "a snapshot beyond the head")
    rule(snapshot["seq"] != head["seq"] or snapshot["digest"] == head["digest"], "head and snapshot in one slot, and not the same")
    demand(manifest["root"] == pin and manifest["chain"] == chain, "E_ORIGIN", "a manifest of another chain")
    demand(manifest["key"] in signers.values(), "E_KEYID", "`key` is not a key that signed")
    demand(wanted in (None, manifest["name"]), "E_ORIGIN", f"the manifest {manifest['name']}")
    demand(isinstance(manifest["pins"], dict), "E_JSON", "`pins` is no object")
    found = pins.verify(json.dumps(manifest["pins"]).encode(), root, chain, manifest["name"])
    if now is not None:
        demand(now < manifest["expires"] and now < found["expires"], "E_STALE", "the manifest or its pins have expired")
    return manifest, found


def check(manifest, found, chain, now):
    """Steps 6 and 8: the chain extends it, and it is near and young."""
    counting = {record.seq: record for record in chain.records()}
    demand(chain.head.seq >= manifest["head"]["seq"], "E_ROLLBACK", "the chain ends before the manifest's head")
    for pinned in (manifest["head"], manifest["snapshot"]):
        record = counting.get(pinned["seq"])
        demand(record and record.digest == pinned["digest"], "E_MIX", f"another record in slot {pinned['seq']}")
        rule(record.header["epoch"] == pinned["epoch"], "another epoch than that of its record")
    snapshot, record = manifest["snapshot"], counting[manifest["snapshot"]["seq"]]
    rule(record.kind == "snapshot" and record.body["public"]["complete"], "no complete snapshot")
    public, private = record.body["public"], record.body["private"]
    rule(all(snapshot[count] == public[count] for count in COUNTS), "other counts than those of the record")
    same = [snapshot["captured"], snapshot["content_digest"], snapshot["full_digest"]]
    rule(same == [private["started"], private["content_digest"], private["full_digest"]], "other digests than those of the record")
    lag = chain.head.seq - manifest["head"]["seq"]
    demand(lag <= found.get("max_head_lag", lag), "E_STALE", f"{lag} records behind the chain")
    newest = [record for record in chain.snapshots() if record.body["public"]["complete"]][-1]
    age = now[0] - min(now, newest.body["private"]["started"])[0]
    demand(age <= found["max_head_age_seconds"], "E_STALE", f"the newest snapshot is {age} s old")
