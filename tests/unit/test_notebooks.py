"""The notebooks say what their sources say, and run from their first cell to their last."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest

from applications.notebooks.make import FOLDER, names, run, unrun

PATHS = re.compile(r"/(home|root|tmp|usr|work|Users|opt)/|[A-Z]:\\\\")
TIMES = re.compile(r"\d{1,2}:\d{2}:\d{2}|20\d\d-\d\d-\d\d")


def written(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_of_a_page_beside_it() -> None:
    assert set(names()) <= {file.stem for file in FOLDER.parent.glob("*.py")}


@pytest.mark.parametrize("name", names())
def test_a_notebook_holds_the_cells_of_its_source_and_has_been_run(name: str) -> None:
    notebook = written(name)
    nbformat.validate(notebook)
    said = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert said == [(cell.cell_type, cell.source) for cell in unrun(name).cells]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


@pytest.mark.parametrize("name", names())
def test_outputs_are_small_and_say_nothing_of_the_machine_that_made_them(name: str) -> None:
    outputs = [
        one for cell in written(name).cells if cell.cell_type == "code" for one in cell.outputs
    ]
    images = [one for one in outputs if "image/png" in one.get("data", {})]
    assert 1 <= len(images) <= 2
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 150_000
    for one in outputs:
        assert one.output_type in ("stream", "display_data", "execute_result")
        said = one.get("text", "") + one.get("data", {}).get("text/plain", "")
        assert not PATHS.search(said) and not TIMES.search(said) and one.get("name") != "stderr"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", names())
def test_a_notebook_runs_without_an_error(name: str) -> None:
    notebook = run(name)  # a cell that raises raises here
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


def test_text_cells_lose_their_hashes_and_code_cells_nothing() -> None:
    from applications.notebooks.make import cells

    source = '"""Not a cell."""\n\n# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1  # one\n'
    assert [(cell.cell_type, cell.source) for cell in cells(source)] == [
        ("markdown", "# Title\n\ntext"),
        ("code", "x = 1  # one"),
    ]
