"""The lease log: docs/format/lease.md."""

import hashlib

import strict_json
from claim import LIMIT, MOST_VOID, TYPE, read_entry
from envelope import Envelope
from refusal import Refused, Void, demand


class LeaseLog:
    """The walk over a log from slot 1. `members` is {node: id of its key}."""

    def __init__(self, root, chain, group, members):
        self.root, self.chain, self.group, self.members = root, chain, group, members
        self.last, self.digest, self.void = None, None, []

    def take(self, data):
        """The next slot. Returns its entry, or why it is void."""
        seq = (self.last["seq"] if self.last else 0) + len(self.void) + 1
        try:
            envelope, document = self._authorised(data, seq)
            entry = self._entry(envelope, document)
            self._check_follows(entry)
        except Void as void:
            demand(len(self.void) < MOST_VOID, "E_TOO_MANY", "more than 64 void slots in a row")
            self.void.append({"seq": seq, "sha256": hashlib.sha256(data[:LIMIT + 1]).hexdigest()})
            return void
        self.last, self.digest, self.void = entry, envelope.digest, []
        return entry

    def _authorised(self, data, seq):
        """"Void slots", 1 to 3."""
        try:
            envelope = Envelope(data, LIMIT)
            demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for a lease entry")
            keys, _ = self.root.role("node")
            envelope.by = set(envelope.signers(keys, 1, self.root.keys).values())
            demand(envelope.by & set(self.members.values()), "E_ROLE", "signed by no member")
            document = strict_json.parse(envelope.payload)
            demand(isinstance(document, dict), "E_JSON", "the payload is no object")
            of_here = document.get("chain") == self.chain and document.get("group") == self.group
            demand(of_here, "E_ORIGIN", "of another chain or group")
            demand(type(document.get("seq")) is int, "E_JSON", "`seq` is no number")
            demand(document["seq"] == seq, "E_SEQ", f"made for slot {document['seq']}")
        except Refused as refused:
            raise Void(refused.refusal, str(refused)) from refused
        return envelope, document

    def _entry(self, envelope, document):
        """The entry by itself, and "Void slots", 4."""
        entry = read_entry(document)
        holder = entry["holder"]
        demand(holder["key"] in envelope.by, "E_KEYID", "`holder.key` has not signed")
        if self.members.get(holder["node"]) != holder["key"]:
            raise Void("E_ROLE", f"{holder['node']} with this key is no member")
        return entry

    def _check_follows(self, entry):
        """"Between neighbours": what does not follow is void."""

        def demand(condition, refusal, message):
            if not condition:
                raise Void(refusal, message)

        same = entry.get("previous") == self.digest and entry.get("void", []) == self.void
        demand(same, "E_INCONSISTENT", "`previous` or `void` are not what was seen")
        before = self.last["term"] if self.last else 0
        if entry["kind"] == "claim":
            expected = max(before, entry["head"]["term"]) + 1
            demand(entry["term"] == expected, "E_INCONSISTENT", f"a claim of term {entry['term']} instead of {expected}")
            return
        last = self.last
        demand(last and last["kind"] != "release", "E_INCONSISTENT", f"a {entry['kind']} after no claim")
        who = [{name: each["holder"].get(name) for name in ("node", "instance", "key", "writer")} for each in (last, entry)]
        demand(entry["term"] == before and who[0] == who[1], "E_INCONSISTENT", "not by who claimed the term")
