"""Patterns of partners to entries of the name table: what TS 29.122 allows in `domainNames` and `urls`.

Both may hold regular expressions there. None is ever run: the usual shapes are read as the suffix that they mean, and
any other is refused, so that no partner can make a look-up slow.
"""

import re

_SUFFIX_HEADS = (r"(.*\.)?", r"(.+\.)?", r"(?:.*\.)?", r"(\S*\.)?", r"([^.]+\.)*", r"([a-z0-9-]+\.)*", r"(?:[^.]+\.)*",
                  r"([^/]*\.)?", r"([^/]+\.)?", r"([^./]+\.)*", r"([^/.]+\.)*")  # fmt: skip
_BELOW_HEADS = (r".*\.", r".+\.", r"\S+\.", r"[^.]+\.", r"([^.]+\.)+", r"[a-z0-9-]+\.",
                r"[^/]+\.", r"[^./]+\.", r"[^/.]+\.")  # fmt: skip
_SCHEMES = ("https?://", "http(s)?://", "(http|https)://", "(https|http)://", "https://", "http://", ".*://")
_NO_PATH = frozenset(("", "/", "/.*", "(/.*)?", r"(/\S*)?", r"/\S*", "/?", "(:[0-9]+)?(/.*)?"))
_LITERAL = re.compile(r"[A-Za-z0-9_-]+(?:\\?\.[A-Za-z0-9_-]+)+\\?\.?")
_PLAIN = re.compile(r"(?:=|\*\.)?[^.\\^$()\[\]|+?{}/:@\s][^\\^$()\[\]|+?{}/:@\s]*")


def entry_of_domain(pattern: str) -> str:
    r"""The table's entry for a domain name or pattern: `^(.*\.)?example\.com$` means `example.com`.

    Raises ValueError, with the shapes that are understood, for any other regular expression.
    """
    return _entry(pattern, pattern)


def _entry(host: str, pattern: str) -> str:
    if _PLAIN.fullmatch(host):
        return host
    text = host.removeprefix("^").removesuffix("$")
    for heads, sign in ((_SUFFIX_HEADS, ""), (_BELOW_HEADS, "*.")):
        for head in heads:
            if text.startswith(head):
                return sign + _literal(text[len(head) :], pattern)
    return "=" + _literal(text, pattern)


def entry_of_url(pattern: str) -> tuple[str, bool]:
    """The table's entry for the host of a URL pattern, and whether the pattern means all of that host.

    A pattern with a path means only a part, which an exporter does not show. Raises ValueError when there is no host.
    """
    text = pattern.removeprefix("^").removesuffix("$")
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            text = text[len(scheme) :]
            break
    host, path = _split(text)
    entry = _entry(host, pattern)
    plain = entry == host and not entry.startswith(("=", "*."))
    return (f"={entry}" if plain else entry), path in _NO_PATH


def _split(text: str) -> tuple[str, str]:
    """Host and the rest: the path begins at the first slash that is no part of the host's own head."""
    head = next((head for head in (*_SUFFIX_HEADS, *_BELOW_HEADS) if text.startswith(head)), "")
    ends = [end for sign in ("/", "(/", "(:", ":") if (end := text.find(sign, len(head))) >= 0]
    end = min(ends, default=len(text))
    return text[:end], text[end:]


def _literal(text: str, pattern: str) -> str:
    if not _LITERAL.fullmatch(text):
        raise ValueError(
            f"pattern {pattern!r} is no domain name and of no shape that is understood; "
            r"write example.com, *.example.com, =www.example.com or ^(.*\.)?example\.com$"
        )
    return text.replace("\\", "")
