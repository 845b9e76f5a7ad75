"""Receipts: docs/format/receipt.md."""

import re

import digests
import strict_json
from envelope import Envelope
from refusal import demand
from strict_json import array, ascending, boolean, digest, integer, plain_text, record, text, time

TYPE, LIMIT = "application/vnd.in-toto+json", 1024 * 1024
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:snapkit:receipt:"
SUMS = {"entries": integer(), "files": integer(), "bytes": integer()}
TWO = record({"content_digest": digest, "full_digest": digest})
PATH = plain_text(1, 4096)
STATEMENT = record({
    "_type": text, "predicateType": text, "predicate": strict_json.anything,
    "subject": array(record({"name": text, "digest": record({"sha256": digest})}), least=1, most=1),
})
PREDICATE = record(
    {
        "chain": digest, "root": digest,
        "record": record({"seq": integer(), "epoch": integer(), "digest": digest, "name": text}),
        "head": record({"seq": integer(), "epoch": integer(), "digest": digest, "time": time}),
        "exact": boolean,
        "left_out": record({"trees": integer(), "entries": integer()}),
        "restored": record(SUMS),
        "transfer": record({"fetched_bytes": integer(), "reused_bytes": integer()}),
        "state": record({"signed": TWO, "found": TWO}),
        "trees": array(record({"name": text, "path": PATH, "signed": TWO, "found": TWO, **SUMS}), 1, 64, "E_TOO_MANY"),
        "proof": text, "started": time, "finished": time,
        "tool": record({"name": plain_text(1, 255), "version": plain_text(1, 255), "sha256": digest}),
        "host": record({"name": plain_text(1, 255), "kernel": plain_text(1, 255)}, {"machine": digest}),
        "node": digest,
    },
    {
        "selection": record({}, {"path": PATH, "include": array(PATH, 1, 64, "E_TOO_MANY")}),
        "break_glass": record({
            "reason": plain_text(1, 1024),
            "lifted": array(record({"class": text, "object": PATH}), 1, 16, "E_TOO_MANY"),
        }),
        "changes": array(record({"what": text, "count": integer(1)}), least=1),
        "critical": strict_json.anything, "ext": strict_json.anything,
    },
)
PROOFS = {"written", "reread", "device"}
CHANGES = {"devices", "extra", "owners", "setid", "xattrs"}


def verify(data, root, pin, chain):
    """The predicate of a good receipt under `root`, about the chain with this id."""
    envelope = Envelope(data, LIMIT)
    demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for a receipt")
    keys, threshold = root.role("node")
    signers = envelope.signers(keys, threshold, root.keys)
    document = strict_json.parse(envelope.payload)
    demand(isinstance(document, dict), "E_JSON", "the statement is no object")
    demand(document.get("_type") == STATEMENT_TYPE, "E_TYPE", "no in-toto statement")
    kind = document.get("predicateType")
    demand(isinstance(kind, str) and kind.startswith(PREDICATE_TYPE), "E_TYPE", f"the predicate {kind}")
    strict_json.check_growth(document.get("predicate"), kind.removeprefix(PREDICATE_TYPE))
    statement = STATEMENT(document, "receipt")
    predicate = PREDICATE(statement["predicate"], "predicate")
    _check_alone(statement["subject"][0], predicate)
    demand(predicate["chain"] == chain and predicate["root"] == pin, "E_ORIGIN", "of another chain")
    demand(predicate["node"] in signers.values(), "E_KEYID", "`node` is not a key that signed")
    _check_found(predicate)
    return predicate


def _check_alone(subject, receipt):
    demand(receipt["proof"] in PROOFS, "E_NEWER", f"the proof {receipt['proof']}")
    changes = [each["what"] for each in receipt.get("changes", [])]
    demand(set(changes) <= CHANGES, "E_NEWER", f"the changes {changes}")
    ascending(changes, "E_JSON", "changes not in order")
    lifted = [(each["class"], each["object"]) for each in receipt.get("break_glass", {"lifted": []})["lifted"]]
    demand({refusal for refusal, _ in lifted} <= {"E_STALE"}, "E_NEWER", f"the lifted refusals {lifted}")
    ascending(lifted, "E_JSON", "lifted refusals not in order")
    names = [tree["name"] for tree in receipt["trees"]]
    demand(all(re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) for name in names), "E_JSON", "no name of a tree")
    ascending(names, "E_JSON", "trees not in order")
    same = subject["name"] == receipt["record"]["name"] and subject["digest"]["sha256"] == receipt["record"]["digest"]
    demand(same, "E_INCONSISTENT", "the subject is not the record")
    named, head = receipt["record"], receipt["head"]
    demand((named["epoch"], named["seq"]) <= (head["epoch"], head["seq"]), "E_INCONSISTENT", "a head before the record")
    for name, total in receipt["restored"].items():
        demand(total == sum(tree[name] for tree in receipt["trees"]), "E_INCONSISTENT", f"`{name}` is not the sum")
    demand(receipt["started"] <= receipt["finished"], "E_INCONSISTENT", "ended before it began")
    if receipt["exact"]:
        agree = all(tree["signed"] == tree["found"] for tree in [receipt["state"], *receipt["trees"]])
        nothing = not {"selection", "changes"} & set(receipt) and not any(receipt["left_out"].values())
        demand(agree and nothing, "E_INCONSISTENT", "called exact and is not")


def _check_found(receipt):
    """What was found over all trees is what was found in each."""
    trees = {tree["name"]: [bytes.fromhex(tree["found"][which]) for which in ("content_digest", "full_digest")]
             for tree in receipt["trees"]}
    stated = receipt["state"]["found"]
    found = [value.hex() for value in digests.of_state(trees)]
    demand(found == [stated["content_digest"], stated["full_digest"]], "E_INCONSISTENT", "the found state is not that of its trees")
