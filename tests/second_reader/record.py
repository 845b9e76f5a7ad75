"""Records: the header, genesis and snapshot: docs/format/record.md."""

import re

import log
import strict_json
from image import NAME, check_image
from keys import check_public
from refusal import demand
from strict_json import array, ascending, boolean, digest, hexadecimal, integer, plain_text, record, text, time

LIMIT = 1024 * 1024
TYPE = re.compile(r"application/vnd\.snapkit\.([a-z][a-z0-9-]{0,31})\+json")
# The types of documents that are no records, though their types look like it.
NO_RECORDS = {"lease", "pins", "root"}
# Who may sign a kind that is not known here.
ANY_ROLE = ["drill", "manifest", "prune", "release", "root", "writer"]
ROLES = {
    "genesis": ["root"], "fork": ["root"], "snapshot": ["writer"], "image": ["writer"], "fence": ["writer"],
    "rollback": ["manifest", "writer"], "drill": ["drill", "writer"],
}

REF = record({
    "chunk": digest, "bytes": integer(), "pack": digest, "pack_bytes": integer(),
    "table_bytes": integer(), "frame": integer(), "offset": integer(),
})
COUNTS = {"entries": integer(), "files": integer(), "bytes": integer()}
SNAPSHOT = record({
    "public": record({
        "complete": boolean, "trees": integer(), **COUNTS, "torn": integer(), "unreadable": integer(),
        "packs": record({
            "count": integer(), "bytes": integer(), "list": array(REF),
            "last": array(record({"id": digest, "bytes": integer(), "table_bytes": integer()})),
        }),
    }),
    "private": record({
        "started": time, "finished": time, "content_digest": digest, "full_digest": digest,
        "trees": array(record({
            "name": text, "path": text, "content_digest": digest, "full_digest": digest, **COUNTS, "index": REF,
        }), least=1, most=64, too_many="E_TOO_MANY"),
    }),
})
GENESIS = record({
    "root": digest,
    "cutter": record({"name": text, "min": integer(), "average": integer(), "max": integer()}),
    "protection": record({"chunk_name": text, "cutter_seed": text, "cipher": text, "keys": text}),
})
POINTER = record({"seq": integer(), "digest": digest})
FORK = record({"keep": POINTER, "reason": plain_text(1, 1024)})
FENCE = record({"claim": strict_json.anything})
ROLLBACK = record({"target": POINTER, "reason": plain_text(1, 1024)})
PROBER = record({"name": plain_text(1, 128), "of": plain_text(1, 128), "key": hexadecimal(32)})
PROBER_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
DRILL_BEGUN = record(
    {"id": plain_text(1, 64), "kind": plain_text(1, 64), "scenario": plain_text(1, 64), "mode": text, "plan": digest},
    {"challenge": plain_text(1, 255), "probers": array(PROBER, most=256, too_many="E_TOO_MANY")},
)
DRILL_ENDED = record(
    {"id": plain_text(1, 64), "mode": text, "verdict": text, "bundle": digest},
    {"begun": POINTER, "rto_ms": integer(), "rpo_events": integer()},
)
DRILL = record({}, {"begun": DRILL_BEGUN, "ended": DRILL_ENDED})
IMAGE = record({"image": strict_json.anything, "state": strict_json.anything})
HEADER = record(
    {
        "format": text, "epoch": integer(), "seq": integer(), "term": integer(), "nonce": hexadecimal(16), "time": time,
        "log": record({"size": integer(), "root": digest, "frontier": array(digest)}),
        "writer": record({"key": digest, "node": plain_text(1, 255), "tool": plain_text(1, 255)}),
        "body": strict_json.anything,
    },
    {
        "chain": digest, "previous": digest, "fork": integer(),
        "fence": record({"seq": integer(), "key": digest}),
        "void": array(record({"seq": integer(), "sha256": digest}), most=64, too_many="E_TOO_MANY"),
        "segments": array(record({"id": digest, "bytes": integer()}), most=1024, too_many="E_TOO_MANY"),
        "critical": strict_json.anything, "ext": strict_json.anything,
    },
)


def kind_of(payload_type):
    """The kind of a record, by its payload type."""
    found = TYPE.fullmatch(payload_type)
    demand(found and found[1] not in NO_RECORDS, "E_TYPE", f"{payload_type} is no type of a record")
    return found[1]


class Record:
    """One record whose own rules hold; the chain checks its place."""

    def __init__(self, kind, document, envelope, signers):
        self.kind, self.digest, self.envelope, self.signers = kind, envelope.digest, envelope, signers
        strict_json.check_growth(document)
        self.header = HEADER(document, kind)
        self.seq = self.header["seq"]
        demand((kind == "genesis") == (self.seq == 0), "E_SEQ", f"{kind} in slot {self.seq}")
        demand(("chain" in self.header) == (kind != "genesis"), "E_JSON", "`chain` is in all records but genesis")
        demand(("previous" in self.header) == (kind != "genesis"), "E_JSON", "`previous` is in all records but genesis")
        self.log = document["log"]
        demand(self.log["size"] == self.seq and log.follows(self.log), "E_INCONSISTENT", "a log that does not hold together")
        self.void = document.get("void", [])
        self.segments = self.header.get("segments")
        if self.segments is not None:
            demand(kind != "genesis", "E_JSON", "genesis with segments")
            demand(len({each["id"] for each in self.segments}) == len(self.segments), "E_JSON", "a segment twice")
        # A record that the root keeps by name has no signers to be asked for.
        demand(signers is None or self.header["writer"]["key"] in signers, "E_KEYID", "`writer.key` is not a key that signed")
        self.body = BODIES.get(kind, lambda body, _: body)(document["body"], "body")
        self._check_term()
        self._check_epoch()

    def _check_term(self):
        term, fence, is_fence = self.header["term"], self.header.get("fence"), self.kind == "fence"
        begun = (term == 0 and not is_fence) if fence is None else (
            term > 0 and fence["seq"] <= self.seq and (fence["seq"] == self.seq) == is_fence)
        demand(begun, "E_INCONSISTENT", f"term {term} and fence {fence}")
        if is_fence:
            demand(fence["key"] == self.header["writer"]["key"], "E_INCONSISTENT", "`fence.key` is not the writer's")
            demand(self.segments is None, "E_JSON", "a fence with segments")

    def _check_epoch(self):
        epoch, fork, is_fork = self.header["epoch"], self.header.get("fork"), self.kind == "fork"
        begun = (epoch == 0 and not is_fork) if fork is None else (
            epoch > 0 and fork <= self.seq and (fork == self.seq) == is_fork)
        demand(begun, "E_INCONSISTENT", f"epoch {epoch} and fork {fork}")
        if is_fork:
            demand(not self.void and self.segments is None, "E_JSON", "a fork with void slots or segments")
        for pointer in [self.body.get(name) for name in ("keep", "target")] if self.kind in ("fork", "rollback") else []:
            demand(pointer is None or pointer["seq"] < self.seq, "E_SEQ", "points to a slot that is not before it")
        if self.kind == "drill":
            begun = self.body.get("ended", {}).get("begun")
            demand(begun is None or begun["seq"] < self.seq, "E_SEQ", "ends a drill that is not before it")


def _genesis(body, name):
    body = GENESIS(body, name)
    cutter = body["cutter"]
    demand(cutter["name"] == "fastcdc-2020", "E_NEWER", f"the cutter {cutter['name']}")
    demand(0 < cutter["min"] <= cutter["average"] <= cutter["max"], "E_JSON", "limits of the cutter out of order")
    known = {"chunk_name": "blake3", "cutter_seed": "none", "cipher": "none", "keys": "none"}
    demand(body["protection"] == known, "E_NEWER", f"the protection {body['protection']}")
    return body


def _snapshot(body, name):
    body = SNAPSHOT(body, name)
    public, trees = body["public"], body["private"]["trees"]
    for tree in trees:
        demand(NAME.fullmatch(tree["name"]), "E_JSON", f"the tree name {tree['name']!r}")
    ascending([tree["name"] for tree in trees], "E_JSON", "trees not in order")
    demand(public["trees"] == len(trees), "E_JSON", "`trees` is not the number of trees")
    for count in COUNTS:
        demand(public[count] == sum(tree[count] for tree in trees), "E_JSON", f"`{count}` is not the sum")
    return body


def _image(body, name):
    body = IMAGE(body, name)
    demand(isinstance(body["image"], dict) and "archive" not in body["image"], "E_JSON", "an image with an `archive`")
    check_image(body["image"], f"{name}.image")
    state = _snapshot(body["state"], f"{name}.state")
    gaps = state["public"]["torn"] + state["public"]["unreadable"]
    demand(state["public"]["complete"] and gaps == 0, "E_JSON", "an image that is not complete")
    demand([tree["name"] for tree in state["private"]["trees"]] == ["image"], "E_JSON", "not the one tree `image`")
    return body | {"state": state}


def _drill(body, name):
    body = DRILL(body, name)
    demand(len(body) == 1, "E_JSON", "a drill that both began and ended, or neither")
    end = body.get("begun") or body["ended"]
    for field in ("id", "kind", "scenario"):
        demand(NAME.fullmatch(end.get(field, end["id"])), "E_JSON", f"the {field} {end.get(field)!r}")
    probers = end.get("probers", [])
    ascending([prober["name"] for prober in probers], "E_JSON", "probers by ascending name")
    for prober in probers:
        for field in ("name", "of"):
            demand(PROBER_NAME.fullmatch(prober[field]), "E_JSON", f"a prober with the {field} {prober[field]!r}")
        check_public(bytes.fromhex(prober["key"]))
    demand(end["mode"] in ("execute", "simulated"), "E_JSON", f"the mode {end['mode']!r}")
    demand(end.get("verdict", "passed") in ("aborted", "failed", "passed"), "E_JSON", f"the verdict {end.get('verdict')!r}")
    return body


BODIES = {"genesis": _genesis, "snapshot": _snapshot, "fork": FORK, "rollback": ROLLBACK, "image": _image, "drill": _drill}
