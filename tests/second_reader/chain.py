"""From slots to verified records: docs/format/record.md, "fork", "Void slots" and "The place in the chain"."""

import copy
import hashlib

import strict_json
from claim import claim_in
from envelope import Envelope
from log import NOTHING, Log
from record import ANY_ROLE, LIMIT, ROLES, Record, kind_of
from refusal import Refused, Void, demand

MOST_VOID = 64


class Chain:
    """The walk over all slots, from genesis on, under the newest root.

    `head` is the last record that counts, `log` what a next record must say, `void` the void slots since the head.
    """

    def __init__(self, root, pin):
        self.root, self.pin = root, pin
        self.id = None
        self.head = None
        self.log = Log()
        self.void = []
        self._known = {}

    def read(self, store):
        """Every slot of a store up to the first that is not there.

        A slot that stops the walk may have been left behind by a fork in a later one, which is looked for.
        """
        seq, stopped = 0, None
        while (data := store.read_if_there(f"chain/{seq:020}.json", LIMIT + 1)) is not None:
            try:
                self.take(seq, data, stopped is not None)
                stopped = stopped if self.log.size <= seq else None
            except Refused as refused:
                demand(self.head, refused.refusal, f"slot 0: {refused}")
                stopped = stopped or refused
            seq += 1
        demand(seq, "E_MISSING", "there is no genesis")
        if stopped:
            raise stopped
        return self

    def take(self, seq, data, only_forks=False):
        """The next slot. Returns its record, or why it is void."""
        try:
            record = self.entitled(seq, data, only_forks)
        except Void as void:
            if only_forks:
                return void
            demand(self.head, void.refusal, f"slot 0: {void}")
            self.void.append({"seq": seq, "sha256": hashlib.sha256(data[:LIMIT + 1]).hexdigest()})
            demand(len(self.void) <= MOST_VOID, "E_TOO_MANY", "too many void slots in a row")
            self.log.push(NOTHING)
            return void
        if record.kind == "fork":
            self._go_back(record)
        else:
            self._check_place(record)
        self._accept(record)
        return record

    def _accept(self, record):
        record.previous = self.head
        if record.segments is None:
            record.segments = self.head.segments if self.head else []
        self.head, self.void = record, []
        self.log.push(bytes.fromhex(record.digest))
        record.log_after = copy.deepcopy(self.log)
        self._known[(record.seq, record.digest)] = record

    def entitled(self, seq, data, only_forks=False):
        """A record that somebody entitled signed for this slot. Until that is known, every refusal makes it void."""
        try:
            envelope = Envelope(data, LIMIT)
            kind = kind_of(envelope.type)
            demand(kind == "fork" or not only_forks, "E_FORK", "left behind")
            kept = self.root.kept.get(seq) == (kind, envelope.digest)
            signers = None if kept else set(self._signers(kind, seq, envelope).values())
            document = strict_json.parse(envelope.payload)
            demand(isinstance(document, dict), "E_JSON", "the payload is no object")
            claimed = strict_json.integer()(document.get("seq"), "seq")
            # Genesis has no `chain`: its own digest is that.
            chain = strict_json.digest(document.get("chain", envelope.digest), "chain")
            demand(claimed == seq, "E_SEQ", f"slot {seq} holds a record for {claimed}")
            demand(seq == 0 or chain == self.id, "E_ORIGIN", "a record of another chain")
        except Refused as refused:
            raise Void(refused.refusal, str(refused)) from refused
        record = Record(kind, document, envelope, signers)
        # What the root keeps by name was judged when its signers were known.
        if signers is not None:
            self._check_leads(record, envelope)
        return record

    def _check_leads(self, record, envelope):
        """docs/format/record.md, "fence": a fence has a claim, and who writes in a term has signed its fence."""
        header, kind = record.header, record.kind
        if kind == "fence":
            claim = claim_in(record.body["claim"], self.root, self.id)
            same = claim["kind"] == "claim" and claim["term"] == header["term"]
            writer = claim["holder"].get("writer") == header["writer"]["key"]
            demand(same and writer, "E_INCONSISTENT", "a claim of another term or writer")
        elif header["term"] > 0 and self._only_writes(kind, record.seq, envelope):
            demand(header["fence"]["key"] in record.signers, "E_FENCED", "not signed by who began the term")

    def _only_writes(self, kind, seq, envelope):
        """Whether no other role than writer entitles the signers."""
        if kind in ("genesis", "fork"):
            return False
        for role in ROLES.get(kind, ANY_ROLE):
            if role == "writer":
                continue
            try:
                envelope.signers(*self.root.role(role), self.root.keys)
                return False
            except Refused:
                continue
        return True

    def _signers(self, kind, seq, envelope):
        """The keys that signed, {bytes: id}, of the first role whose threshold they reach."""
        reasons = []
        for role in ROLES.get(kind, ANY_ROLE):
            # Genesis is judged by the first root, whoever has the role now.
            judge = self.root.first if kind == "genesis" else self.root
            allowed, threshold = judge.writers_at(seq) if role == "writer" else judge.role(role)
            try:
                return envelope.signers(allowed, threshold, {**self.root.keys, **judge.keys})
            except Refused as refused:
                reasons.append(refused)
                retired = self.root.role("writer")[0]
                if role == "writer" and refused.refusal == "E_ROLE" and len(retired) > len(allowed):
                    try:
                        envelope.signers(retired, threshold, self.root.keys)
                    except Refused:
                        continue
                    reasons.append(Refused("E_REVOKED", f"signed by a writer whose range does not have {seq}"))
        order = ["E_REVOKED", "E_THRESHOLD", "E_ROLE", "E_SIG", "E_SIG_UNTRUSTED", "E_SIG_MISSING"]
        raise min(reasons, key=lambda refused: order.index(refused.refusal))

    def _check_place(self, record):
        """A record that is no fork goes on from the head."""
        if not self.head:
            demand(record.body["root"] == self.pin, "E_ORIGIN", "genesis names another first root")
            self.id = record.digest
        epoch = (self.head.header["epoch"], self.head.header.get("fork")) if self.head else (0, None)
        found = (record.header["epoch"], record.header.get("fork"))
        demand(found == epoch, "E_INCONSISTENT", f"epoch and fork {found} instead of {epoch}")
        self._check_term(record)
        demand(record.void == self.void, "E_INCONSISTENT", "other void slots than there are")
        if self.head:
            demand(record.header["previous"] == self.head.digest, "E_MIX", "does not follow the record before it")
        demand(record.log == self.log.as_record(), "E_INCONSISTENT", "the log is not that of the slots before")

    def _check_term(self, record):
        """Only a fence raises the term, and nothing lowers it."""
        term, fence = (self.head.header["term"], self.head.header.get("fence")) if self.head else (0, None)
        found, named = record.header["term"], record.header.get("fence")
        fits = found > term if record.kind == "fence" else (found, named) == (term, fence)
        demand(fits, "E_INCONSISTENT" if found > term else "E_FENCED", f"term {found} after term {term}")

    def _go_back(self, fork):
        """A fork goes on from the record that it keeps; whatever lies between counts as nothing."""
        keep = fork.body["keep"]
        kept = self._known.get((keep["seq"], keep["digest"]))
        demand(kept is not None and fork.header["previous"] == keep["digest"], "E_MIX", "a fork that keeps another record")
        same = [each.header["term"] for each in (fork, kept)] + [each.header.get("fence") for each in (fork, kept)]
        demand(same[0] == same[1] and same[2] == same[3], "E_INCONSISTENT", "a fork in another term than what it keeps")
        demand(fork.header["epoch"] > kept.header["epoch"], "E_INCONSISTENT", "a fork without a new epoch")
        log = copy.deepcopy(kept.log_after)
        while log.size < fork.seq:
            log.push(NOTHING)
        demand(fork.log == log.as_record(), "E_INCONSISTENT", "the log is not that of the kept record")
        self.head, self.log = kept, log

    def records(self):
        """The records that count, oldest first."""
        found, record = [], self.head
        while record:
            found.append(record)
            record = record.previous
        return found[::-1]

    def leaves(self):
        """The data of every slot's leaf in the log."""
        found = [NOTHING] * self.log.size
        for record in self.records():
            found[record.seq] = bytes.fromhex(record.digest)
        return found

    def snapshots(self):
        """The snapshots that count, oldest first."""
        return [record for record in self.records() if record.kind == "snapshot"]

    def latest(self):
        """The newest snapshot; or after a rollback, until the next one, what that points to."""
        record = self.head
        while record and record.kind not in ("snapshot", "rollback"):
            record = record.previous
        demand(record is not None, "E_MISSING", "there is no snapshot")
        if record.kind == "rollback":
            target = record.body["target"]
            found = [each for each in self.records() if each.seq == target["seq"]]
            demand(found, "E_FORK", "a rollback to what does not count")
            demand(found[0].digest == target["digest"], "E_MIX", "a rollback to another record than the one in its slot")
            record = found[0]
            demand(record.kind == "snapshot", "E_TYPE", "a rollback to what is no snapshot")
        return record
