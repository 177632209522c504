"""Signatures of artifacts: Ed25519 (RFC 8032), by the library cryptography, which is optional.

    signature = signed(manifest, "private.pem")         64 bytes
    check(manifest, signature, "public.pem")            or the 32 bytes of the key

Keys lie in files as OpenSSL writes them:

    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ferrule.base.errors import InputError

Key = str | os.PathLike[str] | bytes
"""A file with a key, or the 32 bytes of a public one."""


def signed(data: bytes, key: str | os.PathLike[str]) -> bytes:
    """The signature of `data` by the private key in a file. Raises InputError where there is none,
    or cryptography is missing.
    """
    _library()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        read: Any = load_pem_private_key(_content(key), None)
    except (ValueError, TypeError) as error:
        raise InputError(f"{os.fspath(key)} is no private key without password: {error}") from error
    if not isinstance(read, Ed25519PrivateKey):
        raise InputError(f"{os.fspath(key)} is a key of another kind: expected one of Ed25519")
    return read.sign(data)


def check(data: bytes, signature: bytes | None, trusted: Key) -> None:
    """Raises InputError unless `signature` is one of `data` by the private key that belongs to the
    public key `trusted`.
    """
    _library()
    from cryptography.exceptions import InvalidSignature

    key = _public(trusted)
    if signature is None:
        raise InputError("it is not signed, and a signature was asked for")
    try:
        key.verify(bytes(signature), data)
    except InvalidSignature:
        raise InputError("its signature is not by the trusted key, or it was changed") from None


def _public(trusted: Key) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        if isinstance(trusted, bytes):
            return Ed25519PublicKey.from_public_bytes(trusted)
        read = load_pem_public_key(_content(trusted))
    except ValueError as error:
        raise InputError(f"the trusted key is no public key: {error}") from error
    if not isinstance(read, Ed25519PublicKey):
        raise InputError("the trusted key is of another kind: expected one of Ed25519")
    return read


def _content(file: str | os.PathLike[str]) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"the key {os.fspath(file)} cannot be read: {error}") from error


def _library() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise InputError(
            "signatures need the library cryptography: pip install 'ferrule[sign]'"
        ) from None
