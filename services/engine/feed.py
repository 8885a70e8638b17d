"""The catalogue on the wire: one entry per object, and a version marker that makes a complete set effective.

A reader applies a marker only when the digest in it equals the digest of the entries it holds, so that no mixture of
two versions is ever used, however the topic was compacted or wherever the reader began.
"""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec
from msgspec.structs import replace

from schemas.catalogue import CATALOGUE_VERSION, Catalogue, CatalogueEntry

MARKER_KEY = "version"

KINDS = {
    "application": "applications", "offering": "offerings", "rule": "rules", "campaign": "campaigns", "zone": "zones",
}  # fmt: skip
"""What an entry can be, and the list of the catalogue that holds it."""

_SETTINGS = ("version", "currency", "min_confidence")


def entries_of(catalogue: Catalogue) -> Iterator[CatalogueEntry]:
    """Every object of `catalogue` as an entry, the marker last."""
    entries = [
        CatalogueEntry(version=CATALOGUE_VERSION, entry_key=f"{kind}/{item.id}", kind=kind, body=_body(item))  # type: ignore[arg-type]
        for kind, field in KINDS.items()
        for item in getattr(catalogue, field)
    ]
    yield from entries
    yield marker_of(catalogue.version, catalogue.currency, digest_of(entries), catalogue.min_confidence)


def marker_of(version: str, currency: str, digest: str, min_confidence: int) -> CatalogueEntry:
    """The marker of a version whose entries have this digest."""
    body = {"version": version, "currency": currency, "digest": digest, "min_confidence": min_confidence}
    return CatalogueEntry(version=CATALOGUE_VERSION, entry_key=MARKER_KEY, kind="version", body=body)


def changes(
    old: Iterable[CatalogueEntry], new: Iterable[CatalogueEntry]
) -> Iterator[tuple[str, CatalogueEntry | None]]:
    """What has to be published to turn `old` into `new`: (key, entry), None for a removal; the marker comes last."""
    before = {entry.entry_key: entry for entry in old}
    after = {entry.entry_key: entry for entry in new}
    marker = after.pop(MARKER_KEY)
    before.pop(MARKER_KEY, None)
    yield from ((key, None) for key in sorted(before.keys() - after.keys()))
    yield from ((key, entry) for key, entry in after.items() if before.get(key) != entry)
    yield MARKER_KEY, marker


class CatalogueFeed:
    """Gathers entries as they are read and says when a complete new version is there."""

    def __init__(self) -> None:
        self._entries: dict[str, CatalogueEntry] = {}
        self._marker: CatalogueEntry | None = None
        self._applied: tuple[str, str] | None = None
        self._decoder = msgspec.json.Decoder(CatalogueEntry)

    def offer(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic; None removes the entry. Raises msgspec.ValidationError on a malformed one."""
        name = key.decode()
        if value is None:
            self._entries.pop(name, None)
            return
        entry = self._decoder.decode(value)
        if name == MARKER_KEY:
            self._marker = entry
        else:
            self._entries[name] = entry

    def take(self) -> Catalogue | None:
        """The catalogue, once, when the marker fits the entries and names another version than the last one taken.

        Raises pydantic.ValidationError if the set is complete but breaks a rule of the catalogue.
        """
        marker = self._marker
        if marker is None or (offered := (marker.body["version"], marker.body["digest"])) == self._applied:
            return None
        if digest_of(self._entries.values()) != marker.body["digest"]:
            return None
        self._applied = offered
        return self._assemble(marker)

    def _assemble(self, marker: CatalogueEntry) -> Catalogue:
        parts: dict[str, list[object]] = {field: [] for field in KINDS.values()}
        for key in sorted(self._entries):
            entry = self._entries[key]
            parts[KINDS[entry.kind]].append(entry.body)
        settings = {name: marker.body[name] for name in _SETTINGS if name in marker.body}
        return Catalogue.model_validate({**settings, **parts})


def _body(item: object) -> dict[str, object]:
    return item.model_dump(mode="json", exclude_defaults=True)  # type: ignore[attr-defined,no-any-return]


def digest_of(entries: Iterable[CatalogueEntry]) -> str:
    """What a marker names its entries by: equal for the same entries, whatever their order and minor version."""
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder(order="deterministic")
    for entry in sorted(entries, key=lambda entry: entry.entry_key):
        # The same content has the same digest under every minor version of the contract.
        digest.update(encoder.encode(replace(entry, version="1.0")))
    return digest.hexdigest()
