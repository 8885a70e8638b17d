"""Whether a row of the ledger can be rated again: what the catalogue in force asks for must be known of the row."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from schemas.catalogue import PccRule
from schemas.catalogue_scopes import Scope
from schemas.fields import RatType
from services.engine.circumstances import DOUBTED, Circumstances, read_circumstances
from services.engine.concerns import Concerns, Told
from services.engine.usage import MAIN_BALANCE
from services.rating.database import Connection
from services.rating.repositories import accounts as files
from services.rating.repositories import catalogue as shelf
from services.rating.repositories import readings
from services.rating.repositories.readings import BucketFilter

Row = dict[str, Any]


_PARTS = ("allowances", "money_allowances", "usage_prices")
"""Parts of an offering that have scopes."""


class Rerating:
    """Rows of one account, held against the catalogue in force."""

    def __init__(self, connection: Connection, account_id: str, *, at_ms: int) -> None:
        self._connection = connection
        self._account_id = account_id
        self._at_ms = at_ms
        stored = shelf.current(connection)
        self._newest = stored.version if stored is not None else ""
        self._products = files.products_of(connection, [account_id]).get(account_id, [])
        self._concerns_of: dict[str, Concerns] = {}
        self._wanted: Concerns | None = None

    def obstacle(self, row: Row, movements: Sequence[Row]) -> str | None:
        """Why the row cannot be rated again, with the next step; None when it can."""
        gone = self._gone_money(row, movements)
        if gone is not None:
            return f"was paid by money of {gone!r}, which is gone; credit the account instead"
        several = self._several(row)
        if several is not None:
            return several
        told = self._told(row)
        if row["circumstances"] is None and told.anything:
            return self._obstacle_of_old(row, movements)
        met = read_circumstances(row["circumstances"]) if row["circumstances"] else Circumstances()
        if met.confidence == DOUBTED:
            return "was not believed, and is booked as unknown; void or refund it"
        unknown = self._unknown(met, row, told)
        if unknown is None:
            return None
        rule = (
            f"catalogue {self._newest!r} asks for its {unknown}, which {row['catalogue_version']!r} did not tell apart"
        )
        return f"cannot be rated again: {rule}; void or refund it"

    def _several(self, row: Row) -> str | None:
        """Why not, where the row holds more than it tells apart: flows that time pays for, prices of one name."""
        if row["record_count"] > 1 and self._is_timed(row):
            several = f"holds {row['record_count']} flows and not how long each of them was"
            return f"{several}, and catalogue {self._newest!r} pays for them by time; void or refund it"
        sellers = self._sellers(row)
        if len(sellers) < 2:
            return None
        several = f"was sold at price {row['price_id']!r}, which {' and '.join(sellers)} have"
        return f"{several}, and does not say whose it was; refund it"

    def rat_type(self, row: Row, movements: Sequence[Row]) -> RatType | None:
        """A radio access that all scopes agree with by which a row was rated that does not say how it came."""
        lists = [scope["rat_types"] for scope in self._scopes(row, movements) if scope.get("rat_types")]
        common = [rat for rat in lists[0] if all(rat in others for others in lists)] if lists else []
        return common[0] if common and row["circumstances"] is None else None

    def _gone_money(self, row: Row, movements: Sequence[Row]) -> str | None:
        """The granted money that paid and has ended, with its term where its product is renewed."""
        paid = {item["bucket_id"] for item in movements if item["unit"] == "micros"} - {MAIN_BALANCE}
        if not paid:
            return None
        wanted = BucketFilter(account_id=self._account_id, unit="micros", alive_at_ms=self._at_ms)
        alive = readings.find_buckets(self._connection, wanted, offset=0, limit=1_000).rows
        kept = {bucket["bucket_id"] for bucket in alive if not self._is_of_later_term(bucket, row)}
        return min(paid - kept, default=None)

    def _is_of_later_term(self, bucket: Row, row: Row) -> bool:
        offering = shelf.find(self._connection, self._newest, "offering", bucket["offering_id"] or "") or {}
        return bool(offering.get("renewal") == "automatic" and (bucket["valid_from_ms"] or 0) > row["start_ms"])

    def _is_timed(self, row: Row) -> bool:
        """Whether an allowance of seconds that the account may have now reaches what the row was booked as."""
        return any(
            allowance.get("seconds") is not None and _may_reach(allowance.get("scope", {}), row)
            for _, body in self._brought(self._newest)
            for allowance in body.get("allowances", ())
        )

    def _sellers(self, row: Row) -> list[str]:
        """The offerings whose price a row may have been sold at; rows of before 1.2 name the price only."""
        if row["price_id"] is None or row["price_offering_id"] is not None:
            return []
        return sorted(
            body["id"]
            for kind, body in self._brought(row["catalogue_version"])
            if kind == "offering" and any(price["id"] == row["price_id"] for price in body.get("usage_prices", ()))
        )

    def _obstacle_of_old(self, row: Row, movements: Sequence[Row]) -> str | None:
        """Why a row cannot be rated again that was booked before rows said how their traffic came."""
        scopes = self._scopes(row, movements)
        if any(scope.get("rat_types") for scope in scopes) and self.rat_type(row, movements) is None:
            return "was rated by several kinds of radio access; void or refund it"
        if any(scope.get("zones") or scope.get("dnns") for scope in scopes):
            return "was rated by its zone or data network, and does not say which; void or refund it"
        return None

    def _unknown(self, met: Circumstances, row: Row, told: Told) -> str | None:
        """The first thing that the offerings of the account ask for now and that the row does not tell."""
        wanted = self._wanted_now().of(*_kind(row))
        if not met.rat_type and wanted.rat_types - told.rat_types:
            return "radio access"
        if wanted.zones and not (told.zones and self._zones(row["catalogue_version"]) == self._zones(self._newest)):
            return "zone"
        if not met.dnn and wanted.dnns - told.dnns:
            return "data network"
        return "congestion level" if wanted.levels - told.levels else None

    def _wanted_now(self) -> Concerns:
        if self._wanted is None:
            self._wanted = _concerns(self._brought(self._newest))
        return self._wanted

    def _told(self, row: Row) -> Told:
        """What the row's own catalogue told apart of traffic of its kind."""
        version = row["catalogue_version"]
        if version not in self._concerns_of:
            bodies = [(item.kind, item.body) for item in shelf.objects(self._connection, version)]
            self._concerns_of[version] = _concerns(bodies)
        return self._concerns_of[version].of(*_kind(row))

    def _zones(self, version: str) -> list[Row]:
        return [item.body for item in shelf.objects(self._connection, version, "zone")]

    def _brought(self, version: str) -> Iterator[tuple[str, Row]]:
        """The offerings of the account in a version, and their rules, each with its kind."""
        for offering_id in {product["offering_id"] for product in self._products}:
            offering = shelf.find(self._connection, version, "offering", offering_id) or {}
            yield "offering", offering
            rules = (shelf.find(self._connection, version, "rule", rule_id) for rule_id in offering.get("rules", ()))
            yield from (("rule", rule) for rule in rules if rule is not None)

    def _scopes(self, row: Row, movements: Sequence[Row]) -> list[Row]:
        """The scopes, as in the catalogue files, of the row's rule, of the allowances drawn, and of its price."""
        version = row["catalogue_version"]
        found = [shelf.find(self._connection, version, "rule", row["rule_id"] or "")]
        drawn = {item["bucket_id"] for item in movements}
        for product in self._products:
            offering = shelf.find(self._connection, version, "offering", product["offering_id"]) or {}
            name = product["product_id"]
            found += [item for item in offering.get("allowances", ()) if f"{name}/{item['id']}" in drawn]
            found += [item for item in offering.get("usage_prices", ()) if item["id"] == row["price_id"]]
        return [item.get("scope", {}) for item in found if item]


def _concerns(bodies: Iterable[tuple[str, Row]]) -> Concerns:
    """What objects of a catalogue, each with its kind, tell apart."""
    found = list(bodies)
    rules = [PccRule.model_validate(body) for kind, body in found if kind == "rule"]
    parts = [part for kind, body in found if kind == "offering" for name in _PARTS for part in body.get(name, ())]
    return Concerns(rules, [Scope.model_validate(part["scope"]) for part in parts if part.get("scope")])


def _kind(row: Row) -> tuple[str | None, str, str | None]:
    return row["application"], row["category"], row["service"]


def _may_reach(scope: Row, row: Row) -> bool:
    names = {"applications": "application", "categories": "category", "services": "service"}
    return all(row[column] in scope[name] for name, column in names.items() if scope.get(name))
