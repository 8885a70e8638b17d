"""Generated parts of pages: what is between the markers is replaced, what is around them is left alone."""

import pytest

from schemas.marked import MarkersMissing, has_markers, replace_marked

PAGE = "# Page\n\nBefore.\n\n<!-- part:begin -->\nold\n<!-- part:end -->\n\nAfter.\n"


def test_only_the_text_between_the_markers_is_replaced() -> None:
    assert replace_marked(PAGE, "part", "new\n") == PAGE.replace("\nold\n", "\n\nnew\n\n")


def test_replacing_twice_is_replacing_once() -> None:
    once = replace_marked(PAGE, "part", "new")
    assert replace_marked(once, "part", "new") == once


@pytest.mark.parametrize(
    "page",
    ["", "<!-- part:begin -->", "<!-- part:end --><!-- part:begin -->", "<!-- other:begin --><!-- other:end -->"],
)
def test_a_page_without_both_markers_in_order_is_refused(page: str) -> None:
    assert not has_markers(page, "part")
    with pytest.raises(MarkersMissing, match="<!-- part:begin --> and <!-- part:end -->"):
        replace_marked(page, "part", "new")
