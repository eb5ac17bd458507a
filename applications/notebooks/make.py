"""Makes the notebooks of their sources: `python -m applications.notebooks.make [NAME…]`.

A notebook's source is the file `<name>.py` beside this one, in cells that begin with `# %%`. It is
run from its first cell to its last, and `<name>.ipynb` holds what it printed and drew: no time of
day, no address, nothing of this machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
HELPERS = ("__init__", "look", "make")
TIMEOUT_S = 600  # of a cell
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def names() -> list[str]:
    """All notebooks that have a source."""
    return sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in HELPERS)


def cells(source: str) -> list[Any]:
    """A source's cells: text where `# %% [markdown]` begins one, else code."""
    made = []
    for at, part in enumerate(source.split("# %%")[1:]):
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            lines = (line.removeprefix("#").removeprefix(" ") for line in body.strip().split("\n"))
            cell = nbformat.v4.new_markdown_cell("\n".join(lines))
        else:
            cell = nbformat.v4.new_code_cell(body.strip())
        cell["id"] = f"cell-{at}"
        made.append(cell)
    return made


def unrun(name: str) -> Any:
    """The notebook, without outputs."""
    notebook = nbformat.v4.new_notebook(cells=cells((FOLDER / f"{name}.py").read_text()))
    notebook.metadata["kernelspec"] = KERNEL
    return notebook


def run(name: str) -> Any:
    """The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = unrun(name)
    root = FOLDER.parents[1]
    # TensorFlow writes to stderr what differs from machine to machine
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(root)}
    client = NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3")
    client.resources["metadata"] = {"path": str(root)}
    client.execute(env=environment)
    for cell in notebook.cells:
        cell.metadata.clear()  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": KERNEL}
    return notebook


def main(chosen: list[str]) -> int:
    """Make these, or all."""
    for name in chosen or names():
        nbformat.write(run(name), FOLDER / f"{name}.ipynb")
        print(f"{name}.ipynb")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
