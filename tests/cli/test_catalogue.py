"""`smartpipe catalogue`: what each command prints, writes, and answers with."""

import json
from textwrap import dedent
from typing import get_args

import pytest
from typer.testing import CliRunner

from schemas.fields import Category
from services.cli.catalogue import Categories, app
from services.rating.catalogue_files import load_catalogue
from services.rating.catalogue_store import CatalogueRefused, publish_catalogue, stored_catalogue
from services.rating.database import migrate, open_database
from services.rating.repositories import outbox
from services.runtime.settings import load_settings

BASE = """
applications:
- {id: chat, name: Chat, category: voip_im, exporter_ids: ["ndpi:Chat"],
   pfds: [{pfd_id: names, domain_names: [chat.com]}]}
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with one small catalogue."""
    place = tmp_path / "catalogue"
    place.mkdir()
    (place / "base.yaml").write_text(dedent(BASE))
    return place


@pytest.fixture
def run(folder):
    """Runs a sub-command on the small catalogue; `plain` leaves the folder away."""

    def invoke(*arguments, plain=False):
        options = [] if plain else ["--catalogue", str(folder)]
        return CliRunner().invoke(app, [*map(str, arguments), *options])

    return invoke


def test_lint_says_nothing_about_the_shipped_catalogue(run):
    result = run("lint", plain=True)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no findings\n")


def test_lint_prints_findings_and_fails(run, folder):
    (folder / "more.yaml").write_text("applications:\n- {id: x, name: X, category: other}\n")
    result = run("lint", folder, plain=True)
    assert result.exit_code == 1
    assert result.stdout == "more.yaml:2: error: no-evidence: nothing detects application 'x'; give it a PFD\n"


def test_lint_prints_what_does_not_load(run, folder):
    (folder / "more.yaml").write_text("applications: [{id: x}]\n")
    result = run("lint", folder, plain=True)
    assert result.exit_code == 1
    assert "more.yaml:1: error: malformed: application 'x': name is None: Field required; add the key" in result.stdout


def test_show_counts_what_the_catalogue_has(run):
    lines = run("show").stdout.splitlines()
    assert lines[2].split() == ["voip_im", "1", "1"]
    assert lines[3].split() == ["all", "1", "1"]


def test_show_prints_an_item_and_where_it_stands(run):
    result = run("show", "chat")
    assert result.stdout.startswith("# application at base.yaml:3\nid: chat\n")


def test_show_names_what_is_not_there(run):
    result = run("show", "gone")
    assert result.exit_code == 2
    assert "'gone'" in result.stderr


def test_diff_prints_changes_and_says_so_in_its_exit_code(run, folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "base.yaml").write_text(dedent(BASE).replace("chat.com", "chat.net"))
    result = run("diff", folder, other, plain=True)
    assert result.exit_code == 1
    assert "+ application chat: domain_names chat.net" in result.stdout
    assert run("diff", folder, folder, plain=True).exit_code == 0


def test_import_writes_a_file_beside_and_reports(run, folder, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "chat").write_text(
        "chat.com\nchat.net\nkeyword:chat\ninclude:more\ninclude:../catalogue/base.yaml\n"
    )
    (tmp_path / "lists" / "more").write_text("full:www.chat.org\n")
    result = run("import", tmp_path / "lists" / "chat", "--format", "v2fly", "--output", folder / "chat_list.yaml")
    assert result.exit_code == 0, result.output
    assert "refused: chat:3: 'keyword:chat'" in result.stderr
    assert "refused: chat:5: '../catalogue/base.yaml' is no list here" in result.stderr
    assert "2 entries brought in, 1 known, 0 conflicts, 2 refused; 0 new applications" in result.stderr
    (chat,) = load_catalogue(folder).applications
    assert chat.pfds[1].domain_names == ("chat.net", "=www.chat.org")
    assert chat.pfds[1].source == "list:v2fly:chat"


def test_import_of_pfds_keeps_the_partner_as_source_and_reports_conflicts(run, folder, tmp_path):
    document = {
        "externalAppId": "film",
        "pfds": {"p": {"pfdId": "p", "domainNames": ["^(.*\\.)?chat\\.com$", "film.com"]}},
    }
    (tmp_path / "t8.json").write_text(json.dumps(document))
    result = run(
        "import", tmp_path / "t8.json", "--format", "pfd", "--source", "partner:film", "--category", "streaming",
        "--provider", "Film Co", "--output", folder / "film.yaml",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "conflict: t8.json: 'chat.com' is an entry of 'chat': left out" in result.stderr
    film = load_catalogue(folder).applications[1]
    assert (film.id, film.category, film.provider) == ("film", "streaming", "Film Co")
    assert [(pfd.source, pfd.domain_names) for pfd in film.pfds] == [("partner:film", ("=film.com",))]


def test_import_of_ndpi_rules_finds_the_application_by_the_exporters_name(run, tmp_path):
    (tmp_path / "protos.txt").write_text('host:"chat.net"@Chat\n')
    result = run("import", tmp_path / "protos.txt", "--format", "ndpi")
    assert result.exit_code == 0, result.output
    assert "additional_pfds:\n- application: chat\n" in result.stdout


def test_import_of_a_hosts_file_needs_to_know_whose_names_they_are(run, tmp_path):
    (tmp_path / "hosts").write_text("0.0.0.0 ads.chat.net\n")
    assert run("import", tmp_path / "hosts", "--format", "hosts").exit_code == 2
    result = run("import", tmp_path / "hosts", "--format", "hosts", "--application", "ads")
    assert result.exit_code == 0, result.output
    assert "=ads.chat.net" in result.stdout


BAD_FILES = [
    ("pfd", b"{", "is not JSON"),
    ("pfd", b"[" * 100_000, "is not JSON"),
    ("pfd", b"\xff", "is not UTF-8 at octet 0"),
    ("ndpi", b"\xff", "is not UTF-8 at octet 0"),
    ("ndpi", b'host:"chat.net"@!!', "no letter or digit"),
]


@pytest.mark.parametrize(("format_", "content", "expected"), BAD_FILES, ids=[expected for *_, expected in BAD_FILES])
def test_import_of_a_broken_file_says_what_is_wrong(run, tmp_path, format_, content, expected):
    (tmp_path / "file").write_bytes(content)
    result = run("import", tmp_path / "file", "--format", format_)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.replace("│", " ").split())


def test_export_writes_t8_json_that_imports_to_nothing_new(run, tmp_path):
    result = run("export", "--output", tmp_path / "t8.json")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "t8.json").read_text())
    assert document["pfdDatas"]["chat"]["pfds"]["names"]["domainNames"] == ["^(.*\\.)?chat\\.com$"]
    result = run("import", tmp_path / "t8.json", "--format", "pfd")
    assert "0 entries brought in, 1 known" in result.stderr


def test_export_names_an_application_that_is_not_there(run):
    result = run("export", "--application", "gone")
    assert result.exit_code == 2
    assert "'gone'" in result.stderr


def test_the_command_line_knows_every_category():
    assert {member.value for member in Categories} == set(get_args(Category))


@pytest.fixture
def database(tmp_path):
    """A rating database with tables and nothing in it."""
    engine = open_database(load_settings(data_dir=str(tmp_path / "data")))
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def publish(folder, tmp_path, database):
    """Publishes the small catalogue."""

    def invoke(*arguments, answer=None):
        options = ["--data-dir", str(tmp_path / "data")]
        return CliRunner().invoke(app, ["publish", str(folder), *arguments, *options], input=answer)

    return invoke


def waiting(database):
    return [record.key for record in outbox.oldest(database)]


def test_publish_puts_a_first_version_in_force_and_into_the_outbox(publish, folder, database):
    result = publish("--yes")
    version = load_catalogue(folder).version
    first, second = result.stdout.splitlines()
    assert first.startswith(f"first version {version}: 1 applications, 0 offerings")
    assert second == f"version {version} is in force here; 1 objects are on their way to the workers"
    assert (result.exit_code, stored_catalogue(database).version) == (0, version)
    assert waiting(database) == [b"application/chat", b"version"]


def test_publish_shows_what_changes_and_asks(publish, folder, database):
    publish("--yes", "--version", "one")
    (folder / "base.yaml").write_text(dedent(BASE).replace("[chat.com]", "[chat.com, talk.com]"))
    refused = publish("--version", "two", answer="n\n")
    assert "+ application chat: domain_names talk.com" in refused.stdout
    assert "from one to two: 1 changed, 1 added" in refused.stdout
    assert (refused.exit_code, stored_catalogue(database).version) == (0, "one")
    assert publish("--version", "two", answer="y\n").exit_code == 0
    assert stored_catalogue(database).version == "two"


def test_publish_without_an_answer_publishes_nothing(publish, database):
    assert publish(answer="").exit_code == 1
    assert (stored_catalogue(database), waiting(database)) == (None, [])


def test_a_dry_run_publishes_nothing(publish, database):
    result = publish("--dry-run", "--yes")
    assert result.stdout.endswith("nothing was published\n")
    assert (result.exit_code, stored_catalogue(database)) == (0, None)


def test_what_is_in_force_is_not_published_again(publish, database):
    publish("--yes")
    before = waiting(database)
    assert "is in force already" in publish("--yes").stdout
    assert waiting(database) == before


def test_a_catalogue_with_errors_is_not_published(publish, folder, database):
    (folder / "more.yaml").write_text("applications:\n- {id: x, name: X, category: other}\n")
    result = publish("--yes")
    assert result.stdout.startswith("more.yaml:2: error: no-evidence: ")
    assert (result.exit_code, stored_catalogue(database)) == (1, None)


def test_warnings_are_shown_and_do_not_stop_a_publication(publish, folder, database):
    (folder / "more.yaml").write_text("campaigns:\n- {id: c, sponsor_id: s, per_subscriber_octets: 1 GB}\n")
    result = publish("--yes")
    assert "more.yaml:2: warning: campaign-unused: " in result.stdout
    assert (result.exit_code, stored_catalogue(database) is None) == (0, False)


def test_a_version_that_came_between_is_not_overwritten(publish, folder, database, monkeypatch):
    publish("--yes", "--version", "one")
    other = load_catalogue(folder, version="other")

    def confirm(_):
        publish_catalogue(database, other)
        return True

    monkeypatch.setattr("typer.confirm", confirm)
    (folder / "base.yaml").write_text(dedent(BASE).replace("name: Chat", "name: Talk"))
    result = publish("--version", "two")
    assert isinstance(result.exception, CatalogueRefused)
    assert stored_catalogue(database).version == "other"


def test_a_replaced_version_does_not_come_back_under_its_name(publish, folder, database):
    publish("--yes", "--version", "one")
    publish("--yes", "--version", "two")
    assert isinstance(publish("--yes", "--version", "one").exception, CatalogueRefused)
    assert stored_catalogue(database).version == "two"


def test_publish_says_what_a_database_without_tables_needs(folder, tmp_path):
    result = CliRunner().invoke(app, ["publish", str(folder), "--yes", "--data-dir", str(tmp_path / "new")])
    assert "run `smartpipe migrate`" in str(result.exception)
