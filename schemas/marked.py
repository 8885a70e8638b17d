"""Generated parts of hand-written Markdown: the text between `<!-- name:begin -->` and `<!-- name:end -->`."""


class MarkersMissing(Exception):  # noqa: N818 - a state of affairs
    """The page has no place for the generated part; the message says which markers to add."""


def has_markers(page: str, name: str) -> bool:
    """Whether `page` has both markers of the part `name`, in order."""
    begin, end = _markers(name)
    return -1 < page.find(begin) < page.find(end)


def replace_marked(page: str, name: str, body: str) -> str:
    """`page` with the part `name` replaced by `body`, markers kept, one blank line on either side.

    Raises MarkersMissing when a marker is absent or they are in the wrong order.
    """
    begin, end = _markers(name)
    if not has_markers(page, name):
        raise MarkersMissing(f"no part {name!r} in this page; add the lines {begin} and {end} where it belongs")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{body.strip()}\n\n{end}{after}"


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
