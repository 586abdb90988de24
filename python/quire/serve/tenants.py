"""Who asks: API keys and the tenants that they belong to."""
from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from pathlib import Path

from .errors import ApiError

MAX_NAME_BYTES = 64


class KeyFileError(ValueError):
    """A file of keys that cannot be used; the message names file and entry."""


class Tenants:
    """Tenants by the SHA-256 of their keys: looking a key up takes as long for a wrong one as for a right one, and
    memory holds none."""

    def __init__(self, by_digest: dict[str, str] | None = None):
        self._by_digest = by_digest

    @property
    def has_keys(self) -> bool:
        return self._by_digest is not None

    def tenant(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The tenant of a request's key. "" where no keys are set."""
        if self._by_digest is None:
            return ""
        given = [value for name, value in headers if name == b"authorization"]
        scheme, _, key = (given[0] if len(given) == 1 else b"").partition(b" ")
        tenant = self._by_digest.get(_digest(key.strip())) if scheme.lower() == b"bearer" else None
        if tenant is None:
            raise ApiError(401, "Incorrect API key provided." if given else
                           "You didn't provide an API key: Authorization: Bearer KEY.", code="invalid_api_key",
                           headers={"www-authenticate": "Bearer"})
        return tenant


def read_keys(path: str | Path) -> Tenants:
    """A TOML file with a table [tenants]: of each its key, or a list of keys, as they are or as "sha256:HEX"."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeyFileError(f"{path}: {error}") from None
    tenants = table.get("tenants")
    if set(table) != {"tenants"} or not isinstance(tenants, dict) or not tenants:
        raise KeyFileError(f'{path}: expected one table [tenants] with lines like team-a = "KEY"')
    by_digest: dict[str, str] = {}
    for name, keys in tenants.items():
        if len(name.encode()) > MAX_NAME_BYTES:
            raise KeyFileError(f"{path}: [tenants] {name}: is longer than {MAX_NAME_BYTES} bytes")
        for key in [keys] if isinstance(keys, str) else keys if isinstance(keys, list) and keys else [None]:
            if not isinstance(key, str) or not key or not key.isascii() or " " in key:
                raise KeyFileError(f"{path}: [tenants] {name}: expected a key of ASCII characters, or a list of keys")
            digest = key.removeprefix("sha256:").lower() if key.startswith("sha256:") else _digest(key.encode())
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise KeyFileError(f"{path}: [tenants] {name}: sha256: is followed by 64 hexadecimal digits")
            if by_digest.setdefault(digest, name) != name:
                raise KeyFileError(f"{path}: [tenants] {name} and {by_digest[digest]} have the same key")
    return Tenants(by_digest)


def _digest(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
