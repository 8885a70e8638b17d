"""Broken input, on both logs: one dead letter each, with the cause, and nothing around it disturbed."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from schemas import topics
from schemas.command import Credit
from schemas.dead_letter import MAX_KEPT_OCTETS, DeadLetter, DeadLetterCause
from schemas.usage import RatedUsage
from services.cli.stage import Stage, now_ms
from services.cli.verify import Survey
from services.ingest.traffic_profile import make_subscribers
from services.runtime.partitioning import partition_of
from tests.pipeline.raw_records import Place, Raw, RawPublisher
from tests.pipeline.stages import (
    Where,
    assert_clean,
    batches,
    dead_letters,
    decisions,
    playing,
    rated_usage,
    subscribe,
    traffic,
)
from tests.waiting import wait_until_async

PEOPLE = 20
GOOD_RECORDS = 400
PARTITIONS = 4
HUGE = 2**70
FIVE_MB = 5_000_000
KNOWN_ID = "decided-before"
DEADLINE_S = 120.0

Fields = dict[str, Any]


class Bad(NamedTuple):
    """A way to break a good record, given as account and fields, and the cause that its dead letter has to name."""

    cause: DeadLetterCause
    make: Callable[[str, Fields], Raw]


def edited(cause: DeadLetterCause, **changes: object) -> Bad:
    """Other values in some fields; `...` takes a field away."""

    def make(account: str, fields: Fields) -> Raw:
        mixed = {**fields, **changes}
        return Raw(account.encode(), encoded({name: value for name, value in mixed.items() if value is not ...}))

    return Bad(cause, make)


def other(cause: DeadLetterCause, make: Callable[[bytes, bytes], Raw]) -> Bad:
    """Something else made of the good record's key and value."""
    return Bad(cause, lambda account, fields: make(account.encode(), encoded(fields)))


def encoded(fields: Fields) -> bytes:
    """JSON; an integer of more than 64 bits, which the encoder refuses, is put in as text."""
    return msgspec.json.encode(
        {
            name: msgspec.Raw(str(value).encode()) if isinstance(value, int) and value >= 2**64 else value
            for name, value in fields.items()
        }
    )


def elsewhere(key: bytes) -> int:
    """A partition that is not the key's own."""
    return (partition_of(key, PARTITIONS) + 1) % PARTITIONS


COMMON: Mapping[str, Bad] = {
    "no JSON": other("not_json", lambda key, _value: Raw(key, b"octets_up=5;octets_down=7")),
    "JSON cut off": other("not_json", lambda key, value: Raw(key, value[: len(value) // 2])),
    "nothing at all": other("not_json", lambda key, _value: Raw(key, b"")),
    "a list": other("invalid_field", lambda key, _value: Raw(key, b'["octets_up", 5]')),
    "nested without end": other("not_json", lambda key, _value: Raw(key, b'{"x":' * 20_000)),
    "no UTF-8": other("bad_utf8", lambda key, value: Raw(key, value.replace(b'"1.0"', b'"\xff\xfe"'))),
    "5 MB": other("too_large", lambda key, value: Raw(key, value[:-1] + b',"x":"' + b"x" * FIVE_MB + b'"}')),
    "unknown version": edited("unknown_version", version="2.0"),
    "no version": edited("invalid_field", version=...),
    "null key": other("null_key", lambda _key, value: Raw(None, value)),
    "null value": other("null_value", lambda key, _value: Raw(key, None)),
    "key is another account": other("key_mismatch", lambda key, value: Raw(b"not-" + key, value)),
    "key is no text": other("key_mismatch", lambda _key, value: Raw(b"\xff\xfe", value)),
    "wrong partition": other("misrouted", lambda key, value: Raw(key, value, elsewhere(key))),
}

FLOWS: Mapping[str, Bad] = {
    **COMMON,
    "wrong type": edited("invalid_field", octets_up="many"),
    "text for a number": edited("invalid_field", octets_up="5"),
    "missing field": edited("invalid_field", record_id=...),
    "negative octets": edited("invalid_field", octets_down=-1),
    "2^70 octets": edited("invalid_field", octets_down=HUGE),
    "end before start": edited("end_before_start", start_ms=2_000, end_ms=1_999),
    "time in nanoseconds": edited("invalid_field", end_ms=now_ms() * 1_000_000),
    "id too long": edited("invalid_field", record_id="x" * 129),
    "half a surrogate pair": other("not_json", lambda key, value: Raw(key, value.replace(b'"bad-', b'"\\ud800bad-'))),
    "known record id": edited("duplicate", record_id=KNOWN_ID),
    "unknown account": Bad(
        "unknown_account", lambda _account, fields: Raw(b"nobody", encoded({**fields, "account_id": "nobody"}))
    ),
}

COMMANDS: Mapping[str, Bad] = {
    **COMMON,
    "wrong type": edited("invalid_field", amount=5),
    "no decimal number": edited("invalid_field", amount="1e3"),
    "missing field": edited("invalid_field", command_id=...),
    "2^70 for a time": edited("invalid_field", issued_at_ms=HUGE),
    "negative sum": edited("refused_command", amount="-5.00"),
    "sum beyond all sums": edited("refused_command", amount=str(HUGE)),
    "unknown command": edited("unknown_command", type="make_rich"),
    "unknown account": Bad(
        "refused_command", lambda _account, fields: Raw(b"nobody", encoded({**fields, "account_id": "nobody"}))
    ),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run has left behind."""

    names: Mapping[Place, str]
    letters: Sequence[DeadLetter]
    good_flows: Sequence[str]
    decided_flows: Sequence[str]
    good_commands: Sequence[str]
    usage: Sequence[RatedUsage]
    published: int
    survey: Survey

    def causes(self, topic: str) -> dict[str, list[str]]:
        """The causes in each broken record's dead letters, by the record's name."""
        found: dict[str, list[str]] = {name: [] for place, name in self.names.items() if place.topic == topic}
        for letter in self.letters:
            place = Place(letter.source_topic, letter.partition, letter.offset)
            if place.topic == topic:
                found.setdefault(self.names.get(place, "a good record"), []).append(letter.cause)
        return found


async def play(where: Where, folder: Path) -> Outcome:
    """Good records in small batches, a broken one after each; then commands, good and broken by turns."""
    async with playing(where, folder, partitions=PARTITIONS) as stage:
        await subscribe(stage, people=PEOPLE)
        async with RawPublisher(stage) as raw:
            good_flows = await mix_flows(stage, raw)
            good_commands = await mix_commands(raw)
        await until_all_are_done(stage, good_commands)
        return Outcome(
            names=raw.names,
            letters=await dead_letters(stage.log),
            good_flows=good_flows,
            decided_flows=[decision.record_id for decision in await decisions(stage.log)],
            good_commands=good_commands,
            usage=await rated_usage(stage.log),
            published=stage.published,
            survey=await stage.survey(),
        )


async def mix_flows(stage: Stage, raw: RawPublisher) -> list[str]:
    """Publish traffic with broken flow records in between; the record ids of the good ones."""
    good = traffic(GOOD_RECORDS, seed=5, people=PEOPLE, duplicate_share=0.0)
    model = {**msgspec.json.decode(good[0].value), "record_id": KNOWN_ID}
    account = (good[0].key or b"").decode()
    await raw.publish(topics.FLOWS, {"the model": Raw(account.encode(), encoded(model))})
    parts = list(batches(good, -(-GOOD_RECORDS // len(FLOWS))))
    for number, (name, bad) in enumerate(FLOWS.items()):
        await stage.publish(parts[number] if number < len(parts) else ())
        await raw.publish(topics.FLOWS, {name: bad.make(account, {**model, "record_id": f"bad-{number}"})})
    stage.published += 1 + len(FLOWS)
    return [KNOWN_ID, *(msgspec.json.decode(record.value)["record_id"] for record in good)]


async def mix_commands(raw: RawPublisher) -> list[str]:
    """Publish credits to one account with broken commands in between; the ids of the good ones."""
    account = make_subscribers(PEOPLE)[-1].account_id
    good: list[str] = []
    for number, (name, bad) in enumerate(COMMANDS.items()):
        await raw.publish(topics.COMMANDS, {name: bad.make(account, a_credit(account, f"bad-{number}"))})
        good.append(f"good-{number}")
        await raw.publish(topics.COMMANDS, {good[-1]: Raw(account.encode(), encoded(a_credit(account, good[-1])))})
    return good


def a_credit(account: str, command_id: str) -> Fields:
    """The fields of a good command."""
    command = Credit(version="1.0", command_id=command_id, account_id=account, issued_at_ms=now_ms(), amount="1.00")
    return {"type": "credit", **msgspec.to_builtins(command)}


async def until_all_are_done(stage: Stage, good_commands: Sequence[str]) -> None:
    """Wait for every flow record, every dead letter, and the last good command, which stands behind all others."""
    await stage.until_decided()

    async def done() -> bool:
        stage.check_worker()
        letters, usage = await dead_letters(stage.log), await rated_usage(stage.log)
        return len(letters) >= len(FLOWS) + len(COMMANDS) and any(row.cause == good_commands[-1] for row in usage)

    await wait_until_async(done, DEADLINE_S, "a dead letter for each broken record, and the last command")


@pytest.fixture(scope="module")
def outcome(where: Where, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run on each log; the claims below look at what it left."""
    return asyncio.run(play(where, tmp_path_factory.mktemp("malformed")))


def test_each_broken_flow_record_gets_one_dead_letter_with_its_cause(outcome: Outcome) -> None:
    expected = {"the model": [], **{name: [bad.cause] for name, bad in FLOWS.items()}}
    assert outcome.causes(topics.FLOWS) == expected


def test_each_broken_command_gets_one_dead_letter_with_its_cause(outcome: Outcome) -> None:
    good: dict[str, list[str]] = {name: [] for name in outcome.good_commands}
    assert outcome.causes(topics.COMMANDS) == {**good, **{name: [bad.cause] for name, bad in COMMANDS.items()}}


def test_every_good_record_around_the_broken_ones_is_decided_once(outcome: Outcome) -> None:
    assert sorted(outcome.decided_flows) == sorted(outcome.good_flows)


def test_every_good_command_around_the_broken_ones_moves_the_balance_once(outcome: Outcome) -> None:
    credits = [row.cause for row in outcome.usage if row.kind == "credit" and row.cause in outcome.good_commands]
    assert credits == outcome.good_commands


def test_a_dead_letter_names_the_rule_and_keeps_the_beginning_of_the_record(outcome: Outcome) -> None:
    for letter in outcome.letters:
        assert letter.detail
        assert letter.value_octets >= len(letter.value or b"")
        assert len(letter.value or b"") <= MAX_KEPT_OCTETS
    (largest,) = (
        letter for letter in outcome.letters if letter.cause == "too_large" and letter.source_topic == topics.FLOWS
    )
    assert largest.value_octets > FIVE_MB


def test_the_books_are_right_with_broken_records_in_between(outcome: Outcome) -> None:
    assert_clean(outcome.survey, published=outcome.published)
