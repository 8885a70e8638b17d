"""Text of strangers: what the fuzzer looks for in minutes is tried here in seconds, and no reader is super-linear."""

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.fuzz_targets import SEEDS, TARGETS, growing
from schemas.flow_description import parse_flow_description
from services.engine.classify import Classifier
from services.engine.classify_patterns import entry_of_domain, entry_of_url
from tests.engine.classify_world import APPLICATIONS

OCTETS = st.binary(max_size=300) | st.text(max_size=120).map(str.encode)


@pytest.mark.parametrize("target", TARGETS)
def test_every_seed_passes(target):
    assert SEEDS[target]
    for seed in SEEDS[target]:
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_octets_keep_the_promises(target, data):
    seeds = st.sampled_from(SEEDS[target])
    cuts = st.tuples(seeds, st.integers(0, 60), st.binary(max_size=8), st.integers(0, 9))
    damaged = cuts.map(lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + cut[3] :])
    TARGETS[target](data.draw(OCTETS | damaged))


@settings(deadline=None, max_examples=200)
@given(st.from_regex(r"[(]?[.]?[*+]?[\\]?[.)?]{0,3}([a-z]{1,3}(\\?\.)){0,4}[a-z|(){}+*$:/]{0,6}", fullmatch=True))
def test_what_looks_like_a_pattern_is_understood_or_refused(text):
    TARGETS["pfd"](text.encode())


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["t.me", "X.Example.", "\0", "a" * 300]), st.lists(st.ip_addresses(), max_size=9)),
        max_size=12,
    )
)
def test_any_dns_answers_stay_within_bounds(answers):
    lines = ["\t".join([name, *map(str, addresses)]) for name, addresses in answers]
    TARGETS["dns"]("\n".join(lines).encode())


def test_a_target_that_is_broken_is_noticed(monkeypatch):
    monkeypatch.setattr("bench.fuzz_targets.normalise", lambda text: text)
    with pytest.raises(AssertionError):
        TARGETS["host"](b"Example.COM")


def steps(call, text):
    """Operations of the interpreter, in this code and what it calls; what a C function does inside is not seen."""
    counted = 0

    def trace(frame, event, _):
        nonlocal counted
        frame.f_trace_opcodes = True
        counted += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(text)
    except ValueError:
        pass
    finally:
        sys.settrace(before)
    return counted


@pytest.mark.parametrize("name", growing(64))
def test_twice_the_text_takes_at_most_about_twice_the_steps(name):
    small, large = (steps(*growing(size)[name]) for size in (1_000, 4_000))
    assert large <= 4.5 * small + 200


def test_a_quadratic_reader_would_be_noticed():
    def quadratic(text):
        return sum(1 for one in text for _ in text[: len(text) // 50] if one == "!")

    assert steps(quadratic, "a" * 4_000) > 4.5 * steps(quadratic, "a" * 1_000) + 200


CATASTROPHES = (
    r"^(a+)+$", r"^(.*a){20}$", r"^([a-z]+)*\.example\.com$", r"(x+x+)+y\.example\.com", r"^(\w+\.)+\w+$",
    r"^(?=.*a)(?=.*b).*\.example\.com$", r"(.*)*\.example\.com", r"^((a|aa)+)\.example\.com$",
)  # fmt: skip


@pytest.mark.parametrize("pattern", CATASTROPHES)
@pytest.mark.parametrize("read", [entry_of_domain, entry_of_url])
def test_an_expression_that_could_backtrack_is_refused(read, pattern):
    with pytest.raises(ValueError, match="no shape that is understood"):
        read(pattern)


@pytest.mark.parametrize("text", [*CATASTROPHES, r"^(.*\.)?example\.com$", r"^https?://(.+\.)?example\.com(/.*)?$"])
def test_no_expression_from_outside_is_ever_compiled(monkeypatch, text):
    """A partner's expression would only be slow, or a trap, if a regular expression engine got to see it."""

    def refuse(*_):
        raise AssertionError("a pattern from outside was compiled")

    for name in ("compile", "match", "fullmatch", "search", "sub", "split"):
        monkeypatch.setattr(re, name, refuse)
    for read in (entry_of_domain, entry_of_url):
        try:
            entry = read(text)
        except ValueError:
            continue
        application = APPLICATIONS[0].model_copy(
            update={"pfds": (APPLICATIONS[0].pfds[0].model_copy(update={"domain_names": (text,)}),)}
        )
        if read is entry_of_domain:
            assert Classifier([application], cache_entries=10)._name(f"www.{entry}").target is not None


@pytest.mark.parametrize("protocol", ["256", "0255999", "00017", "1e1", "٦", "-1"])
def test_a_protocol_number_is_read_whole(protocol):
    with pytest.raises(ValueError, match="protocol"):
        parse_flow_description(f"permit out {protocol} from 192.0.2.1 to assigned")
