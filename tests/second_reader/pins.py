"""Pins: docs/format/pins.md."""

import re

import strict_json
from envelope import Envelope
from image import NAME, check_image
from refusal import demand
from strict_json import array, digest, hexadecimal, integer, record, text, time

TYPE, LIMIT = "application/vnd.snapkit.pins+json", 256 * 1024


def rule(condition, message):
    """A rule of the page that names no other class."""
    demand(condition, "E_MANIFEST", message)


def name(value, where):
    """What things are called."""
    rule(NAME.fullmatch(text(value, where)), f"`{where}` is no name: {value!r}")
    return value


def words(value, where, most=4096):
    """A text without control characters."""
    rule(1 <= len(text(value, where).encode()) <= most, f"`{where}` is too long or empty")
    rule(not re.search("[\x00-\x1f\x7f-\x9f]", value), f"`{where}` has a control character")
    return value


def listed(of, most=64, sorted_by=None, least=0):
    """A list within its limit, in order if it is sorted by something."""

    def shape(value, where):
        found = array(of, most=most, too_many="E_TOO_MANY")(value, where)
        rule(len(found) >= least, f"`{where}` has fewer than {least}")
        if sorted_by:
            keys = [sorted_by(each).encode() for each in found]
            rule(all(low < high for low, high in zip(keys, keys[1:])), f"`{where}` is not in order")
        return found

    return shape


def one_of(*known):
    """A word; another one is newer."""

    def shape(value, where):
        demand(text(value, where) in known, "E_NEWER", f"`{where}` is {value}")
        return value

    return shape


def matching(pattern):
    """A text of one form."""

    def shape(value, where):
        rule(re.fullmatch(pattern, text(value, where), re.ASCII), f"`{where}` is no such text: {value!r}")
        return value

    return shape


def above_zero(value, where):
    """A number that says something."""
    rule(integer()(value, where) > 0, f"`{where}` is 0")
    return value


def within(least, most):
    """A number in a range."""

    def shape(value, where):
        rule(least <= integer()(value, where) <= most, f"`{where}` is {value}")
        return value

    return shape


def by(field):
    """For lists of objects."""
    return lambda each: each[field]


def itself(each):
    """For lists of texts."""
    return each


ARGV = listed(words, most=256, least=1)
ABSOLUTE = matching(r"(?s)/.*")
PROBE = record(
    {"kind": one_of("http", "tcp", "exec"), "timeout_seconds": within(1, 3600)},
    {"url": words, "body": words, "address": words, "argv": ARGV},
)
PROBE_FIELDS = {"http": ({"url"}, {"body"}), "tcp": ({"address"}, set()), "exec": ({"argv"}, set())}
HOOKS = record({"start": ARGV, "stop": ARGV, "kill": ARGV, "status": ARGV}, {})
SERVICE = record(
    {"driver": one_of("process", "compose", "systemd", "hooks")},
    {
        "argv": ARGV, "compose": text, "unit": matching("[A-Za-z0-9:_.@-]{1,255}"), "hooks": HOOKS,
        "images": listed(name, sorted_by=itself),
        "roles": listed(record({"role": text, "args": ARGV}), sorted_by=by("role")),
        "ports": listed(record({"name": name, "port": within(1, 65535), "protocol": text}), sorted_by=by("name")),
        "user": words, "health": PROBE, "ready": PROBE, "role": PROBE, "exclusive": listed(name, sorted_by=itself),
    },
)
TREE = record(
    {"name": name, "path": words, "activation": one_of("current", "fixed")},
    {"files": listed(record({"path": words, "policy": one_of("must-match", "may-advance", "ignore")}),
                     most=1024, sorted_by=by("path"))},
)
VARIABLE = matching("[A-Za-z_][A-Za-z0-9_]{0,254}")
SECRET = record(
    {"name": VARIABLE, "from": one_of("environment", "file")},
    {"path": words, "fingerprint": record({"salt": hexadecimal(16), "scrypt": hexadecimal(32)})},
)
NEEDS = record({}, {
    "environment": listed(VARIABLE, most=256, sorted_by=itself),
    "secrets": listed(SECRET, sorted_by=by("name")),
    "free_bytes": above_zero, "capabilities": listed(name, sorted_by=itself),
})
LEASE = record(
    {
        "mode": one_of("static", "auto"), "back_end": one_of("store", "etcd"), "group": name,
        "ttl_seconds": within(5, 86400),
        "members": listed(record({"node": lambda value, where: words(value, where, 255), "key": digest}),
                          sorted_by=by("node"), least=1),
    },
    {"store": words},
)
FIELDS = record(
    {
        "format": text, "chain": digest, "name": name, "version": above_zero, "issued": time, "expires": time,
        "images": listed(check_image, sorted_by=by("name")),
        "trees": listed(TREE, sorted_by=by("name"), least=1),
        "needs": NEEDS, "max_head_age_seconds": above_zero,
    },
    {
        "service": SERVICE, "lease": LEASE, "max_head_lag": integer(),
        "critical": strict_json.anything, "ext": strict_json.anything,
    },
)


def verify(data, root, chain, wanted):
    """The pins of a chain that manifests of one name embed; whether they have expired is asked by who uses them."""
    envelope = Envelope(data, LIMIT)
    demand(envelope.type == TYPE, "E_TYPE", f"the type {envelope.type} for pins")
    keys, threshold = root.role("release")
    envelope.signers(keys, threshold, root.keys)
    document = strict_json.parse(envelope.payload)
    strict_json.check_growth(document)
    pins = FIELDS(document, "pins")
    rule(pins["issued"] < pins["expires"], "pins expire before they are issued")
    if "service" in pins:
        _check_service(pins["service"], {image["name"] for image in pins["images"]})
    for tree in pins["trees"]:
        ABSOLUTE(tree["path"], "trees.path")
        for file in tree.get("files", []):
            rule(not {"", ".", ".."} & set(file["path"].split("/")), f"the file {file['path']!r} leaves its tree")
    for secret in pins["needs"].get("secrets", []):
        rule((secret["from"] == "file") == ("path" in secret), "a secret with a path and no file, or the other way")
        ABSOLUTE(secret.get("path", "/"), "secrets.path")
    node = root.role("node")[0]
    for member in pins.get("lease", {}).get("members", []):
        rule(member["key"] in node, "a member whose key is not in the role node")
    demand(pins["chain"] == chain and pins["name"] == wanted, "E_ORIGIN", "pins of another chain or name")
    return pins


def _check_service(service, images):
    for field, driver in [("argv", "process"), ("compose", "compose"), ("unit", "systemd"), ("hooks", "hooks")]:
        rule((field in service) == (service["driver"] == driver), f"`{field}` with the driver {service['driver']}")
    if "compose" in service:
        rule(1 <= len(service["compose"].encode()) <= 65536, "a compose file of such a length")
        rule(not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", service["compose"]), "a compose file with control characters")
    rule(set(service.get("images", [])) <= images, "an image that the pins do not have")
    for role in service.get("roles", []):
        rule(role["role"] in ("follower", "leader"), f"the role {role['role']}")
    for port in service.get("ports", []):
        rule(port["protocol"] in ("tcp", "udp"), f"the protocol {port['protocol']}")
    for probe in [service[field] for field in ("health", "ready", "role") if field in service]:
        needed, allowed = PROBE_FIELDS[probe["kind"]]
        found = set(probe) - {"kind", "timeout_seconds"}
        rule(needed <= found <= needed | allowed, f"a probe of kind {probe['kind']} with {sorted(found)}")
        rule(re.match("https?://", probe.get("url", "http://")), "a probe of another protocol")
        rule(re.fullmatch(r".+:\d{1,5}", probe.get("address", "host:1")), "an address without a port")


