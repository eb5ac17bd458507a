"""What a page's own code raised, in words: what, and in which line of the page."""

from __future__ import annotations

from pathlib import Path


def said(error: BaseException) -> str:
    """Its type, and what it says."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # a page's own exception, whose __str__ raises
        return type(error).__name__


def line_in(error: BaseException, file: str | Path | None) -> str:
    """` (game.py, line 12)`: the innermost line of `file` that it came through; else empty.

    Of a syntax error Python says the line itself.
    """
    frames, last = error.__traceback__, None
    while frames is not None:
        if frames.tb_frame.f_code.co_filename == str(file):
            last = frames.tb_lineno
        frames = frames.tb_next
    return "" if last is None else f" ({Path(str(file)).name}, line {last})"


def file_of(made: object) -> str | None:
    """The file of a function, or of a class of a page; None where there is none."""
    code = getattr(made, "__code__", None)
    if code is None and isinstance(made, type):  # a class has the file of its methods
        own = [getattr(value, "__code__", None) for value in vars(made).values()]
        code = next((one for one in own if one is not None), None)
    return None if code is None else str(code.co_filename)
