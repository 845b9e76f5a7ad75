"""Ed25519 keys, strict signatures, key files: docs/format/keys.md, docs/format/envelope.md ("Verifying")."""

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from refusal import Refused, demand

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME


def _x_squared(y):
    return (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME


def _small_order():
    """The y of the eight points of small order: two of order 4, neutral and order 2, four of order 8."""
    # For a point of order 8 doubling gives y = 0, which is y^4 * d + 2 * y^2 - 1 = 0 with x^2 = -y^2... solved by the
    # quadratic formula for y^2; the curve equation makes sure that only points of the curve stay.
    found = {0, 1, PRIME - 1}
    root = _square_root((1 + CURVE_D) % PRIME)
    for sign in (1, -1):
        y_squared = (-1 + sign * root) * pow(CURVE_D, -1, PRIME) % PRIME
        y = _square_root(y_squared)
        if y is not None:
            found |= {y, PRIME - y}
    return found


def _square_root(value):
    candidate = pow(value, (PRIME + 3) // 8, PRIME)
    if candidate * candidate % PRIME != value % PRIME:
        candidate = candidate * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    return candidate if candidate * candidate % PRIME == value % PRIME else None


SMALL_ORDER = _small_order()


def is_strong_point(encoded):
    """Whether 32 bytes are the one encoding of a point of the curve that is not of small order."""
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return y < PRIME and _square_root(_x_squared(y)) is not None and y not in SMALL_ORDER


def check_public(encoded):
    """A key with which not everybody can sign."""
    demand(len(encoded) == 32 and is_strong_point(encoded), "E_WEAK_KEY", f"the key {encoded.hex()} is weak")
    return encoded


def key_id(public):
    """The name of a key in documents."""
    text = '{"keytype":"ed25519","keyval":{"public":"%s"},"scheme":"ed25519"}' % public.hex()
    return hashlib.sha256(text.encode()).hexdigest()


def verifies(public, signature, message):
    """Whether `signature` is a strict signature by `public`."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= ORDER:
        return False
    if not is_strong_point(signature[:32]) or not is_strong_point(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def read_file(data, secret):
    """The 32 bytes of the public key of a key file."""
    demand(len(data) <= 16384, "E_KEYFILE", "longer than 16 KiB")
    first = data.strip().split(b"\n")[0]
    try:
        if not secret and not first.startswith(b"-----"):
            return _openssh_line(data)
        load = (lambda: serialization.load_ssh_private_key(data, None)) if b"OPENSSH" in first else (
            lambda: serialization.load_pem_private_key(data, None))
        key = load() if secret else serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm, binascii.Error) as error:
        raise Refused("E_KEYFILE", f"not a usable key file: {error}") from error
    wanted = Ed25519PrivateKey if secret else Ed25519PublicKey
    demand(isinstance(key, wanted), "E_ALG" if b"OPENSSH" in first else "E_KEYFILE", "no Ed25519 key")
    public = key.public_key() if secret else key
    return check_public(public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def _openssh_line(data):
    """`ssh-ed25519 <base64> <comment>`, taken apart here because a weak key has to be told from a damaged line."""
    words = data.split()
    demand(len(words) >= 2, "E_KEYFILE", "neither PEM nor an OpenSSH line")
    demand(words[0] == b"ssh-ed25519", "E_ALG" if words[0].startswith((b"ssh-", b"ecdsa-")) else "E_KEYFILE", "no Ed25519 key")
    blob = base64.b64decode(words[1], validate=True)
    prefix = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
    demand(len(blob) == len(prefix) + 32 and blob.startswith(prefix), "E_KEYFILE", "a damaged OpenSSH line")
    return check_public(blob[len(prefix):])
