"""What differs between a laptop and a cluster: addresses, bounds and places.

Read from `BAKEHOUSE_*` environment variables, else from `bakehouse.toml` in the working
directory, else the embedded defaults. Durations and sizes carry their unit in the name.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import ErrorDetails

from bakehouse_schemas.errors import SettingsError
from bakehouse_schemas.process.addresses import without_secrets
from bakehouse_schemas.process.keys import (
    KEY_PATTERN,
    LEAST_SECRET,
    ApiKey,
    Scope,
    is_loopback,
    key_for,
    parse_keys,
)

ENVIRONMENT_PREFIX = "BAKEHOUSE_"
LISTENER_WAIT_MS = 10_000
# neither printed nor repeated in a message
SECRETS = ("kafka_sasl_password", "api_keys", "api_key", "token_secret")
# may hold a user and a password: told and printed without them (`process/addresses.py`)
ADDRESSES = ("kafka_bootstrap", "mlflow_uri", "tables_uri", "trace_endpoint")


class Settings(BaseModel):
    """Settings of one stack, shared by all its parts. Paths below `home` are properties."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Path = Path(".bakehouse")
    # what a person who runs it sees
    log_format: Literal["text", "json"] = "text"
    trace_endpoint: str | None = Field(default=None, pattern=r"^https?://")  # OTLP over HTTP
    trace_share: float = Field(default=0.001, ge=0, le=1)  # of decisions
    # Kafka
    # host:port,host:port; None: the embedded broker of this home
    kafka_bootstrap: str | None = Field(default=None, pattern=r"^[^@]*$")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ssl_cafile: str | None = None
    kafka_sasl_mechanism: str | None = None
    kafka_sasl_username: str | None = None
    kafka_sasl_password: str | None = Field(default=None, repr=False)
    topic_prefix: str = Field(default="bakehouse", pattern=r"^[A-Za-z0-9_-]+$")
    topic_partitions: int = Field(default=1, ge=1)
    topic_replication: int = Field(default=1, ge=1)
    kafka_retention_hours: float = Field(default=24.0, gt=0)
    kafka_retention_bytes: int = Field(default=4 << 30, gt=0)  # a partition
    # stream
    spark_master: str = "local[*]"
    tables_uri: str | None = None  # None: <home>/tables
    join_retention_minutes: float = Field(default=30.0, gt=0)
    # an append lists `_delta_log`, and takes twice as long with an hour of half-second commits
    log_retention_minutes: float = Field(default=10.0, ge=1)
    removed_files_retention_hours: int = Field(default=1, ge=1)  # for readers of older snapshots
    repair_every_s: float = Field(default=15.0, gt=0)
    account_every_s: float = Field(default=10.0, gt=0)
    upkeep_every_s: float = Field(default=60.0, gt=0)  # compaction, and cleaning of the log
    upkeep_share: float = Field(default=0.05, gt=0, le=1)  # of the time, for each kind of upkeep
    compact_after_minutes: float = Field(default=10.0, gt=0)
    replay_retention_days: float = Field(default=30.0, gt=0)  # by stream time, an hour an hour
    # learner
    mlflow_uri: str | None = None  # None: SQLite under <home>
    policies_kept: int = Field(default=50, ge=3)
    # serving
    host: str = "127.0.0.1"  # any but this machine's own needs a key with the scope admin
    port: int = Field(default=8080, ge=0, le=65535)
    api_keys: str | None = Field(default=None, repr=False)  # decide+outcome:KEY,admin:KEY
    outcome_tokens: Literal["off", "required"] = "off"
    token_secret: str | None = Field(default=None, min_length=LEAST_SECRET, repr=False)
    spool_bytes: int = Field(default=256 << 20, ge=1 << 16)  # a serving process
    spool_sync_s: float = Field(default=1.0, gt=0)  # what a power cut can take of the spool
    freshness_target_s: float = Field(default=5.0, gt=0)  # what the page and alerts hold it against
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    answer_memory_minutes: float = Field(default=10.0, gt=0)
    # commands that ask a running stack
    api_key: str | None = Field(
        default=None, min_length=LEAST_SECRET, pattern=KEY_PATTERN, repr=False
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _joined(cls, value: Any) -> Any:
        """In `bakehouse.toml` a list reads better."""
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return ",".join(value)
        return value

    @field_validator("api_keys")
    @classmethod
    def _usable(cls, value: str | None) -> str | None:
        if value is not None:
            parse_keys(value)
        return value

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, without_secrets(value) if name in ADDRESSES and value else value

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """The keys that serving takes; none: whoever reaches it may do everything."""
        return () if self.api_keys is None else parse_keys(self.api_keys)

    def key_to_send(self, scope: Scope | None) -> str | None:
        """What a command sends to a running stack: `api_key`, else one of `api_keys` that fits.

        Args:
            scope: None: any key will do.
        """
        return self.api_key or key_for(self.keys, scope)

    def check_exposure(self) -> None:
        """Whoever reaches serving over a network must show a key.

        Raises:
            SettingsError: `host` is not this machine's own, and no key has the scope admin.
        """
        if is_loopback(self.host) or key_for(self.keys, "admin") is not None:
            return
        lacks = "no API key has the scope admin" if self.keys else "no API key is set"
        raise SettingsError(
            f"host={self.host!r}, an address that others can reach, and {lacks}: expected one, "
            "else whoever reaches it could change policies. Set "
            "BAKEHOUSE_API_KEYS=decide+outcome:KEY,admin:KEY (make each KEY with "
            "`openssl rand -hex 24`), or leave BAKEHOUSE_HOST at 127.0.0.1. Nothing listens"
        )

    def topic(self, name: str) -> str:
        """Full name of a topic: `decisions` becomes `bakehouse.decisions.v1`."""
        return f"{self.topic_prefix}.{name}.v1"

    @property
    def tables(self) -> str:
        """Where the Delta tables live: a local path or an object-store address."""
        return self.tables_uri or str(self.home.resolve() / "tables")

    @property
    def policies(self) -> Path:
        """Bundles: `<application>/<version>/`."""
        return self.home / "policies"

    @property
    def mlflow_tracking_uri(self) -> str:
        """SQLite under the home unless a server is named."""
        return self.mlflow_uri or f"sqlite:///{self.mlflow_file}"

    @property
    def mlflow_file(self) -> Path:
        """MLflow's database, where no store is named."""
        return self.home.resolve() / "mlflow.db"

    def kafka_client(self) -> dict[str, Any]:
        """Connection arguments that every kafka-python client of this stack takes.

        Raises:
            SettingsError: no broker is named and none has been started for this home.
        """
        if self.kafka_bootstrap is None:
            raise SettingsError(
                "no Kafka address: set BAKEHOUSE_KAFKA_BOOTSTRAP=host:port, or start the parts "
                "with `bakehouse up`, which runs a broker and passes its address on"
            )
        arguments: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap.split(","),
            "security_protocol": self.kafka_security_protocol,
        }
        optional = {
            "ssl_cafile": self.kafka_ssl_cafile,
            "sasl_mechanism": self.kafka_sasl_mechanism,
            "sasl_plain_username": self.kafka_sasl_username,
            "sasl_plain_password": self.kafka_sasl_password,
        }
        return arguments | {name: value for name, value in optional.items() if value is not None}

    def kafka_reader(self) -> dict[str, Any]:
        """Arguments of every consumer of records: what was aborted never happened.

        kafka-python by itself also hands over records of transactions that were aborted, or that
        are still open.

        Raises:
            SettingsError: as `kafka_client`.
        """
        return self.kafka_client() | {"isolation_level": "read_committed"}

    def kafka_teller(self) -> dict[str, Any]:
        """Arguments of a producer that goes on for as long as its process does.

        Order is kept by one request at a time, not by idempotence: with it, kafka-python 3.0.12
        sends nothing more for ever once a broker that froze has answered again. What is told so
        may come twice.

        Raises:
            SettingsError: as `kafka_client`.
        """
        return self.kafka_client() | {
            "enable_idempotence": False,
            "max_in_flight_requests_per_connection": 1,
            "linger_ms": 0,
        }

    def kafka_listener(self, client_id: str) -> dict[str, Any]:
        """Arguments of a consumer that follows whole topics by hand, in no group.

        The broker answers at once when there is something, and else after `LISTENER_WAIT_MS`, so
        one that hears nothing costs nothing.

        Raises:
            SettingsError: as `kafka_client`.
        """
        return self.kafka_reader() | {
            "client_id": client_id,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": LISTENER_WAIT_MS,
            "request_timeout_ms": 3 * LISTENER_WAIT_MS,
            "bootstrap_timeout_ms": 5_000,
            "reconnect_backoff_max_ms": 1_000,
            "allow_auto_create_topics": False,
            "metrics_enabled": False,
        }

    def as_environment(self) -> dict[str, str]:
        """The variables that make `load_settings` in a child process return these settings."""
        return {
            ENVIRONMENT_PREFIX + name.upper(): str(value)
            for name, value in self.model_dump(exclude_none=True).items()
        }


def load_settings(
    environment: Mapping[str, str] = os.environ,
    *,
    file: Path = Path("bakehouse.toml"),
    **overrides: Any,
) -> Settings:
    """Settings from keyword arguments, else the environment, else `bakehouse.toml`, else defaults.

    Raises:
        SettingsError: naming the setting, the value that came and what was expected.
    """
    values: dict[str, Any] = {}
    if file.is_file():
        try:
            values.update(tomllib.loads(file.read_text()))
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file} is not valid TOML: {error}") from error
    for name in Settings.model_fields:
        if (value := environment.get(ENVIRONMENT_PREFIX + name.upper())) is not None:
            values[name] = value
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}={_shown(e)}: {e['msg']}" for e in error.errors()
        )
        raise SettingsError(
            f"settings cannot be used: {problems}. Known settings: "
            f"{', '.join(sorted(Settings.model_fields))}"
        ) from None  # the cause holds what came, secrets too


def _shown(error: ErrorDetails) -> str:
    """What came; a secret stays one, and so does what somebody misspelled the name of."""
    named = str(error["loc"][0]) if error["loc"] else ""
    given = error.get("input")
    if named in SECRETS or named not in Settings.model_fields:
        return "(not shown)"
    if named in ADDRESSES and "@" in str(given):  # not even an address, perhaps
        return "(not shown: it has a user or password)"
    return repr(without_secrets(given) if isinstance(given, str) else given)
