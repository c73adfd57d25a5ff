"""Promises of the code's own shape: imports point down, nothing is undocumented, nothing grows too long."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xmodal_cli"
# Floors from the ground up; folders of one floor never import each other.
FLOORS = (
    {"errors", "files"},
    {"web"},
    {"metrics"},
    {"modalities", "data", "runs", "models"},
    {"transfer", "datasets"},
    {"detect"},
    {"classify", "export"},
    {"pictures"},
    {"studies"},
    {"cli"},
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
NO_TORCH = ("modalities", "metrics")
LONGEST_FILE, LONGEST_FUNCTION = 450, 60
FORBIDDEN_NAMES = ("utils", "util", "helpers", "helper", "common", "manager", "misc")

MODULES = sorted(PACKAGE.rglob("*.py"))
NAMED = [path.relative_to(PACKAGE).as_posix() for path in MODULES]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def folder_of(path: Path) -> str:
    """The folder below the package, or the name of a module that lies beside the folders."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Full names of everything a module imports, anywhere in it; names taken from a module are appended to it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=NAMED)
def test_imports_point_down(path: Path) -> None:
    own = folder_of(path)
    if own in ("__init__", "__main__"):
        return
    for name in imported(parsed(path)):
        parts = name.split(".")
        if parts[0] != "xmodal_cli" or len(parts) < 2 or parts[1].startswith("_"):
            continue
        assert parts[1] in LEVEL, f"{name}: which floor is {parts[1]} on?"
        assert parts[1] == own or LEVEL[parts[1]] < LEVEL[own], f"{own} imports {name}"


@pytest.mark.parametrize("folder", NO_TORCH)
def test_torch_stays_out_of(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        if path.name != "hha_torch.py":
            assert not {name for name in imported(parsed(path)) if name.split(".")[0] in ("torch", "torchvision")}


def test_only_the_screen_prints_or_exits() -> None:
    for path in MODULES:
        if folder_of(path) in ("cli", "__main__"):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "exit", "quit", "sys.exit"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=NAMED)
def test_everything_public_is_documented(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree), "a file opens with what it holds"
    for node, public in definitions(tree):
        assert not public or ast.get_docstring(node), f"{path}:{node.lineno} {node.name} has no docstring"


def definitions(tree: ast.Module) -> list[tuple[ast.FunctionDef | ast.ClassDef, bool]]:
    """Functions and classes at the top of a module and members of its classes, and whether each is public."""
    found: list[tuple[ast.FunctionDef | ast.ClassDef, bool]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            public = not node.name.startswith("_")
            found.append((node, public))
            if isinstance(node, ast.ClassDef):
                members = [member for member in node.body if isinstance(member, ast.FunctionDef)]
                found += [
                    (member, public and not member.name.startswith("_") and member.name != "forward")
                    for member in members
                ]
    return found


@pytest.mark.parametrize("path", MODULES, ids=NAMED)
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[0].lineno
            # The option list of a command is its signature, not its body.
            first = body if folder_of(path) == "cli" else node.lineno
            length = (node.end_lineno or first) - first + 1
            assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=NAMED)
def test_names_say_what_is_inside(path: Path) -> None:
    assert not set(FORBIDDEN_NAMES) & set(path.with_suffix("").parts[len(PACKAGE.parts) :])


def test_nothing_was_left_undone() -> None:
    for path in MODULES:
        text = path.read_text()
        assert not any(word in text for word in ("TODO", "FIXME", "XXX", "NotImplementedError()")), path
