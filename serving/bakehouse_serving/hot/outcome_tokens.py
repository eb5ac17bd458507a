"""Outcome tokens: only who got a decision can tell what came of it.

A token is an HMAC over application and decision_id, so none is stored, a repeated decision gets
the same one, and every process of a home that has the secret can check it.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import os
import secrets
from pathlib import Path

from bakehouse_schemas.errors import BakehouseError, SettingsError
from bakehouse_schemas.process.keys import LEAST_SECRET
from bakehouse_schemas.process.settings import Settings

TOKEN_BYTES = 18  # 144 bits: 24 signs of base64, without padding
SECRET_BYTES = 32


class TokenRefused(BakehouseError):
    """An outcome does not carry the token of its decision."""


class OutcomeTokens:
    """Makes and checks the tokens of one application.

    Args:
        secret: the same in all processes that answer for the application, and after restarts.
    """

    def __init__(self, secret: bytes, application: str) -> None:
        self._secret = secret
        self._prefix = b"outcome-token\0%s\0" % application.encode()

    def token(self, decision_id: str) -> str:
        """URL-safe base64, 24 signs."""
        code = hmac.digest(self._secret, self._prefix + decision_id.encode(), "sha256")
        return base64.urlsafe_b64encode(code[:TOKEN_BYTES]).decode()

    def check(self, decision_id: str, token: str | None) -> None:
        """Raise TokenRefused unless it is the decision's token."""
        if token is None:
            raise TokenRefused("token: missing; send the `token` that came with the decision")
        if not hmac.compare_digest(token.encode(), self.token(decision_id).encode()):
            raise TokenRefused(
                f"token: not that of decision {decision_id}; send the `token` that came with it"
            )


def token_secret(settings: Settings) -> bytes | None:
    """The secret of this home; None where tokens are off.

    Raises:
        SettingsError: the file that keeps it cannot be used.
    """
    if settings.outcome_tokens == "off":
        return None
    if settings.token_secret is not None:
        return settings.token_secret.encode()
    return kept_secret(settings.home / "serving" / "token.key")


def kept_secret(file: Path) -> bytes:
    """The secret in `file`, made where there is none; of processes that make it, one wins.

    Raises:
        SettingsError: it is too short to be one.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "w") as out:
                out.write(secrets.token_hex(SECRET_BYTES))
                out.flush()
                os.fsync(out.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(aside, file)  # unlike a rename it does not replace another's
        finally:
            aside.unlink()
    secret = file.read_bytes().strip()
    if len(secret) < LEAST_SECRET:
        raise SettingsError(
            f"{file} holds {len(secret)} bytes, expected a secret of at least {LEAST_SECRET}. "
            "Remove it and another is made (tokens given out before are then refused), or set "
            "BAKEHOUSE_TOKEN_SECRET"
        )
    return secret
