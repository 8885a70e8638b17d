"""What an offering grants: volume, time, and money."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.catalogue_amounts import CatalogueId, MoneyAmount, OctetAmount, SecondAmount
from schemas.catalogue_scopes import CatalogueModel, Scope
from schemas.units import MS_PER_SECOND, Unit


class Rollover(CatalogueModel):
    """What of a cycle's volume or time stays when the next cycle begins, or of a term's when it is renewed."""

    percent: int = Field(100, ge=1, le=100, description="Share of what is left that stays, cut to whole octets or ms.")
    octets: OctetAmount | None = Field(None, description="Most that may have been kept at any time; null = no limit.")
    cycles: int = Field(1, ge=1, le=12, description="How many further cycles, or terms, it stays for.")
    seconds: SecondAmount | None = Field(None, description="As `octets`, for an allowance of seconds.")

    @property
    def most(self) -> int | None:
        """Most that is kept, in the allowance's unit; None = no limit."""
        return self.octets if self.seconds is None else self.seconds * MS_PER_SECOND


class Allowance(CatalogueModel):
    """Volume, or time, that a product grants per cycle; it becomes a Bucket (TMF654) of the account.

    A flow uses the seconds of its record's interval, `end_ms - start_ms`, to the millisecond: nothing is rounded, so a
    call in two records uses what it uses in one. Flows at the same time use their seconds each. A flow without octets
    uses none.
    """

    id: CatalogueId = Field(description="Unique in the offering.")
    name: str = Field("", max_length=80, description="Name for people.")
    octets: OctetAmount | None = Field(None, description="Granted volume per cycle; null = `seconds` are granted.")
    seconds: SecondAmount | None = Field(None, description="Granted time per cycle; null = `octets` are granted.")
    scope: Scope = Field(Scope(), description="Which traffic may draw from it.")
    priority: int = Field(100, ge=0, description="Among equally narrow buckets: lower is drawn first.")
    validity: Literal["cycle", "once"] = Field("cycle", description="Renewed each billing cycle, or granted once.")
    valid_days: int | None = Field(None, ge=1, le=3660, description="Life of a `once` grant in days; null = product's.")
    per_member_octets: OctetAmount | None = Field(
        None, gt=0, description="Most that one member of the account may draw in a cycle; null = no limit."
    )
    per_member_seconds: SecondAmount | None = Field(
        None, gt=0, description="The same for an allowance of seconds; null = no limit."
    )
    rollover: Rollover | None = Field(
        None, description="For `cycle` allowances, and `once` in terms that are renewed; null = all expires."
    )
    proration: Literal["none", "daily"] = Field(
        "none", description="For `cycle` allowances that serve a part of a cycle: granted whole, or by its local days."
    )
    on_exhausted: Literal["continue", "throttle", "block"] = Field(
        "continue", description="What the rest of the traffic in scope meets: next bucket, free at low rate, or a gate."
    )
    notify_percents: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        (80, 100), description="Thresholds, % used."
    )
    overshoot_tolerance_octets: OctetAmount | None = Field(
        None,
        gt=0,
        description="Most that may pass beyond the end before a gateway acts, which is told ahead; null = no bound.",
    )
    reporting_interval_s: int = Field(
        60, ge=1, le=3_600, description="With a tolerance: how late usage is told at most, the exporters' timeout."
    )

    @property
    def unit(self) -> Unit:
        """What it grants."""
        return "octets" if self.seconds is None else "ms"

    @property
    def amount(self) -> int:
        """How much it grants, in its unit."""
        return (self.octets or 0) if self.seconds is None else self.seconds * MS_PER_SECOND

    @property
    def share(self) -> int | None:
        """Most that one member may draw, in its unit; None = no limit."""
        return self.per_member_octets if self.per_member_seconds is None else self.per_member_seconds * MS_PER_SECOND

    @model_validator(mode="after")
    def _only_cycles_are_divided(self) -> Self:
        if self.proration != "none" and self.validity != "cycle":
            raise ValueError(f"allowance {self.id!r}: proration is for validity 'cycle'; remove one of the two")
        return self

    @model_validator(mode="after")
    def _is_of_one_unit(self) -> Self:
        if (self.octets is None) == (self.seconds is None):
            raise ValueError(f"allowance {self.id!r}: it grants volume or time; give either octets or seconds")
        wrong = _OF_OCTETS if self.octets is None else _OF_SECONDS
        kept = self.rollover.octets if self.octets is None and self.rollover else None
        kept = self.rollover.seconds if self.seconds is None and self.rollover else kept
        named = [name for name in wrong if getattr(self, name) is not None] + ["rollover"] * (kept is not None)
        if named:
            unit = "seconds" if self.octets is None else "octets"
            raise ValueError(f"allowance {self.id!r}: {named[0]} is of another unit than its {unit}; mend or remove it")
        return self


_OF_OCTETS = ("per_member_octets", "overshoot_tolerance_octets")
_OF_SECONDS = ("per_member_seconds",)


class MoneyAllowance(CatalogueModel):
    """Money that a product grants, such as promotional credit; it pays usage prices before the main balance does."""

    id: CatalogueId = Field(description="Unique in the offering, among its other allowances, too.")
    name: str = Field("", max_length=80, description="Name for people.")
    amount: MoneyAmount = Field(gt=0, description="Granted money, per cycle or once.")
    scope: Scope = Field(Scope(), description="The traffic whose prices it pays.")
    priority: int = Field(100, ge=0, description="Among equally narrow ones: lower is spent first.")
    validity: Literal["cycle", "once"] = Field("cycle", description="Renewed each billing cycle, or granted once.")
    valid_days: int | None = Field(None, ge=1, le=3660, description="Life of a `once` grant in days; null = product's.")
