"""From slots to verified records: docs/format/record.md, "Void slots" and "The place in the chain"."""

import hashlib

import strict_json
from envelope import Envelope
from log import NOTHING, Log
from record import ANY_ROLE, LIMIT, ROLES, Record, kind_of
from refusal import Refused, demand

MOST_VOID = 64


class Void(Refused):
    """What is in the slot counts as nothing."""


class Chain:
    """The walk over all slots, from genesis on, under the newest root."""

    def __init__(self, root, pin):
        self.root, self.pin = root, pin
        self.id = None
        self.records = []
        self.leaves = []
        self.segments = []
        self._log = Log()
        self._void = []

    def read(self, store):
        """Every slot of a store up to the first that is not there."""
        seq = 0
        while (data := store.read_if_there(f"chain/{seq:020}.json", LIMIT + 1)) is not None:
            self.take(seq, data)
            seq += 1
        demand(self.records, "E_MISSING", "there is no genesis")
        return self

    def take(self, seq, data):
        """The next slot. Returns its record, or why it is void."""
        try:
            record = self._entitled(seq, data)
        except Void as void:
            demand(self.records, void.refusal, f"slot 0: {void}")
            self._void.append({"seq": seq, "sha256": hashlib.sha256(data[:LIMIT + 1]).hexdigest()})
            demand(len(self._void) <= MOST_VOID, "E_TOO_MANY", "too many void slots in a row")
            self._push(NOTHING)
            return void
        self._check_place(record)
        self.records.append(record)
        self._void = []
        self.segments = record.segments if record.segments is not None else self.segments
        self._push(bytes.fromhex(record.digest))
        return record

    def _push(self, data):
        self._log.push(data)
        self.leaves.append(data)

    def _entitled(self, seq, data):
        """A record that somebody entitled signed for this slot. Until that is known, every refusal makes it void."""
        try:
            envelope = Envelope(data, LIMIT)
            kind = kind_of(envelope.type)
            signers = self._signers(kind, seq, envelope)
            document = strict_json.parse(envelope.payload)
            demand(isinstance(document, dict), "E_JSON", "the payload is no object")
            demand(document.get("seq") == seq, "E_SEQ", f"slot {seq} holds a record for {document.get('seq')}")
            chain = envelope.digest if kind == "genesis" else document.get("chain")
            demand(seq == 0 or chain == self.id, "E_ORIGIN", "a record of another chain")
        except Refused as refused:
            raise Void(refused.refusal, str(refused)) from refused
        return Record(kind, document, envelope, set(signers.values()))

    def _signers(self, kind, seq, envelope):
        """The keys that signed, of the first role whose threshold they reach."""
        reasons = []
        for role in ROLES.get(kind, ANY_ROLE):
            allowed, threshold = self.root.writers_at(seq) if role == "writer" else self.root.role(role)
            try:
                return envelope.signers(allowed, threshold, self.root.keys)
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
        if not self.records:
            demand(record.kind == "genesis", "E_TYPE", "slot 0 holds no genesis")
            demand(record.body["root"] == self.pin, "E_ORIGIN", "genesis names another first root")
            demand(not record.void, "E_INCONSISTENT", "genesis with void slots")
            self.id = record.digest
        demand(record.header["epoch"] == 0 and record.header["term"] == 0, "E_NEWER", "an epoch or term above 0")
        demand(record.void == self._void, "E_INCONSISTENT", "other void slots than there are")
        if self.records:
            previous = record.header["previous"]
            demand(previous == self.records[-1].digest, "E_MIX", "does not follow the record before it")
        demand(record.log == self._log.as_record(), "E_INCONSISTENT", "the log is not that of the slots before")

    def log_root(self):
        """Of all slots read."""
        return self._log.root().hex()

    def snapshots(self):
        """The snapshots, oldest first."""
        return [record for record in self.records if record.kind == "snapshot"]
