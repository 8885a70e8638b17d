"""Members' shares in the terms of a renewed product that are over: late usage counts in the term when it happened.

A term that begins brings shares anew. What members had drawn in the one before is put aside under its end, as
`until:<end, ms>:member:<bucket id>:<subscriber id>`, and a total of nothing marks the end of each term, so that usage
of any time finds its own. The shares are forgotten with the grace for late flows, the marks with the cycle.
"""

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from schemas.state import Counter

Counters = tuple[Counter, ...]


def share_id(bucket_id: str, subscriber_id: str) -> str:
    """The counter of what one member has drawn from a bucket in this cycle, and in this term of its product."""
    return f"member:{bucket_id}:{subscriber_id}"


def put_aside(counters: Counters, product_id: str, *, end_ms: int, forget_ms: int) -> Counters:
    """`counters` after a term of the product ended; shares of terms that had ended by `forget_ms` are gone."""
    mine = _shares(product_id)
    kept = [item for item in counters if not item.counter_id.startswith(mine) and not _is_forgotten(item, forget_ms)]
    return (*kept, *_renamed(counters, mine, f"until:{end_ms}:{mine}"), Counter(f"until:{end_ms}:{mine}", 0, 0))


def shares_then(counters: Counters, product_ids: Iterable[str], at_ms: int, *, past: bool) -> Counters:
    """`counters` with the shares of these products as of the term that held `at_ms`, in place of the present ones.

    Where no end of a term is known: in a `past` cycle, the totals are those of its last term; in the present one, those
    of the present term, which are left out.
    """
    for product_id in product_ids:
        mine, then = _shares(product_id), _then(counters, product_id, at_ms)
        if then is not None or not past:
            others = tuple(item for item in counters if not item.counter_id.startswith(mine))
            counters = (*others, *(_renamed(counters, then, mine) if then is not None else ()))
    return counters


def shares_back(before: Counters, view: Counters, product_ids: Iterable[str], at_ms: int, *, past: bool) -> Counters:
    """What `shares_then` made of `before`, in which something has been counted since, turned back."""
    for product_id in product_ids:
        mine, then = _shares(product_id), _then(before, product_id, at_ms)
        if then is not None or not past:
            others = [item for item in view if not item.counter_id.startswith((mine, then or mine))]
            marks = [item for item in before if item.counter_id == then]
            present = [item for item in before if item.counter_id.startswith(mine)]
            view = (*others, *marks, *present, *(_renamed(view, mine, then) if then is not None else ()))
    return view


def share_id_then(
    counters: Counters, bucket_id: str, subscriber_id: str, at_ms: int, renewed: Collection[str]
) -> str | None:
    """The counter that a draw of `at_ms` counts in; None where its term is not known any more."""
    product_id = bucket_id.rpartition("/")[0]
    if product_id not in renewed:
        return share_id(bucket_id, subscriber_id)
    then = _then(counters, product_id, at_ms)
    return None if then is None else then + share_id(bucket_id, subscriber_id).removeprefix(_shares(product_id))


def _shares(product_id: str) -> str:
    return f"member:{product_id}/"


def _then(counters: Counters, product_id: str, at_ms: int) -> str | None:
    """The prefix of the shares of the term that held `at_ms`: of the first that ended after it."""
    mine = _shares(product_id)
    ends = [_end_of(item) for item in counters if item.counter_id.endswith(f":{mine}")]
    end_ms = min((end_ms for end_ms in ends if end_ms > at_ms), default=None)
    return None if end_ms is None else f"until:{end_ms}:{mine}"


def _end_of(counter: Counter) -> int:
    kind, _, rest = counter.counter_id.partition(":")
    return int(rest.partition(":")[0]) if kind == "until" else 0


def _renamed(counters: Counters, prefix: str, other: str) -> Iterable[Counter]:
    for item in counters:
        if item.counter_id.startswith(prefix) and item.counter_id != prefix:
            yield replace(item, counter_id=other + item.counter_id.removeprefix(prefix))


def _is_forgotten(counter: Counter, forget_ms: int) -> bool:
    return counter.octets > 0 and 0 < _end_of(counter) <= forget_ms
