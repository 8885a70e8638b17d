import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.classify_patterns import entry_of_domain, entry_of_url


@pytest.mark.parametrize(
    ("pattern", "entry"),
    [
        ("example.com", "example.com"),
        ("*.example.com", "*.example.com"),
        ("=www.example.com", "=www.example.com"),
        ("tenant-*.cdn.example", "tenant-*.cdn.example"),
        (r"^(.*\.)?example\.com$", "example.com"),
        (r"(.+\.)?example\.com", "example.com"),
        (r"^([^.]+\.)*example\.com$", "example.com"),
        (r"^.*\.example\.com$", "*.example.com"),
        (r"[a-z0-9-]+\.example\.com", "*.example.com"),
        (r"^([^/]*\.)?example\.com$", "example.com"),
        (r"^www\.example\.com$", "=www.example.com"),
        ("münchen.example", "münchen.example"),
    ],
)
def test_usual_patterns_mean_suffixes(pattern, entry):
    assert entry_of_domain(pattern) == entry


@pytest.mark.parametrize(
    "pattern", [r"^(a+)+\.example\.com$", r"^test\d+\.example\.com$", "", r".*", r"(.*\.)?com", "a|b.example", r"^.*$"]
)
def test_other_expressions_are_refused_and_never_run(pattern):
    with pytest.raises(ValueError, match="no shape that is understood"):
        entry_of_domain(pattern)


@pytest.mark.parametrize(
    ("pattern", "entry", "whole_host"),
    [
        ("https://www.example.com", "=www.example.com", True),
        ("http://www.example.com/", "=www.example.com", True),
        ("www.example.com/video/", "=www.example.com", False),
        ("https://*.example.com/video", "*.example.com", False),
        (r"^https?://(.*\.)?example\.com(/\S*)?$", "example.com", True),
        (r"^https?://([^/]+\.)?example\.com/live/.*", "example.com", False),
        (r"^https?://[^/]+\.example\.com/", "*.example.com", True),
        (r"^(http|https)://www\.example\.com/free/.*$", "=www.example.com", False),
        ("https://www.example.com:8443/x", "=www.example.com", False),
    ],
)
def test_url_pattern_counts_by_its_host(pattern, entry, whole_host):
    assert entry_of_url(pattern) == (entry, whole_host)


def test_a_refused_url_is_told_whole():
    with pytest.raises(ValueError, match=re.escape(repr(r"^https?://(a|b)\.example/x"))):
        entry_of_url(r"^https?://(a|b)\.example/x")


@given(st.text(max_size=200))
def test_any_pattern_is_understood_or_refused(pattern):
    for read in (entry_of_domain, entry_of_url):
        with contextlib.suppress(ValueError):
            read(pattern)
