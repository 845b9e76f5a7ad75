"""The trust root and its versions: docs/format/root.md."""

import re

import strict_json
from envelope import Envelope
from keys import check_public, key_id
from refusal import Refused, demand
from strict_json import array, ascending, digest, hexadecimal, integer, record, text, time

TYPE = "application/vnd.snapkit.root+json"
LIMIT = 64 * 1024
MOST_STEPS = 256
KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")
ROLES = {"root", "release", "manifest", "writer", "prune", "drill", "node"}
FIELDS = record(
    {
        "format": text,
        "version": integer(least=1),
        "issued": time,
        "expires": time,
        "keys": array(record({"id": digest, "keytype": text, "scheme": text, "public": text})),
        "roles": array(record({"name": text, "keys": array(digest), "threshold": integer()})),
        "writers": array(record({"key": digest, "from_seq": integer()}, {"until_seq": integer()})),
    },
    {
        "kept": array(record({"seq": integer(), "kind": text, "sha256": digest}), least=1),
        "critical": strict_json.anything, "ext": strict_json.anything,
    },
)


class Root:
    """One version whose own rules hold. Whether anybody signed it is asked by `first` and `following`."""

    def __init__(self, envelope):
        demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for a root")
        document = strict_json.parse(envelope.payload)
        strict_json.check_growth(document)
        fields = FIELDS(document, "root")
        self.digest = envelope.digest
        self.version = fields["version"]
        self.expires = fields["expires"]
        self.issued = fields["issued"]
        demand(self.issued < self.expires, "E_ROOT", "expires before it is issued")
        self.keys = _keys(fields["keys"])
        self.roles = _roles(fields["roles"], self.keys)
        self.ranges = _ranges(fields["writers"], self.roles)
        self.kept = {each["seq"]: (each["kind"], each["sha256"]) for each in _kept(fields.get("kept", []))}
        self.first = self

    def role(self, name):
        """The keys of a role and its threshold; a role that is not listed has no keys."""
        keys, threshold = self.roles.get(name, ([], 1))
        return {identity: self.keys[identity] for identity in keys}, threshold

    def writers_at(self, seq):
        """The keys of writers whose range has `seq`, with the threshold of the role."""
        keys, threshold = self.role("writer")
        valid = {each["key"] for each in self.ranges
                 if each["from_seq"] <= seq and seq < each.get("until_seq", seq + 1)}
        return {identity: public for identity, public in keys.items() if identity in valid}, threshold

    def check_signed_by(self, envelope, judge):
        """The threshold of `judge`'s role root must have signed this version."""
        keys, threshold = judge.role("root")
        try:
            envelope.signers(keys, threshold, {**self.keys, **judge.keys})
        except Refused as refused:
            raise Refused("E_ROOT", f"root {self.version} under root {judge.version}: {refused}") from refused


def _keys(listed):
    for each in listed:
        demand(each["keytype"] == "ed25519" and each["scheme"] == "ed25519", "E_ALG", "a key that is not Ed25519")
        check_public(bytes.fromhex(hexadecimal(32)(each["public"], "public")))
        demand(key_id(bytes.fromhex(each["public"])) == each["id"], "E_KEYID", f"{each['id']} is not the id of its key")
    ascending([each["id"] for each in listed], "E_ROOT", "keys not in order")
    return {each["id"]: bytes.fromhex(each["public"]) for each in listed}


def _roles(listed, keys):
    ascending([each["name"] for each in listed], "E_ROOT", "roles not in order")
    for each in listed:
        demand(each["name"] in ROLES, "E_NEWER", f"the role {each['name']}")
    for each in listed:
        ascending(each["keys"], "E_THRESHOLD", f"keys of {each['name']} not in order")
        demand(1 <= each["threshold"] <= len(each["keys"]), "E_THRESHOLD", f"threshold of {each['name']}")
        demand(all(identity in keys for identity in each["keys"]), "E_ROOT", f"{each['name']} names an unlisted key")
    roles = {each["name"]: (each["keys"], each["threshold"]) for each in listed}
    demand("root" in roles, "E_ROOT", "no role root")
    return roles


def _ranges(listed, roles):
    ascending([(each["key"], each["from_seq"]) for each in listed], "E_ROOT", "writers not in order")
    writers = set(roles.get("writer", ([], 1))[0])
    demand({each["key"] for each in listed} == writers, "E_ROOT", "writers are not the keys of the role")
    for each in listed:
        demand(each["from_seq"] < each.get("until_seq", each["from_seq"] + 1), "E_ROOT", "a range without a number")
    for low, high in zip(listed, listed[1:]):
        demand(low["key"] != high["key"] or low.get("until_seq", high["from_seq"] + 1) <= high["from_seq"],
               "E_ROOT", "ranges of a writer overlap")
    return listed


def _kept(listed):
    ascending([each["seq"] for each in listed], "E_ROOT", "kept records not in order")
    for each in listed:
        demand(each["seq"] >= 1 and KIND.fullmatch(each["kind"]), "E_ROOT", "a kept record that is no such record")
    return listed


def first(data, pin):
    """"The first root"."""
    envelope = Envelope(data, LIMIT)
    demand(envelope.digest == pin, "E_ROOT_PIN", f"the first root is {envelope.digest}, not {pin}")
    root = Root(envelope)
    demand(root.version == 1, "E_VERSION", f"version {root.version} as the first root")
    envelope.signers(*root.role("root"), root.keys)
    return root


def following(data, old):
    """"The next root"."""
    envelope = Envelope(data, LIMIT)
    keys, threshold = old.role("root")
    demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for a root")
    try:
        envelope.signers(keys, threshold, old.keys)
    except Refused as refused:
        raise Refused("E_ROOT", f"the root after {old.version}: {refused}") from refused
    root = Root(envelope)
    demand(root.version == old.version + 1, "E_VERSION", f"version {root.version} after {old.version}")
    root.check_signed_by(envelope, root)
    root.first = old.first
    return root


A_DAY = 24 * 3600


def newest(store, pin, now):
    """Every root of a store from the pin on; only the last may not have expired."""
    root = first(store.read("root/1.json", LIMIT + 1), pin)
    for _ in range(MOST_STEPS):
        data = store.read_if_there(f"root/{root.version + 1}.json", LIMIT + 1)
        if data is None:
            break
        root = following(data, root)
    else:
        demand(store.read_if_there(f"root/{root.version + 1}.json", 1) is None, "E_TOO_MANY", "too many roots")
    demand(now >= (root.issued[0] - A_DAY, root.issued[1]), "E_CLOCK", f"now is before root {root.version} was issued")
    demand(now < root.expires, "E_STALE", f"root {root.version} has expired")
    return root
