"""The import contracts of pyproject.toml hold, and each of them catches a violation planted into a copy of the tree."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.house.tree import CODE, PRODUCT, ROOT, name_of, python_files

# Contract id -> (the module that is planted, what it imports).
PLANTS: dict[str, tuple[str, str]] = {
    "rooms": ("services.engine.planted", "services.policy"),
    "ground": ("schemas.planted", "services.runtime.log"),
    "ingest": ("services.ingest.planted", "services.engine.feed"),
    "pure": ("services.engine.planted_pure", "random"),
    "tools": ("services.policy.planted_tools", "schemas.generate"),
    "product": ("services.policy.planted_product", "deploy"),
    "kafka": ("services.policy.planted_kafka", "aiokafka"),
    "embedded": ("services.rating.planted_embedded", "sqlite3"),
    "web": ("services.rating.planted_web", "fastapi"),
    "sql": ("services.policy.planted_sql", "sqlalchemy"),
    "metrics": ("services.policy.planted_metrics", "prometheus_client"),
    "console": ("services.rating.planted_console", "rich"),
    "yaml": ("services.rating.planted_yaml", "yaml"),
    "pydantic": ("services.policy.planted_pydantic", "pydantic"),
}

# Homes that are allowed: a contract that refused these too would only look strict.
HOMES = [
    ("services.runtime.kafka_log", "aiokafka"),
    ("services.rating.routes.planted_route", "fastapi"),
    ("services.cli.planted_screen", "rich"),
]


def contracts() -> dict[str, str]:
    """Name of each contract by its id."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {contract["id"]: contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]}


def lint(root: Path) -> tuple[int, str]:
    """Exit code and report of import-linter over the tree at `root`."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    wide = {**os.environ, "COLUMNS": "300"}
    done = subprocess.run(command, cwd=root, env=wide, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def section(report: str, name: str) -> str:
    """What the report says about the broken contract `name`; empty when it is kept."""
    _, _, broken = report.partition("Broken contracts")
    _, found, after = broken.partition(f"\n{name}\n")
    ends = [after.index(f"\n{other}\n") for other in contracts().values() if f"\n{other}\n" in after]
    return after[: min(ends, default=len(after))] if found else ""


def plant(root: Path, module: str, imported: str) -> None:
    """Write a module that imports something."""
    file = root / Path(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'"""Planted."""\n\nimport {imported}\n', encoding="utf-8")


@pytest.fixture(scope="module")
def planted_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One report over one copy of the tree with every violation in it."""
    root = tmp_path_factory.mktemp("planted")
    for folder in PRODUCT:
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for module, imported in [*PLANTS.values(), *HOMES]:
        plant(root, module, imported)
    (root / "services" / "attic").mkdir()
    (root / "services" / "attic" / "__init__.py").write_text("", encoding="utf-8")
    code, report = lint(root)
    assert code == 1, report
    return report


def test_the_tree_keeps_every_contract() -> None:
    code, report = lint(ROOT)
    assert code == 0, report


def test_every_contract_has_a_planted_violation() -> None:
    assert contracts().keys() == PLANTS.keys()


@pytest.mark.parametrize("contract", PLANTS)
def test_a_planted_import_breaks_its_contract(planted_report: str, contract: str) -> None:
    module, imported = PLANTS[contract]
    assert f"{module} -> {imported}" in section(planted_report, contracts()[contract])


def test_a_package_without_a_place_breaks_the_layers(planted_report: str) -> None:
    assert "- services.attic" in section(planted_report, contracts()["rooms"])


@pytest.mark.parametrize(("module", "imported"), HOMES)
def test_a_library_may_be_imported_in_its_home(planted_report: str, module: str, imported: str) -> None:
    assert f"{module} -> {imported}" not in planted_report


def test_every_folder_of_the_product_is_a_package() -> None:
    assert list(folders_without_init(ROOT)) == [], "the import contracts do not see a folder without __init__.py"


def test_a_folder_that_is_no_package_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "services" / "attic").mkdir(parents=True)
    (tmp_path / "services" / "attic" / "trunk.py").write_text("", encoding="utf-8")
    assert folders_without_init(tmp_path) == ["services/attic"]


def test_every_folder_with_python_is_known_to_the_checks() -> None:
    assert strange_folders(ROOT) == []


def test_a_strange_folder_with_python_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "helper.py").write_text("", encoding="utf-8")
    assert strange_folders(tmp_path) == ["scripts"]


def folders_without_init(root: Path) -> list[str]:
    """Folders of the product that hold Python and no `__init__.py`."""
    folders = {file.parent for file in python_files(*PRODUCT, root=root)}
    return sorted(name_of(folder, root) for folder in folders if not (folder / "__init__.py").is_file())


def strange_folders(root: Path) -> list[str]:
    """Top-level folders that hold Python and are not among those that the checks go through."""
    tops = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(top for top in tops if top not in {*CODE, "build", "dist"} and any((root / top).rglob("*.py")))
