"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Refs = Annotated[
    list[str],
    typer.Argument(help="Applications: path/to/file.py or module:attribute.", metavar="REF"),
]
Ref = Annotated[
    str,
    typer.Argument(help="The application: path/to/file.py or module:attribute.", metavar="REF"),
]
Home = Annotated[
    Path | None, typer.Option(help="Where the stack keeps its data (default .bakehouse).")
]
Port = Annotated[int | None, typer.Option(help="Serving's port (default 8080; 0: any free one).")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Url = Annotated[
    str | None, typer.Option(help="Serving's address, where it is not the stack of this home.")
]
Name = Annotated[
    str | None, typer.Option("--application", "-a", help="Which application, if there are several.")
]
LEAST_RATE = 0.01  # decisions a second: at none nothing would ever end
Rate = Annotated[
    float | None,
    typer.Option(help="Decisions a second (default 100).", min=LEAST_RATE),
]
VirtualRate = Annotated[
    float, typer.Option(help="Decisions a second, in virtual time.", min=LEAST_RATE)
]
Why = Annotated[str, typer.Option(help="The reason, kept with the change.")]
By = Annotated[str | None, typer.Option(help="Who says so (default: your login name).")]
