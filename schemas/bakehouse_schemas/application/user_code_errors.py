"""What an application file's own code raised, in words: what, and in which line of the file."""

from __future__ import annotations

from pathlib import Path


def error_text(error: BaseException) -> str:
    """Its type, and what it says."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # the file's own exception, whose __str__ raises
        return type(error).__name__


def source_line(error: BaseException, file: str | Path | None) -> str:
    """` (game.py, line 12)`: the innermost line of `file` that it came through; else empty.

    Of a syntax error Python says the line itself.
    """
    frames, last = error.__traceback__, None
    while frames is not None:
        if frames.tb_frame.f_code.co_filename == str(file):
            last = frames.tb_lineno
        frames = frames.tb_next
    return "" if last is None else f" ({Path(str(file)).name}, line {last})"


def source_file(made: object) -> str | None:
    """The file of a function, or of a class; None where there is none."""
    code = getattr(made, "__code__", None)
    if code is None and isinstance(made, type):  # a class has the file of its methods
        own = [getattr(value, "__code__", None) for value in vars(made).values()]
        code = next((one for one in own if one is not None), None)
    return None if code is None else str(code.co_filename)
