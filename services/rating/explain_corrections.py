"""What an explanation says of corrections: which rows correct a row, and what came of it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.topics import FLOWS
from schemas.units import format_micros, format_octets
from services.engine.reclassify import CAUSE as RECLASSIFIED

_SAME = ("account_id", "subscriber_id", "source_partition", "rule_id", "application", "treatment")


def is_corrected_by(row: Mapping[str, Any], correction: Mapping[str, Any]) -> bool:
    """Whether `correction` corrects `row`, or one of the flows that are gathered in it."""
    if correction["corrects"] == row["usage_id"]:
        return True
    if correction["cause"] != RECLASSIFIED or correction["kind"] != "refund":
        return False
    if row["kind"] != "usage" or row["corrects"] is not None or row["source_topic"] != FLOWS:
        return False
    if any(row[name] != correction[name] for name in _SAME):
        return False
    partition, _, offset = str(correction["corrects"]).rpartition("-")
    return partition == str(row["source_partition"]) and row["first_offset"] <= int(offset) <= row["last_offset"]


def correction_notes(row: Mapping[str, Any], corrections: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Sentences on what the row corrects, and on what corrects it."""
    if row["corrects"] is not None:
        what = f"decision {row['corrects']}" if row["cause"] == RECLASSIFIED else f"row {row['corrects']}"
        done = "takes back what" if row["kind"] == "refund" else "charges again, as what it was, what was taken back of"
        why = f"; {_WHY}" if row["cause"] == RECLASSIFIED else ""
        yield f"this row {done} {what}{'' if row['kind'] == 'usage' else ' was charged'}{why}"
    taken = [correction for correction in corrections if correction["kind"] == "refund"]
    if taken:
        octets = format_octets(sum(item["octets"] for item in taken))
        money = format_micros(-sum(item["amount_micros"] for item in taken))
        currency = next((item["currency"] for item in taken if item["currency"]), "")
        given = f"{octets} and {money} {currency}".rstrip() if currency else octets
        names = ", ".join(item["usage_id"] for item in corrections)
        yield f"this row has been corrected: {given} were taken back; see {names}"


_WHY = "the flow was charged at the general rate while its evidence was not believed, and a later record cleared it up"
