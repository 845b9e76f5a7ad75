"""Every example in testdata/, accepted or refused with the class that its README states.

The directories say how their cases are read; a case that no rule here reads is a failure, and so is a case without a row.
"""

import json
import os
import re
import tarfile
import tempfile
from pathlib import Path

from blake3 import blake3

import digests
import keys
import manifest as bootstrap
import pins
import receipt
import root
import segment
import strict_json
import tree
from chain import Chain
from lease import LeaseLog
from pack import Pack, chunk_in
from refusal import Refused, Void, demand
from snapshot import Snapshot
from store import DirectoryStore

# Documents in testdata/manifests are judged at a moment at which their roots are valid.
NOW = strict_json.time("2026-12-01T00:00:00Z", "now")
ROW = re.compile(r"^\| `([^`]+)` \| (accepted|E_[A-Z_]+)(, void)? \|", re.M)


def run(testdata):
    """The failures, as lines; what was read is printed."""
    top, failures = Path(testdata), []
    for kind, judge in [("manifests", document), ("packs/draft", pack), ("segments/draft", one_segment), ("trees/draft", one_tree)]:
        failures += documented(top / kind, judge)
    failures += each_of(top / "attacks", attack, needs_memory)
    failures += each_of(top / "stores", store, lambda path: False)
    return failures + vectors(top / "vectors")


def vectors(directory):
    """Signatures that others have judged."""
    judged = []
    for group in json.loads((directory / "wycheproof/ed25519_test.json").read_text())["testGroups"]:
        judged += [(group["publicKey"]["pk"], each["msg"], each["sig"], each["result"] == "valid") for each in group["tests"]]
    for line in (directory / "edge/vectors.jsonl").read_text().splitlines():
        each = json.loads(line)
        judged.append((each["key"], each["message"], each["sig"], each["valid"]))
    print(f"{directory}: {len(judged)} signatures")
    return [f"{directory}: the signature {signature} by {key} is judged otherwise" for key, message, signature, valid in judged
            if keys.verifies(bytes.fromhex(key), bytes.fromhex(signature), bytes.fromhex(message)) != valid]


def documented(directory, judge):
    """Cases whose verdicts stand in the README beside them."""
    rows = {name: verdict + void for name, verdict, void in ROW.findall((directory / "README.md").read_text())}
    found = {path.name for path in directory.iterdir() if path.is_dir()}
    failures = [f"{directory.name}/{name}: on disk or in the README alone" for name in sorted(found ^ set(rows))]
    for name in sorted(found & set(rows)):
        verdict = judged(judge, directory / name)
        if verdict != rows[name]:
            failures.append(f"{directory}/{name}: {verdict} instead of {rows[name]}")
    print(f"{directory}: {len(found)} cases")
    return failures


def judged(judge, path):
    """What a reader says to a case."""
    try:
        judge(path)
    except Void as void:
        return f"{void.refusal}, void"
    except Refused as refused:
        return refused.refusal
    return "accepted"


def each_of(directory, judge, is_left_out):
    """Cases that hold what is expected of them themselves."""
    paths = sorted(path for path in directory.iterdir() if path.is_dir())
    read = [path for path in paths if not is_left_out(path)]
    print(f"{directory}: {len(read)} cases, {len(paths) - len(read)} left out")
    failures = []
    for path in read:
        try:
            judge(path)
        except Refused as refused:
            failures.append(f"{path}: {refused}")
    return failures


def document(path):
    """A case of testdata/manifests, by the first word of its name."""
    base = path.parent / "chain-accepted"
    pin = (base / "pin").read_text().strip()
    kind = path.name.split("-")[0]
    if kind in ("chain", "forked", "fenced", "rotated"):
        chain = Chain(root.newest(DirectoryStore(path), pin, NOW), pin)
        for slot in range(len(list((path / "chain").iterdir()))):
            found = chain.take(slot, (path / f"chain/{slot}.json").read_bytes())
            # In the others a slot is void on purpose.
            if isinstance(found, Void) and kind in ("fenced", "rotated"):
                raise found
        return chain
    if kind == "key":
        secret = (path / "secret").exists()
        return keys.read_file((path / ("secret" if secret else "public")).read_bytes(), secret)
    if kind == "root":
        if (path / "1.json").exists():
            return root.first((path / "1.json").read_bytes(), (path / "pin").read_text().strip())
        return root.following((path / "2.json").read_bytes(), root.first((base / "root/1.json").read_bytes(), pin))
    trusted = root.newest(DirectoryStore(base), pin, NOW)
    chain = Chain(trusted, pin)
    chain.take(0, (base / "chain/0.json").read_bytes())
    if kind == "receipt":
        return receipt.verify((path / "receipt.json").read_bytes(), trusted, pin, chain.id)
    if kind == "pins":
        return pins.verify((path / "pins.json").read_bytes(), trusted, chain.id, "app")
    if kind == "manifest":
        return bootstrap.verify((path / "manifest.json").read_bytes(), trusted, pin, chain.id)
    if kind == "lease":
        return lease(path, LeaseLog(trusted, chain.id, "app", {"node-a": trusted.role("node")[0].popitem()[0]}))
    found = chain.take(1, (path / "record.json").read_bytes())
    if isinstance(found, Void):
        raise found
    return found


def lease(path, log):
    """The whole log, or one entry after its first claim."""
    slots = path.parent / "lease-log-accepted/lease"
    if path == slots.parent:
        found = [log.take((slots / f"{slot}.json").read_bytes()) for slot in range(1, 6)]
        demand([slot + 1 for slot, each in enumerate(found) if isinstance(each, Void)] == [3], "E_LEASE", "other void slots")
        return log
    log.take((slots / "1.json").read_bytes())
    found = log.take((path / "entry.json").read_bytes())
    if isinstance(found, Void):
        raise found
    return found


def pack(path):
    """A pack is read whole, and every chunk in it that is asked for."""
    data = (path / "pack").read_bytes()
    name, pack_bytes, table_bytes = (path / "reference").read_text().split()
    read = Pack(lambda at, length: data[at:at + length], len(data), name, int(pack_bytes), int(table_bytes))
    read.check_header()
    for number in range(len(read.frames)):
        read.frame(number)
    for line in (path / "chunks").read_text().splitlines():
        chunk, frame, offset, length = line.split()
        chunk_in(read.frame(int(frame)), {"chunk": chunk, "offset": int(offset), "bytes": int(length)})


def one_segment(path):
    """A segment under the name that a record gives it."""
    segment.read((path / "segment").read_bytes(), (path / "name").read_text().strip())


def one_tree(path):
    """A tree whose chunks are files beside it."""
    chunks = {blake3(file.read_bytes()).hexdigest(): file.read_bytes() for file in path.iterdir()}

    def fetch(ref):
        demand(ref["chunk"] in chunks, "E_MISSING", f"chunk {ref['chunk']}")
        return chunks[ref["chunk"]]

    index, stated = (path / "reference").read_text().split()
    entries = tree.read(fetch, {"chunk": index}, int(stated))
    if (path / "digests").exists():
        expected = (path / "digests").read_text().split()
        demand([each.hex() for each in digests.of_tree(entries)] == expected, "E_INCONSISTENT", "other digests")


def attack(path):
    """A hostile store, by the fields of testdata/attacks/README.md."""
    expected = json.loads((path / "expected.json").read_text())
    now = strict_json.time(expected["now"], "now") if "now" in expected else NOW
    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(path / "store.tar") as tar:
            tar.extractall(directory, filter="data")
        for zeros in expected.get("zeros", []):
            (Path(directory) / zeros["key"]).parent.mkdir(parents=True, exist_ok=True)
            with open(Path(directory) / zeros["key"], "wb") as file:
                file.truncate(zeros["bytes"])
        hostile = DirectoryStore(directory)

        def opened():
            return Chain(root.newest(hostile, expected["root"], now), expected["root"]).read(hostile)

        if expected.get("from"):
            if expected["refuses"] == "nothing":
                return followed(opened(), directory, expected["root"], now)
            return refuses(lambda: followed(opened(), directory, expected["root"], now), expected["class"])
        if expected.get("refuses", "trees") == "everything":
            return refuses(lambda: opened().latest(), expected["class"])
        chain = opened()
        snapshots = chain.snapshots()
        if expected.get("refuses") == "nothing":
            return Snapshot(hostile, chain.latest()).read_all()
        refuses(lambda: Snapshot(hostile, snapshots[-1]).read_all(), expected["class"])
        # The snapshot before is honest, but where its own objects are gone.
        if len(snapshots) > 1 and path.name[:3] not in ("e01", "a15", "a18"):
            Snapshot(hostile, snapshots[-2]).read_all()


def followed(chain, directory, pin, now):
    """The manifest of a store, and the chain it speaks of."""
    data = (Path(directory) / "manifests/app.json").read_bytes()
    found, pinned = bootstrap.verify(data, chain.root, pin, chain.id, now, "app")
    bootstrap.check(found, pinned, chain, now)


def refuses(act, expected):
    """The class that is asked for, and no other."""
    verdict = judged(lambda _: act(), None)
    demand(verdict.split(",")[0] == expected, "E_INCONSISTENT", f"{verdict} instead of {expected}")


def needs_memory(path):
    """This reader keeps nothing between two runs, asks one store and reads no images, so such a case says nothing to it."""
    if (path / "image.tar").exists():
        return True
    expected = json.loads((path / "expected.json").read_text())
    return any((path / name).exists() for name in ("before.tar", "mirror.tar")) or "min" in expected


def store(path):
    """Everything that expected/ knows of a store."""
    from reader import listing
    expected, held = path / "expected", DirectoryStore(path / "store")
    pin = (expected / "pin").read_text().strip()
    now = strict_json.time((expected / "time").read_text().strip(), "time")
    chain = Chain(root.newest(held, pin, now), pin).read(held)
    numbers = {int(file.stem) for file in expected.glob("*.txt")}
    demand(numbers == {record.seq for record in chain.snapshots()}, "E_INCONSISTENT", "other snapshots")
    for record in chain.snapshots():
        snapshot = Snapshot(held, record)
        snapshot.read_all()
        private = snapshot.private
        lines = [f"content {private['content_digest']}", f"full {private['full_digest']}", *listing(snapshot)]
        stated = (expected / f"{record.seq}.txt").read_text().splitlines()
        demand(lines == stated, "E_INCONSISTENT", f"snapshot {record.seq} holds something else")
