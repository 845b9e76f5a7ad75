"""Strict JSON and the shapes of fields: docs/format/envelope.md, "Strict JSON" and "Growth"."""

import datetime
import json
import re

from refusal import Refused, demand

FORMAT = "0-draft"
DEEPEST = 32
LARGEST = 2**53 - 1


def parse(data):
    """The one value in `data`, bytes that two readers cannot read differently."""
    try:
        text = data.decode("utf-8", "strict")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused("E_JSON", f"not strict JSON: {error}") from error
    _check(value, 1)
    return value


def _object(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in one object")
    return found


def _integer(text):
    value = int(text) if len(text) <= 17 else LARGEST + 1
    if text == "-0" or abs(value) > LARGEST:
        raise ValueError(f"the number {text[:20]}")
    return value


def _no_number(text):
    raise ValueError(f"the number {text[:20]}")


def _check(value, depth):
    """Depth, and surrogates, which Python's strings can hold and UTF-8 cannot."""
    if isinstance(value, str):
        demand(not re.search("[\ud800-\udfff]", value), "E_JSON", "a lone surrogate")
    elif isinstance(value, (list, dict)):
        demand(depth <= DEEPEST, "E_JSON", f"nested deeper than {DEEPEST}")
        if isinstance(value, dict):
            for name in value:
                _check(name, depth)
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, depth + 1)


def check_growth(document, format_found=None):
    """Stops at a newer document before any other of its fields is looked at."""
    demand(isinstance(document, dict), "E_JSON", "the payload is no object")
    found = document.get("format") if format_found is None else format_found
    demand(isinstance(found, str), "E_JSON", "`format` is missing or no text")
    demand(found == FORMAT, "E_NEWER", f"the format {found}")
    critical = document.get("critical", [])
    array(text)(critical, "critical")
    demand("critical" not in document or critical, "E_JSON", "`critical` is empty instead of absent")
    demand(not critical, "E_NEWER", f"the features {critical}")
    if "ext" in document:
        demand(isinstance(document["ext"], dict), "E_JSON", "`ext` is no object")


# A shape is a function of a value and its name, which returns what the value means or refuses it.


def record(required, optional=None):
    """An object with exactly these fields."""
    optional = optional or {}

    def shape(value, name):
        demand(isinstance(value, dict), "E_JSON", f"`{name}` is no object")
        for field in value:
            demand(field in required or field in optional, "E_JSON", f"`{name}` has the unknown field `{field}`")
        for field in required:
            demand(field in value, "E_JSON", f"`{name}` has no `{field}`")
        return {
            field: (required.get(field) or optional[field])(inner, f"{name}.{field}")
            for field, inner in value.items()
        }

    return shape


def array(of, least=0, most=None, too_many="E_JSON"):
    """A list of one shape."""

    def shape(value, name):
        demand(isinstance(value, list), "E_JSON", f"`{name}` is no array")
        demand(len(value) >= least, "E_JSON", f"`{name}` has fewer than {least}")
        demand(most is None or len(value) <= most, too_many, f"`{name}` has more than {most}")
        return [of(inner, f"{name}[{number}]") for number, inner in enumerate(value)]

    return shape


def integer(least=0, most=LARGEST):
    """A whole number."""

    def shape(value, name):
        demand(type(value) is int and least <= value <= most, "E_JSON", f"`{name}` is no such number: {value}")
        return value

    return shape


def text(value, name):
    """Any text."""
    demand(isinstance(value, str), "E_JSON", f"`{name}` is no text")
    return value


def plain_text(least, most):
    """A text without control characters, its length in bytes."""

    def shape(value, name):
        length = len(text(value, name).encode())
        demand(least <= length <= most, "E_JSON", f"`{name}` has {length} bytes")
        demand(not re.search("[\x00-\x1f\x7f-\x9f]", value), "E_JSON", f"`{name}` has a control character")
        return value

    return shape


def boolean(value, name):
    """true or false."""
    demand(isinstance(value, bool), "E_JSON", f"`{name}` is neither true nor false")
    return value


def anything(value, _name):
    """What no reader looks into."""
    return value


def hexadecimal(length):
    """Bytes as lowercase digits."""

    def shape(value, name):
        demand(re.fullmatch(f"[0-9a-f]{{{2 * length}}}", text(value, name)), "E_JSON", f"`{name}` is not {length} bytes in hex")
        return value

    return shape


digest = hexadecimal(32)


def time(value, name):
    """docs/format/root.md: a time in UTC, as (seconds, nanoseconds), so that times compare."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z", text(value, name), re.ASCII)
    demand(found, "E_JSON", f"`{name}` is no time in UTC: {value}")
    try:
        moment = datetime.datetime.fromisoformat(found[1] + "+00:00")
    except ValueError as error:
        raise Refused("E_JSON", f"`{name}` is no time: {error}") from error
    return int(moment.timestamp()), int((found[2] or "0").ljust(9, "0"))


def ascending(keys, refusal, message):
    """Strictly, so that nothing is listed twice."""
    demand(all(low < high for low, high in zip(keys, keys[1:])), refusal, message)
