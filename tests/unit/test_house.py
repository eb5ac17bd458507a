"""The order of the house: small rooms, small modules, and a docstring on all that is public."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "bakehouse": "bakehouse",
    "bakehouse_learner": "learner",
    "bakehouse_schemas": "schemas",
    "bakehouse_serving": "serving",
    "bakehouse_stream": "stream",
}
MOST_MODULES = 20  # of a folder, `__init__.py` among them
MOST_LINES = 400  # of a module
MOST_README_LINES = 170
ALLOWED_IN_SCHEMAS = {"numpy", "pydantic", "pydantic_core", "opentelemetry"}


def modules() -> list[Path]:
    """Every module of ours that is installed."""
    return sorted(
        path
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder / package).rglob("*.py")
        if "notebooks" not in path.parts  # read by people, and in no wheel
    )


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def public_definitions(path: Path) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Classes and functions of a module that others may use."""
    return [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
    ]


def imported(path: Path) -> set[str]:
    """Top-level names of what a module imports, at its top or inside a function."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names += [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    return {name.split(".")[0] for name in names}


def where(path: Path, what: str) -> str:
    return f"{path.relative_to(ROOT)}: {what}"


def test_a_folder_has_at_most_20_modules() -> None:
    counted: dict[Path, int] = {}
    for path in modules():
        counted[path.parent] = counted.get(path.parent, 0) + 1
    crowded = [
        where(at, f"{count} modules") for at, count in counted.items() if count > MOST_MODULES
    ]
    assert not crowded, "\n".join(crowded)


def test_a_module_has_at_most_400_lines() -> None:
    long = [
        where(path, f"{lines} lines")
        for path in modules()
        if (lines := lines_of(path)) > MOST_LINES
    ]
    assert not long, "\n".join(long)


def test_every_public_class_and_function_says_what_it_is() -> None:
    silent = [
        where(path, node.name)
        for path in modules()
        for node in public_definitions(path)
        if not (ast.get_docstring(node) or "").strip()
    ]
    assert not silent, "\n".join(silent)


def test_every_module_says_what_it_is_about() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert not silent, "\n".join(silent)


def test_no_docstring_sends_its_reader_to_the_module() -> None:
    sent = [
        where(path, node.name)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and (ast.get_docstring(node) or "").startswith("See the module.")
    ]
    assert not sent, "\n".join(sent)


def test_schemas_takes_from_outside_only_what_a_game_server_has_anyway() -> None:
    """The import linter names what is forbidden; here is named what is allowed."""
    own = {"bakehouse_schemas", *sys.stdlib_module_names}
    foreign = [
        where(path, name)
        for path in modules()
        if "bakehouse_schemas" in path.parts
        for name in sorted(imported(path) - own - ALLOWED_IN_SCHEMAS)
    ]
    assert not foreign, "\n".join(foreign)


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert lines_of(ROOT / "README.md") <= MOST_README_LINES


def test_the_workspace_installs_five_top_level_names_and_no_other() -> None:
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    installed: dict[str, str] = {}
    for member in workspace["members"]:
        project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())
        for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
            installed[package] = member
    assert installed == PACKAGES


def test_beside_its_package_a_part_has_no_other_modules() -> None:
    others = [
        str(path.relative_to(ROOT))
        for package, folder in PACKAGES.items()
        for path in (ROOT / folder).rglob("*.py")
        if path.relative_to(ROOT / folder).parts[0] not in (package, ".venv", "build", "dist")
    ]
    assert not others, "\n".join(others)
