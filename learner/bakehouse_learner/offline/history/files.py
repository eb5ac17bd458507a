"""The files of a studio's own log as one table: Parquet or CSV, one file or a folder of any depth.

A CSV knows no types, so each of its cells is read as the text that it is; `layout` makes a
number of it where the column is one of numbers. Only an empty cell is missing, quoted or not: `NA`,
`null` and `None` are texts like any other.

Columns that stand in the names of folders (`country=DE`, as Spark, Hive and DuckDB leave them) are
columns too, of texts. Where a file has such a column itself, the file is believed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from bakehouse_schemas.errors import InvalidHistory

MISSING_IN_A_NAME = "__HIVE_DEFAULT_PARTITION__"  # what Hive and Spark write for null


class Read(NamedTuple):
    """What files hold."""

    table: pa.Table
    notes: tuple[str, ...]  # what a person should know of it, in sentences


def read_files(path: Path) -> Read:
    """The rows of a file, or of all files below a folder, in the order of their paths.

    Files and folders whose names begin with `.` or `_` are left out, as Spark leaves them out.

    Raises:
        InvalidHistory: there is no such file, or one cannot be read.
    """
    files = _files_of(path)
    if len({_is_csv(file) for file in files}) > 1:
        raise InvalidHistory(f"{path} holds both CSV and Parquet files: expected one kind")
    tables: list[pa.Table] = []
    added: dict[str, None] = {}  # columns that come from folders' names, in their order
    believed: dict[str, None] = {}  # those that stand in files as well
    for file in files:
        table = _read(file)
        for name, value in _said_by_folders(path, file).items():
            if name in table.column_names:
                believed[name] = None
            else:
                added[name] = None
                cells = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
                table = table.append_column(name, cells)
        tables.append(table)
    notes = []
    if added:
        notes.append(f"columns that stand in the names of folders: {', '.join(added)}")
    if believed:
        notes.append(
            f"{', '.join(believed)} stand in files and in the names of their folders: the files "
            "were believed"
        )
    try:
        return Read(_together(tables), tuple(notes))
    except pa.ArrowException as error:
        raise InvalidHistory(f"the files of {path} do not fit each other: {error}") from error


def _together(tables: list[pa.Table]) -> pa.Table:
    """All rows, with the columns of all: what one table lacks is missing there."""
    return pa.concat_tables(tables, promote_options="permissive") if len(tables) > 1 else tables[0]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        if not _is_csv(path) and path.suffix != ".parquet":
            raise InvalidHistory(f"{path}: expected a file that ends in .parquet, .csv or .csv.gz")
        return [path]
    found: list[Path] = []
    for folder, below, names in os.walk(path, followlinks=True):
        below[:] = [name for name in below if not _is_left_out(name) or "=" in name]
        found += [Path(folder, name) for name in names if not _is_left_out(name)]
    # for no rows Spark writes a CSV without even a heading
    found = [file for file in found if not (_is_csv(file) and file.stat().st_size == 0)]
    if not found:
        raise InvalidHistory(f"{path} holds no files: expected Parquet or CSV files")
    return sorted(found, key=str)


def _is_left_out(name: str) -> bool:
    return name.startswith((".", "_"))


def _is_csv(file: Path) -> bool:
    return file.name.removesuffix(".gz").endswith(".csv")


def _read(file: Path) -> pa.Table:
    try:
        if not _is_csv(file):
            return _plain(pa.parquet.read_table(file, partitioning=None))
        with pa.csv.open_csv(file) as reader:
            names = reader.schema.names
        if twice := [name for at, name in enumerate(names) if name in names[:at]]:
            raise InvalidHistory(f"{file} has the column {twice[0]!r} twice: expected each once")
        options = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
        )
        return pa.csv.read_csv(file, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise InvalidHistory(f"{file} cannot be read: {error}") from error


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, which pandas makes of categories: other files have texts there."""
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(at, field.name, table.column(at).cast(field.type.value_type))
    return table


def _said_by_folders(path: Path, file: Path) -> dict[str, str | None]:
    """Columns in the names of a file's folders, the outermost first.

    Of the folders above `path` too, as far as they are such names without a gap: of
    `logs/day=1/country=DE`, named by a person, both.
    """
    said: list[tuple[str, str | None]] = []
    inside = path.absolute()
    for folder in file.absolute().parents:
        name, equals, value = folder.name.partition("=")
        if name and equals:
            text = unquote(value)
            said.append((unquote(name), None if text in ("", MISSING_IN_A_NAME) else text))
        elif not folder.is_relative_to(inside) or folder == inside:
            break
    return dict(reversed(said))
