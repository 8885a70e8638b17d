"""`smartpipe classify`: lines in, verdicts out, or their reasons for people."""

import json
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from services.cli.errors import KNOWN_ERRORS
from services.cli.main import app
from tests.policy.records import flow_value

CATALOGUE = """
version: v7
applications:
- {id: chat, name: Chat, provider: Chatter, category: voip_im, pfds: [{pfd_id: names, domain_names: [chat.com]}]}
- {id: tube, name: Tube, provider: Tuber, category: streaming,
   pfds: [{pfd_id: net, prefixes: [192.0.2.0/24], as_numbers: [64500], domain_names: [tube.com]}]}
"""


@pytest.fixture
def run(tmp_path):
    """Runs the command on a small catalogue."""
    folder = tmp_path / "catalogue"
    folder.mkdir()
    (folder / "base.yaml").write_text(dedent(CATALOGUE))

    def invoke(*arguments, lines=()):
        options = ["--catalogue", str(folder)]
        return CliRunner().invoke(app, ["classify", *arguments, *options], input=b"\n".join(lines))

    return invoke


def test_each_line_is_answered_in_its_place(run):
    result = run(lines=[flow_value(server_name="chat.com"), b"{", flow_value(server_name="tube.com")])
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert (first["application"], third["application"]) == ("chat", "tube")
    assert second["error"].startswith("line 2: ")
    assert (result.exit_code, "1 lines could not be read" in result.stderr) == (1, True)


def test_explain_tells_verdict_losers_suspicion_and_version(run):
    result = run("--explain", lines=[flow_value(server_name="www.chat.com", remote_ip="192.0.2.7")])
    assert result.stdout.splitlines() == [
        "line 1: tcp to 192.0.2.7:443, record 'probe-1:42:0' of 'probe-1'",
        "  verdict      voip_im / chat (Chat), confidence 45",
        "  decided      server name 'www.chat.com' (chat.com): chat, 90",
        "  contradicts  address '192.0.2.7' (192.0.2.0/24): tube, 60",
        "  in vain      port tcp/443 is no application's own",
        "  suspect      address '192.0.2.7' points at tube (Tuber): 50 % of the confidence is left",
        "  catalogue    v7",
    ]
    assert result.exit_code == 0


def test_explain_remembers_what_came_before(run):
    lines = [flow_value(server_name="chat.com"), flow_value(server_name=...)]
    assert (
        "  decided      subscriber's recent traffic '203.0.113.7' (same flow): chat, 87"
        in run("--explain", lines=lines).stdout.splitlines()
    )


def test_explain_keeps_unreadable_lines_in_place(run):
    result = run("--explain", lines=[b"[]"])
    assert (result.exit_code, json.loads(result.stdout)["error"][:7]) == (1, "line 1:")


def test_one_name_is_explained_without_a_file(run):
    result = run("--host", "WWW.Chat.com")
    assert result.stdout.splitlines() == [
        "'WWW.Chat.com', tcp to port 443",
        "  verdict      voip_im / chat (Chat), confidence 90",
        "  decided      server name 'www.chat.com' (chat.com): chat, 90",
        "  in vain      port tcp/443 is no application's own",
        "  catalogue    v7",
    ]


@pytest.mark.parametrize(
    ("options", "kind", "suspect"),
    [
        ([], "server_name", False),
        (["--port", "80"], "http_host", False),
        (["--protocol", "udp"], "server_name", False),
        (["--protocol", "17", "--address", "192.0.2.1"], "server_name", True),
        (["--as", "64500"], "server_name", True),
        (["--as", "64501"], "server_name", False),
    ],
)
def test_one_name_as_json(run, options, kind, suspect):
    found = json.loads(run("--host", "chat.com", "--json", *options).stdout)
    assert (found["application"], found["evidence"][0]["kind"], found["suspect"]) == ("chat", kind, suspect)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--protocol", "tls"], "--protocol is 'tls'"),
        (["--protocol", "256"], "a number from 0 to 255"),
        (["--address", "chat.com"], "--address is 'chat.com'"),
        (["--port", "65536"], "Invalid value for"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(run, options, message):
    result = run("--host", "chat.com", *options)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_catalogue_that_no_classifier_takes_ends_with_a_sentence(run, tmp_path):
    greedy = "{id: a, name: A, category: other, pfds: [{pfd_id: u, urls: ['https://(.*\\.)?co\\.uk/']}]}"
    (tmp_path / "catalogue" / "greedy.yaml").write_text(f"applications:\n- {greedy}\n")
    result = run("--host", "www.example.co.uk")
    assert isinstance(result.exception, KNOWN_ERRORS)
    assert "'co.uk' covers a public suffix" in str(result.exception)


def test_an_unknown_format_is_refused(run):
    result = run("--format", "csv", lines=[b""])
    assert (result.exit_code, "use one of flow, ndpi-labelled" in result.stderr) == (2, True)
