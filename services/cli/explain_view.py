"""An explanation as people read it: a label and a sentence a line, on 80 columns."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.units import format_octets
from services.rating.documents import Document

WIDTH = 80
"""Columns when the output is no terminal; a wider terminal gets no longer lines than MAX_WIDTH."""

MAX_WIDTH = 120

_PARTS = (("charged", "charged"), ("free", "free"), ("sponsored", "sponsored"), ("blocked", "blocked"),
          ("notCharged", "not charged"))  # fmt: skip

Line = tuple[str, str]


def print_explanation(document: Document, recognised: Sequence[Line] = (), *, console: Console | None = None) -> None:
    """Print what was decided, which rule did it and why not the others, who paid, and what is near its end.

    `recognised` says how the traffic was recognised, where that is known better than from the row.
    """
    if console is None:
        console = Console(highlight=False)
        console.width = min(console.width, MAX_WIDTH) if console.is_terminal else WIDTH
    console.print(Text(_harmless(document["summary"]), style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    label = ""
    for found, text in _lines(document, recognised):
        table.add_row(Text("" if found == label else found), Text(_harmless(text)))
        label = found
    console.print(table)


def _harmless(text: str) -> str:
    """Text without what would move a terminal's cursor: ids and names may be a stranger's."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _lines(document: Document, recognised: Sequence[Line]) -> Iterator[Line]:
    yield "who", f"subscriber {document['subscriberId']} of account {document['accountId']}"
    yield "when", f"{document['startedAt']} to {document['endedAt']}, rated {document['ratedAt']}"
    if "recordId" in document:
        yield "record", document["recordId"]
    yield "catalogue", document["catalogueVersion"]
    yield from _traffic(document)
    yield from _recognised(document, recognised)
    yield from _rules(document)
    yield from _payers(document)
    for limit in document.get("limits", ()):
        yield "limits", f"{'NEAR  ' if limit['near'] else ''}{limit['text']}"
    for label, name in (("gateway", "gateway"), ("told", "told"), ("notes", "notes"), ("refused", "refusedCommands")):
        for text in document.get(name, ()):
            yield label, text
    if "source" in document:
        source = document["source"]
        offsets = f"{source['firstOffset']} to {source['lastOffset']}"
        yield "source", f"{source['topic']}, partition {source['partition']}, offsets {offsets}"


def _traffic(document: Document) -> Iterator[Line]:
    traffic = document.get("traffic")
    if traffic is None:
        return
    name = f" ({traffic['applicationName']})" if "applicationName" in traffic else ""
    words = [traffic.get("category", ""), f"{traffic['application']}{name}" if "application" in traffic else ""]
    words.append(f"service {traffic['service']}" if "service" in traffic else "")
    own = " - the operator's own service" if traffic.get("ownService") else ""
    yield "traffic", ", ".join(filter(None, words)) + own
    octets = traffic["octets"]
    parts = [f"{format_octets(octets[key])} {word}" for key, word in _PARTS if octets[key]]
    yield "octets", f"{format_octets(octets['total'])}: {', '.join(parts) or 'none'}. {traffic['meaning']}"


def _recognised(document: Document, recognised: Sequence[Line]) -> Iterator[Line]:
    if recognised:
        yield from (("recognised", f"{label}: {text}") for label, text in recognised if label != "catalogue")
    elif "evidence" in document:
        yield "recognised", document["evidence"]["meaning"]


def _rules(document: Document) -> Iterator[Line]:
    rule = document.get("rule")
    if rule is None:
        return
    yield "rule", f"{rule['id']}: {rule['why']}"
    effects = [("gate", "gateStatus"), ("rating group", "ratingGroup"), ("", "qos"), ("redirects to", "redirectUrl"),
               ("steers to", "steering"), ("sponsor", "sponsorId")]  # fmt: skip
    said = [f"{word} {rule[key]}".strip() for word, key in effects if key in rule]
    if said:
        yield "rule", ", ".join(said)
    for loser in document.get("losers", ()):
        yield "not", f"{loser['ruleId']} ({loser['reason'].replace('_', ' ')}): {loser['text']}"


def _payers(document: Document) -> Iterator[Line]:
    for paid in document.get("campaigns", ()):
        yield "campaign", paid["text"]
    for bucket in document.get("buckets", ()):
        yield "bucket", bucket["text"]
    for label in ("price", "connection"):
        price = document.get(label)
        if price is not None:
            yield label, f"{price['amount']} {price.get('currency', '')}: {_named(price)}{price['calculation']}"
            if "rounding" in price:
                yield "rounding", price["rounding"]


def _named(price: Document) -> str:
    return f"{price['priceId']}, " if "priceId" in price else ""
