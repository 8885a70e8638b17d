"""Which traffic something in a catalogue is about: kinds, radio access, places, and times of the week."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.catalogue_amounts import CatalogueId
from schemas.fields import Category, RatType


class CatalogueModel(BaseModel):
    """What all parts of a catalogue have in common: unknown words are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
"""A local day of the week."""

DayTime = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
"""A local time of day, `HH:MM`; `24:00` is the midnight that ends the day."""


class TimeWindow(CatalogueModel):
    """A stretch of each week in the subscriber's time zone; where the clocks change it is as long as they make it."""

    days: tuple[Weekday, ...] = Field((), description="Days on which it begins; empty = every day.")
    start: DayTime = Field("00:00", description="Local time of its beginning, inclusive.")
    end: DayTime = Field("24:00", description="Local time of its end, exclusive; not after `start` = on the next day.")


Plmn = Annotated[str, Field(pattern=r"^([0-9]{3}|[0-9]{5,6})$")]
"""A country (MCC) or one network of it (MCC and MNC) in digits (TS 23.003 clause 2.2)."""

Dnn = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]
"""A data network (TS 23.003 clause 9A); its network identifier counts, not the operator's part `.mnc..mcc...gprs`."""


class Zone(CatalogueModel):
    """Where a subscriber roams: countries and networks that a tariff treats alike. Traffic is in at most one zone.

    A network that is listed itself belongs to the zone that lists it, else to the one that lists its country, else to
    the zone with `rest`, else to the home zone. Traffic whose network is not known is at home.
    """

    id: CatalogueId = Field(description="Unique among zones.")
    name: str = Field("", max_length=80, description="Name for people.")
    plmns: tuple[Plmn, ...] = Field((), description="Countries (`262`) and networks (`26201`); each in one zone only.")
    home: bool = Field(False, description="The home zone; one at most.")
    rest: bool = Field(False, description="The zone of every network that no zone lists; one at most, and not home.")


class Scope(CatalogueModel):
    """Which traffic an allowance or a rule is about. An empty list means any; all lists must agree."""

    applications: tuple[CatalogueId, ...] = Field((), description="Application ids; empty = any.")
    categories: tuple[Category, ...] = Field((), description="OTT categories; empty = any.")
    services: tuple[str, ...] = Field((), description="Services inside an application, e.g. only `call`.")
    rat_types: tuple[RatType, ...] = Field((), description="Radio access technologies; empty = any.")
    windows: tuple[TimeWindow, ...] = Field((), description="When; the traffic is in one of them; empty = always.")
    zones: tuple[CatalogueId, ...] = Field((), description="Zones of the serving network; empty = anywhere.")
    dnns: tuple[Dnn, ...] = Field((), description="Data networks, whatever the case of letters; empty = any.")

    def specificity(self) -> int:
        """3 application, 2 category, 1 any: how narrow the scope is; the waterfall draws the narrowest first."""
        return 3 if self.applications else 2 if self.categories else 1
