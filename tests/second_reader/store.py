"""A store in a directory: docs/format/store.md. Nothing in it is trusted."""

import os
import re

from refusal import Refused, demand

# A name that ends in `#` and digits is a staged file of a writer and no object.
KEY = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")


class DirectoryStore:
    """Objects by key, read only and never followed beyond the stated length."""

    def __init__(self, path):
        self.path = path

    def _path(self, key):
        demand(KEY.fullmatch(key) and not {".", ".."} & set(key.split("/")), "E_MISSING", f"no object has the key {key}")
        return os.path.join(self.path, key)

    def read(self, key, most):
        """The first `most` bytes of an object."""
        data = self.read_if_there(key, most)
        demand(data is not None, "E_MISSING", f"{key} is not in the store")
        return data

    def read_if_there(self, key, most):
        """None if there is no such object."""
        try:
            with open(self._path(key), "rb") as file:
                return file.read(most)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def read_range(self, key, start, length):
        """As many of `length` bytes from `start` on as there are."""
        try:
            with open(self._path(key), "rb") as file:
                file.seek(start)
                return file.read(length)
        except FileNotFoundError as error:
            raise Refused("E_MISSING", f"{key} is not in the store") from error

    def length(self, key):
        """Bytes of an object."""
        try:
            return os.stat(self._path(key)).st_size
        except FileNotFoundError as error:
            raise Refused("E_MISSING", f"{key} is not in the store") from error

    def keys(self, prefix):
        """The keys below a prefix, in order."""
        found = []
        for directory, _, names in os.walk(os.path.join(self.path, prefix)):
            relative = os.path.relpath(directory, self.path)
            found += [f"{relative}/{name}" for name in names if KEY.fullmatch(name)]
        return sorted(found)
