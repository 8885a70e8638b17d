"""What a tariff looks at around a flow: the roaming zone, the data network, the congestion that the network reports.

Most tariffs look at none of it, so that no decision pays for it; see `services.engine.select`. What no part of the
catalogue tells apart is the same here, so that selections can be remembered for few kinds of traffic.
"""

import bisect
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas.catalogue import Catalogue
from schemas.catalogue_scopes import Scope, Zone
from schemas.fields import MAX_CONGESTION
from schemas.flow import FlowRecord

ANY_OTHER = "*"
"""In a list of networks: every network that no longer entry names."""

_OPERATOR_PART = re.compile(r"\.mnc[0-9]{2,3}\.mcc[0-9]{3}\.gprs$")


class Networks(NamedTuple):
    """Serving networks of some zones, as a gateway can look at them: the longest entry that fits decides.

    Entries are MCC and MNC, MCC alone, or `*`. With `wanted` empty, all networks but the unwanted ones are meant.
    """

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()


ALL_NETWORKS = Networks()


class Map:
    """Which zone each serving network is in."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        zones = tuple(zones)
        self._zone_of = {plmn: zone.id for zone in zones for plmn in zone.plmns}
        self._home = next((zone.id for zone in zones if zone.home), None)
        self._rest = next((zone.id for zone in zones if zone.rest), self._home)

    def zone_of(self, plmn: str | None) -> str | None:
        """The zone of a serving network; home where the network is not known, None where there is no such zone."""
        if plmn is None:
            return self._home
        return self._zone_of.get(plmn) or self._zone_of.get(plmn[:3]) or self._rest

    def network_in(self, zone: str) -> str | None:
        """A serving network that lies in `zone`; None, which stands for home, where the zone is not known."""
        if zone == self._home:
            return None
        return next((plmn for plmn, name in self._zone_of.items() if name == zone), ANY_OTHER)

    def networks_of(self, zones: Iterable[str]) -> Networks:
        """The networks of `zones`; all of them where it is empty."""
        wanted = frozenset(zones)
        if not wanted:
            return ALL_NETWORKS
        inside = sorted(plmn for plmn, zone in self._zone_of.items() if zone in wanted)
        outside = sorted(plmn for plmn, zone in self._zone_of.items() if zone not in wanted)
        if self._rest in wanted:
            return Networks((*inside, ANY_OTHER), tuple(outside))
        # A network of another zone matters only inside a country that is meant.
        return Networks(tuple(inside), tuple(plmn for plmn in outside if plmn[:3] in inside))


class Surroundings:
    """The place, the data network and the congestion of a flow, as far as a catalogue tells them apart."""

    def __init__(self, places: Map | None, dnns: frozenset[str], congestion_edges: tuple[int, ...]) -> None:
        self._places = places
        self._dnns = dnns
        self._levels = tuple(_band(congestion_edges, level) for level in range(MAX_CONGESTION + 1))

    def of(self, flow: FlowRecord) -> tuple[str | None, str | None, int]:
        """Zone, data network and congestion level of `flow`.

        A data network that nothing names is None, and so is the zone where nothing asks for it. Of levels that all
        rules treat alike, the lowest stands for all.
        """
        zone = self._places.zone_of(flow.serving_plmn) if self._places else None
        dnn = network_identifier(flow.dnn) if self._dnns and flow.dnn else None
        return zone, dnn if dnn in self._dnns else None, self._levels[flow.congestion_level or 0]

    def network_in(self, zone: str) -> str | None:
        """A serving network that lies in `zone`; None where places are not told apart, or for home."""
        return self._places.network_in(zone) if self._places else None


def surroundings_of(catalogue: Catalogue, places: Map) -> Surroundings | None:
    """What `catalogue` looks at around a flow; None when nothing of it does."""
    scopes = list(scopes_of(catalogue))
    zones = any(scope.zones for scope in scopes)
    dnns = frozenset(network_identifier(dnn) for scope in scopes for dnn in scope.dnns)
    edges = {rule.min_congestion for rule in catalogue.rules} | {rule.max_congestion + 1 for rule in catalogue.rules}
    inner = tuple(sorted(edges - {0, MAX_CONGESTION + 1}))
    return Surroundings(places if zones else None, dnns, inner) if zones or dnns or inner else None


def network_identifier(dnn: str) -> str:
    """A DNN's network identifier in lower case, without the operator's part (TS 23.003 clause 9A)."""
    lower = dnn.lower()
    return _OPERATOR_PART.sub("", lower) if lower.endswith(".gprs") else lower


def scopes_of(catalogue: Catalogue) -> Iterator[Scope]:
    """Every scope of `catalogue`."""
    yield from (rule.scope for rule in catalogue.rules)
    for offering in catalogue.offerings:
        yield from (allowance.scope for allowance in offering.allowances)
        yield from (allowance.scope for allowance in offering.money_allowances)
        yield from (price.scope for price in offering.usage_prices)


def _band(edges: tuple[int, ...], level: int) -> int:
    place = bisect.bisect_right(edges, level)
    return edges[place - 1] if place else 0
