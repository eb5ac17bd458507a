"""How every part logs: lines for people or for machines, and nothing of a player in either.

An error says what came, and the HTTP answer repeats it; a log must not, for it is kept elsewhere,
by others, for longer. So an exception that is handed to a log is put in words here: those of an
error that quotes nobody, else its type and its place. Log calls hand over the exception, never its
text.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.process.addresses import text_without_secrets

Format = Literal["text", "json"]

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MOST_WORDS = 1_000  # characters of one exception, or of one extra
MOST_CAUSES = 5
# They repeat themselves while a broker is away, or say what reaches us as an exception: what
# matters of it is said by us. Kafka's client may quote records, an access log quotes addresses.
QUIET = {
    "absl": logging.ERROR,
    "kafka": logging.CRITICAL,
    "opentelemetry": logging.CRITICAL,
    "py4j": logging.CRITICAL,
    "urllib3": logging.ERROR,
    "uvicorn.access": logging.CRITICAL,
}
# Its messages hold the `repr` of tasks and callbacks, with what these were called with.
_TALKS = "asyncio"
# A warning may quote a value, as those of pydantic do: its place and category come first.
_WARNS, _WARNING = "py.warnings", re.compile(r"[^\n]+?:[0-9]+: [A-Za-z]+")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}
_FIRST = ("at", "level", "part", "logger", "message", "application")


def set_up_logs(part: str, log_format: Format, *, to: TextIO) -> None:
    """Log to a stream from here on, what nobody caught included.

    Args:
        part: serving, stream or learner; JSON lines carry it.
    """
    if isinstance(to, io.TextIOWrapper):
        to.reconfigure(errors="backslashreplace")
    handler = _Handler(to)
    handler.setFormatter(formatter(part, log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda one: _uncaught(one.exc_type, one.exc_value, one.exc_traceback)
    sys.unraisablehook = lambda one: _uncaught(one.exc_type, one.exc_value, one.exc_traceback)


def formatter(part: str, log_format: Format) -> logging.Formatter:
    """What turns a record into a line of this format."""
    return JsonLines(part) if log_format == "json" else TextLines(TEXT)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, at: TracebackType | None
) -> None:
    if error is not None and not issubclass(kind, SystemExit | KeyboardInterrupt):
        logging.getLogger("uncaught").critical("nobody caught this", exc_info=(kind, error, at))


class _Handler(logging.StreamHandler[TextIO]):
    """Python's own prints a record that cannot be written, with all that it was given."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - Python's name
        with contextlib.suppress(Exception):
            self.stream.write(f"a line of {record.name} could not be logged\n")


class TextLines(logging.Formatter):
    """A line for a person, a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        record.message = message_of(record)
        record.asctime = self.formatTime(record)
        line = self.formatMessage(record)
        found = _exception_of(record)
        return text_without_secrets(line if found is None else f"{line}\n{traceback_of(found)}")


class JsonLines(logging.Formatter):
    """One JSON object a line: `at`, `level`, `part`, `logger`, `message`, and what else is known.

    `application` and further fields are what a log call gives as `extra`; `exception` holds the
    traceback.
    """

    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "at": _instant(record.created),
            "level": record.levelname,
            "part": self._part,
            "logger": record.name,
            "message": message_of(record),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in fields:
                fields[name] = _plain(value)
        found = _exception_of(record)
        if found is not None:
            fields["exception"] = traceback_of(found)
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = text_without_secrets(value)
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)


def message_of(record: logging.LogRecord) -> str:
    """A record's message, its exceptions in words that quote nobody."""
    if record.name == _TALKS:
        return "an exception that nobody handled"
    if record.name == _WARNS:
        found = _WARNING.match(record.getMessage())
        return found[0] if found else "a warning"
    args: Any = record.args
    if isinstance(record.msg, BaseException):
        return words(record.msg)
    if not args:
        return str(record.msg)
    if isinstance(args, Mapping):
        args = {name: _shown(value) for name, value in args.items()}
    else:
        args = tuple(_shown(value) for value in args)
    template = str(record.msg)
    try:
        message: str = template % args
        return message
    except (TypeError, ValueError):  # a log call that does not fit its template
        return template


def words(error: BaseException) -> str:
    """An exception in words that a log may hold.

    Its own where they quote nothing that a game sent: Bakehouse's errors but those that say what
    came, the operating system's, and the Kafka client's. Else its type, and where it was raised.
    """
    kind = type(error)
    if isinstance(error, BakehouseError):
        if not error.quotes_what_came:
            return _short(str(error))
    elif isinstance(error, OSError) and error.strerror:
        named = f": {str(error.filename)!r}" if error.filename else ""
        return _short(f"{kind.__name__}: {error.strerror}{named}")
    elif kind.__module__.partition(".")[0] == "kafka":
        return _short(f"{kind.__name__}: {error}")
    condition = getattr(error, "getCondition", None)  # Spark's: TABLE_OR_VIEW_NOT_FOUND, …
    named = f" [{condition()}]" if callable(condition) else ""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return _short(f"{kind.__name__}{named}{where}")


def traceback_of(error: BaseException) -> str:
    """A traceback, causes first, each exception in `words`."""
    parts: list[str] = []
    found: BaseException | None = error
    while found is not None and len(parts) < MOST_CAUSES:
        frames = "".join(traceback.format_tb(found.__traceback__))
        head = "Traceback (most recent call last):\n" if frames else ""
        kind = type(found).__name__
        said = words(found)
        parts.append(f"{head}{frames}{said if said.startswith(kind) else f'{kind}: {said}'}")
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return "\nThis led to:\n".join(reversed(parts))


def readable(line: str) -> str:
    """A line of a log for a person; one that is no JSON of ours is left as it is."""
    if not line.startswith("{"):
        return line
    try:
        fields = json.loads(line)
        at, level, _, logger, message, application = (fields.pop(name, "") for name in _FIRST)
    except (ValueError, AttributeError):
        return line
    if not (at and level):
        return line
    exception = fields.pop("exception", None)
    named = {"application": application} if application else {}
    more = " ".join(f"{name}={value}" for name, value in (named | fields).items())
    said = f"{at} {level} {logger}: {message}{f'  ({more})' if more else ''}"
    return said if exception is None else f"{said}\n{exception}"


def _exception_of(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _shown(value: Any) -> Any:
    return words(value) if isinstance(value, BaseException) else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return words(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    return str(value)[:MOST_WORDS]


def _short(text: str) -> str:
    return " ".join(text.split())[:MOST_WORDS]


def _instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
