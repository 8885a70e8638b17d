"""`smartpipe unknowns`: what no application claims, from a file or from running workers."""

import asyncio
import json
from textwrap import dedent

import msgspec
import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.engine.unknowns import UnknownName, UnknownsReport, Volume
from services.runtime.telemetry import Download, OpsApp, new_registry, serve_ops
from tests.policy.records import flow_value

CATALOGUE = """
version: v7
applications:
- {id: chat, name: Chat, category: voip_im, pfds: [{pfd_id: names, domain_names: [chat.com]}]}
- {id: cloud, name: Cloud, category: other, subcategory: cdn,
   pfds: [{pfd_id: names, shared: true, domain_names: [cdn.com]}]}
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "catalogue"
    place.mkdir()
    (place / "base.yaml").write_text(dedent(CATALOGUE))
    return place


@pytest.fixture
def run(folder):
    """Runs the command on flow records, with a small catalogue."""

    def invoke(*arguments, lines=()):
        options = ["--catalogue", str(folder)]
        return CliRunner().invoke(app, ["unknowns", *arguments, *options], input=b"\n".join(lines))

    return invoke


def flow(name, number=0, **changes):
    address = f"203.0.113.{number}"
    return flow_value(**{"server_name": name, "record_id": f"r-{number}", "remote_ip": address, **changes})


FLOWS = [
    flow("www.site.com", 1),
    flow("img.site.com", 2),
    flow("t1.cdn.com", 3),
    flow("chat.com", 4),
    flow(..., 5),
    flow("other.org", 6, exporter_id="probe-2", octets_down=2_999_000),
]


def test_names_are_listed_by_exporter_largest_first(run):
    result = run(lines=FLOWS)
    assert result.stdout.splitlines()[:15] == [
        "without an application: 3.0 MB, 5 flows, catalogue v7",
        "    3.0 MB         3 flows  name_not_listed",
        "   10.0 kB         1 flows  shared_cdn",
        "   10.0 kB         1 flows  no_evidence",
        "",
        "exporter probe-2",
        "    volume    at most    share     flows  name",
        "    3.0 MB              98.6 %         1  other.org",
        "",
        "exporter probe-1",
        "    volume    at most    share     flows  name",
        "   20.0 kB               0.6 %         2  site.com",
        "   10.0 kB               0.3 %         1  t1.cdn.com  (shared)",
        "",
        "To list a name, add it to `domain_names` of its application in the catalogue's files. Then",
    ]
    assert result.exit_code == 0


def test_top_cuts_each_exporter(run):
    text = run("--top", "1", lines=FLOWS).stdout
    assert ("site.com" in text, "other.org" in text, "t1.cdn.com" in text) == (True, True, False)


def test_json_holds_the_same(run):
    found = json.loads(run("--json", lines=FLOWS).stdout)
    assert (found["catalogue_versions"], found["octets"]) == (["v7"], 3_040_000)
    [second, first] = found["exporters"]
    assert second["exporter_id"] == "probe-2"
    assert first["names"][0] == {
        "name": "site.com", "reason": "name_not_listed", "flows": 2, "octets": 20_000, "error_octets": 0,
        "share_ppm": 6578, "note": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("www.pref.bj.cn", "bj.cn  (is a public suffix: strangers register below it; name the domain)"),
        ("me.github.io", "github.io  (strangers put their content below it; name the tenant)"),
        ("intranet", "intranet  (ends in no registered top-level domain; mend its spelling)"),
        ("a b", "(no host name)  (texts that are no host names)"),
    ],
)
def test_a_name_that_cannot_be_listed_as_it_stands_says_why(run, name, note):
    assert note in run(lines=[flow(name)]).stdout


def test_a_file_without_unknowns_says_so(run):
    assert "No name is unlisted." in run(lines=[flow("chat.com")]).stdout


def test_unreadable_lines_are_told_and_counted(run):
    result = run(lines=[*[b"{"] * 12, flow("site.com")])
    assert result.exit_code == 1
    assert result.stderr.count("smartpipe: line ") == 10
    assert "12 lines could not be read" in result.stderr
    assert "site.com" in result.stdout


def test_control_characters_of_an_exporter_do_not_reach_the_terminal(run):
    assert "exporter \\x1b[2Jevil" in run(lines=[flow("site.com", exporter_id="\x1b[2Jevil")]).stdout


def worker_report(name, *, missing=0):
    item = UnknownName(exporter_id="probe-1", name=name, reason="name_not_listed", flows=1, octets=1_000)
    return UnknownsReport(
        catalogue_versions=("v7",), since_ms=1_700_000_000_000, totals={"name_not_listed": Volume(1, 1_000)},
        missing_octets=missing, names=(item,),
    )  # fmt: skip


async def ask(*bodies):
    """What the command says of workers that serve `bodies`."""
    servers = []
    for body in bodies:
        download = Download("application/json", lambda body=body: body)
        worker = OpsApp(registry=new_registry(), ready=dict, downloads={"/unknowns": download})
        servers.append(await serve_ops(worker, "127.0.0.1", 0))
    options = [part for server in servers for part in ("--live", f"127.0.0.1:{server.port}")]
    try:
        return await asyncio.to_thread(CliRunner().invoke, app, ["unknowns", *options])
    finally:
        for server in servers:
            await server.stop()


async def test_running_workers_are_asked_and_added_up():
    reports = (worker_report("site.com"), worker_report("site.com"), worker_report("other.org", missing=500))
    result = await ask(*map(msgspec.json.encode, reports))
    lines = result.stdout.splitlines()
    assert lines[0] == "without an application: 3.0 kB, 3 flows, catalogue v7, since 2023-11-14T22:13:20Z"
    assert "    2.0 kB     2.5 kB   66.6 %         2  site.com" in lines
    assert "    1.0 kB              33.3 %         1  other.org" in lines
    assert "A name that was not counted has at most 500 B at one exporter." in lines


async def test_a_worker_that_answers_something_else_is_named():
    result = await ask(b'{"names": 3}')
    assert "answers something else" in str(result.exception)


def test_a_worker_that_is_down_is_named():
    result = CliRunner().invoke(app, ["unknowns", "--live", "127.0.0.1:1"])
    assert "worker '127.0.0.1:1' does not answer" in str(result.exception)


def test_a_file_and_workers_at_once_are_refused(run):
    result = run("flows.jsonl", "--live", "127.0.0.1:1")
    assert (result.exit_code, "give one" in result.stderr) == (2, True)


def test_an_unknown_format_is_refused(run):
    assert run("--format", "csv").exit_code == 2
