"""The certificates that this machine trusts, in the form that a Java can read.

A packaged JRE knows the public authorities only. Behind a company's proxy the machine trusts
one more, and what pip and uv could fetch Java could not.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import struct
import tempfile
from pathlib import Path

JKS_MAGIC, JKS_VERSION, TRUSTED_CERTIFICATE = 0xFEEDFEED, 2, 2
PASSWORD = "changeit"  # noqa: S105 (Java's own default; what is stored is public)
WHITENER = b"Mighty Aphrodite"  # part of the format

# Where systems keep their bundle, for Pythons that were built to look elsewhere.
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def machine_certificates() -> list[bytes]:
    """DER certificates of the authorities that this machine trusts (`SSL_CERT_FILE` counts)."""
    context = ssl.create_default_context()
    for bundle in BUNDLES:
        if Path(bundle).is_file():
            context.load_verify_locations(bundle)
    return context.get_ca_certs(binary_form=True)


def write_trust_store(certificates: list[bytes], file: Path) -> Path:
    """Write `certificates` (DER) as a JKS trust store, whole or not at all.

    The format is that of `sun.security.provider.JavaKeyStore`: big-endian, strings with a
    two-byte length, closed by SHA-1 over the UTF-16 password, a constant and the content.
    """
    body = struct.pack(">III", JKS_MAGIC, JKS_VERSION, len(certificates))
    for number, certificate in enumerate(certificates):
        body += struct.pack(">I", TRUSTED_CERTIFICATE) + _text(f"machine-{number}")
        body += struct.pack(">Q", 0) + _text("X.509")
        body += struct.pack(">I", len(certificate)) + certificate
    content = PASSWORD.encode("utf-16-be") + WHITENER + body
    digest = hashlib.sha1(content).digest()  # noqa: S324 (what the format says; no secret)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(body + digest)
    Path(aside).replace(file)
    return file


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded
