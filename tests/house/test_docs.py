"""The pages for people keep pace with the code: settings, commands, targets, modules, links."""

import importlib
import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from schemas.marked import MarkersMissing
from services.runtime import settings_docs
from services.runtime.settings import PREFIX, TOOL_VARIABLES, Settings
from tests.house.tree import ROOT, name_of, text_files

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TARGET = re.compile(r"^([a-z][a-z0-9-]*):", re.MULTILINE)


def pages() -> list[Path]:
    """What people read first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_in(page: str) -> Iterator[str]:
    """The lines of a page that are code: inline, or in fenced blocks."""
    for found in _CODE.findall(page):
        yield from found.strip("`").splitlines()


def targets_named_in(page: str) -> set[str]:
    """What the page tells people to make."""
    return {name for line in code_in(page) for name in re.findall(r"(?:^|\s|&&)make ([a-z][a-z0-9-]*)", line)}


def commands_named_in(page: str) -> set[tuple[str, ...]]:
    """What the page tells people to run with `smartpipe`: one or two words each.

    The word counts where a command may stand: first, after a pipe, a path or an assignment. `kubectl -n smartpipe` is
    none.
    """
    pattern = re.compile(r"(?:^|[|;&$(/]|-- |[A-Z]=\S* )\s*smartpipe ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
    return {tuple(word for word in words if word) for line in code_in(page) for words in pattern.findall(line)}


def modules_named_in(page: str) -> set[str]:
    """What the page tells people to run with `python -m`."""
    return {name for line in code_in(page) for name in re.findall(r"python3? -m ([a-z_][\w.]*)", line)}


def variables_named_in(text: str) -> set[str]:
    """Environment variables of ours that the text names; `SMARTPIPE_<NAME>` is none, and comment lines are left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("# ")]
    return set(re.findall(rf"\b{PREFIX}[A-Z0-9_]*[A-Z0-9]\b", "\n".join(lines)))


def broken_links(page: Path) -> list[str]:
    """Links of `page` to files that are not there."""
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith(("#", "mailto:"))]
    return [link for link in local if not (page.parent / link).exists()]


def targets() -> set[str]:
    """What the Makefile can make."""
    return set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


def unknown_commands(named: set[tuple[str, ...]]) -> list[str]:
    """Those of `named` that the command line does not know; after a group, the second word counts, too."""
    root = typer.main.get_command(importlib.import_module("services.cli.main").app)
    groups = {name: getattr(command, "commands", {}) for name, command in getattr(root, "commands", {}).items()}
    return sorted(
        " ".join(words)
        for words in named
        if words[0] not in groups or (groups[words[0]] and len(words) > 1 and words[1] not in groups[words[0]])
    )


# --- settings


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The pages that hold the settings table, up to date."""
    (tmp_path / "docs").mkdir()
    for path in ("README.md", "docs/settings.md"):
        shutil.copy(ROOT / path, tmp_path / path)
    settings_docs.main([], tmp_path)
    return tmp_path


def test_the_settings_tables_are_up_to_date() -> None:
    assert settings_docs.main(["--check"]) == 0


def test_a_drifted_settings_table_is_named_with_the_next_step(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = copy / "docs" / "settings.md"
    page.write_text(page.read_text(encoding="utf-8").replace("1 to 1024", "1 to 12"), encoding="utf-8")
    assert settings_docs.main(["--check"], copy) == 1
    said = capsys.readouterr().out
    assert "docs/settings.md: the settings table has drifted" in said
    assert "python -m services.runtime.settings_docs" in said
    settings_docs.main([], copy)
    assert settings_docs.main(["--check"], copy) == 0


def test_a_readme_without_markers_is_left_alone(copy: Path) -> None:
    (copy / "README.md").write_text("# Smartpipe\n", encoding="utf-8")
    assert settings_docs.main(["--check"], copy) == 0
    assert settings_docs.pages(copy).keys() == {"docs/settings.md"}


def test_a_settings_page_without_markers_says_which_to_add(copy: Path) -> None:
    (copy / "docs" / "settings.md").write_text("# Settings\n", encoding="utf-8")
    with pytest.raises(MarkersMissing, match="<!-- settings:begin -->"):
        settings_docs.main(["--check"], copy)


def test_every_setting_is_described_with_kind_default_and_rule() -> None:
    described = {setting.name: setting for setting in settings_docs.settings_docs()}
    assert list(described) == list(Settings.model_fields)
    assert all(setting.about.endswith(".") for setting in described.values())
    waiting = described["transaction_max_wait_ms"]
    assert (waiting.variable, waiting.kind, waiting.default, waiting.rule) == (
        "SMARTPIPE_TRANSACTION_MAX_WAIT_MS",
        "whole number, ms",
        "50",
        "1 to 5000",
    )
    assert described["log"].rule == "`embedded`, `kafka`"
    assert described["group"].rule == "at least 1 character, at most 100 characters"


def test_variables_of_the_developer_tools_are_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert variables_named_in(page) >= TOOL_VARIABLES


def test_no_page_and_no_deployment_names_an_unknown_variable() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | TOOL_VARIABLES
    files = [*pages(), *text_files("deploy"), *(ROOT / name for name in ("Makefile", "Dockerfile", "compose.yaml"))]
    named = {path: variables_named_in(path.read_text(encoding="utf-8")) for path in files if path.is_file()}
    assert {name_of(path): names - known for path, names in named.items() if names - known} == {}


def test_a_misspelt_variable_is_noticed() -> None:
    text = "set `SMARTPIPE_PARTITION` or SMARTPIPE_<NAME>\n  # SMARTPIPE_OLD is no more\n"
    assert variables_named_in(text) == {"SMARTPIPE_PARTITION"}


# --- commands, targets, modules, links


def test_every_make_target_that_a_page_names_exists() -> None:
    named = {name_of(page): targets_named_in(page.read_text(encoding="utf-8")) for page in pages()}
    assert {page: names - targets() for page, names in named.items() if names - targets()} == {}
    assert {"demo", "test"} <= named["README.md"]


def test_an_unknown_make_target_is_noticed() -> None:
    page = "Run `make tea`, or\n```sh\ncd x && make demo\nmake  \n```\nto make sure."
    assert targets_named_in(page) == {"tea", "demo"}
    assert targets_named_in(page) - targets() == {"tea"}


def test_every_command_that_a_page_names_exists() -> None:
    if importlib.util.find_spec("services.cli.main") is None:
        pytest.skip("services/cli/main.py is not there: the commands that README and docs name are UNCHECKED")
    named = {name_of(page): commands_named_in(page.read_text(encoding="utf-8")) for page in pages()}
    assert {page: unknown_commands(words) for page, words in named.items() if unknown_commands(words)} == {}
    assert any(named.values())


def test_an_unknown_command_is_noticed() -> None:
    page = (
        "`smartpipe fly`, `smartpipe flows sing`, `cat x | smartpipe flows publish`, `.venv/bin/smartpipe classify -`,"
        "`SMARTPIPE_LOG=kafka smartpipe policy`, `kubectl -n smartpipe get pods`"
    )
    named = commands_named_in(page)
    assert named == {("fly",), ("flows", "sing"), ("flows", "publish"), ("classify",), ("policy",)}
    assert unknown_commands(named) == ["flows sing", "fly"]


def test_every_command_explains_itself() -> None:
    app = importlib.import_module("services.cli.main").app
    names = [(name,) for name in getattr(typer.main.get_command(app), "commands", {})]
    assert len(names) > 5
    for words in names:
        helped = CliRunner().invoke(app, [*words, "--help"])
        assert helped.exit_code == 0, f"smartpipe {' '.join(words)} --help: {helped.output}"


def test_every_module_that_a_page_runs_exists() -> None:
    named = {module for page in pages() for module in modules_named_in(page.read_text(encoding="utf-8"))}
    assert sorted(module for module in named if importlib.util.find_spec(module) is None) == []
    assert "schemas.generate" in named


def test_a_module_that_is_gone_is_noticed() -> None:
    assert modules_named_in("`python -m schemas.gone --check`") == {"schemas.gone"}
    assert importlib.util.find_spec("schemas.gone") is None


def test_every_link_to_a_file_leads_somewhere() -> None:
    assert {name_of(page): broken_links(page) for page in pages() if broken_links(page)} == {}


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[gone](gone.md#part) [web](https://example.org/x) [here](#here) [self](page.md)", encoding="utf-8")
    assert broken_links(page) == ["gone.md"]
