"""What importing costs, which way imports run, and that the two lists of dependencies agree."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import rag_lab

PACKAGE = Path(rag_lab.__file__).parent
PROJECT = PACKAGE.parent
ORDER = (
    "errors",
    "records",
    "settings",
    "sync",
    "telemetry",
    "corpora",
    "gateway",
    "models",
    "index",
    "retrieval",
    "asking",
    "simulate",
    "evaluation",
    "workbench",
    "cli",
)
HEAVY = ("llama_index", "faiss", "numpy", "pydantic", "scipy", "pandas", "ragas", "openai")
MODULES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
)


def imported_by(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            yield str(node.module)


def test_import_rag_lab_costs_next_to_nothing() -> None:
    assert imported_by("import rag_lab").isdisjoint(HEAVY)


@pytest.mark.parametrize("module", ["rag_lab.errors", "rag_lab.records", "rag_lab.sync"])
def test_the_first_modules_need_nothing(module: str) -> None:
    assert imported_by(f"import {module}").isdisjoint(HEAVY)


@pytest.mark.parametrize("name", rag_lab.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rag_lab, name) is not None
    assert name in dir(rag_lab)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="module 'rag_lab' has no attribute 'ragbag'"):
        rag_lab.ragbag  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        if package != "rag_lab" or not rest:  # the version is all that `rag_lab` itself holds
            continue
        other = rest.partition(".")[0]
        assert ORDER.index(other) <= ORDER.index(own), f"{own} imports {name}"


def test_datasets_is_no_package() -> None:
    assert [*(PROJECT / "datasets").rglob("__init__.py")] == []


def test_environment_yml_agrees_with_pyproject() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text("utf-8"))
    assert environment["name"] == project["name"]
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert plain == [f"python{project['requires-python']}", "pip"]
    assert pip == ["-e .[dev]"]
    assert "dev" in project["optional-dependencies"]
