"""Numbers and names that no sane centre says: each is a wrong answer, and the lane goes on."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.errors import CenterUnavailable, ParameterInvalid
from gateway.params import ListDamaged, read_package
from gateway.records import FareRequest
from gateway.statuslist.archive import Archive
from gateway.statuslist.writer import write_list
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict
from gateway.sync.download import Downloads, ParameterShelf
from gateway.sync.heartbeat import Heartbeats
from gateway.sync.lists import StatusLists
from gateway.sync.outbox import Outbox
from gateway.sync.tables import FareTables
from gateway.tally import Statement
from gateway.units import COUNT_MAX, FEN_MAX, iso
from tests.sync.rig import DEMO, TOKEN, HurriedClock, record, save
from tests.sync.test_center import server

NUMBERS = [-(2**64), -(2**63), -1, 0, 2**31, 2**32, *(2**62 + n for n in (-1, 0, 1))]
NUMBERS += [2**63 - 1, 2**63, 2**64 - 1, 10**30, 10**4299]
TEXTS = ["", "..", "../../evil", "/etc/evil", "a/b", "a\x00b", "版本", "9" * 5000]
MOMENTS = ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+08:00", "2200-01-01T00:00:00Z", "soon"]
MOMENTS += ["2026-01-01T00:00:00", "1969-12-31T00:00:00Z", "+292278994-08-17T07:12:55Z"]
ODD: list[Any] = [*NUMBERS, *TEXTS, *MOMENTS, None, True, 1.5, [], {}]

ENTRY = {
    "name": "policy", "version": "20990101001", "sha256": "0" * 64, "size": 4, "signature": "00",
    "effective_from": "2025-11-30T00:00:00+08:00", "format": "json", "base": "",
}  # fmt: skip
STATEMENT = {
    "lane": "X03", "of": "day", "name": "2025-11-21", "first_seq": 1, "last_seq": 2, "count": 2,
    "stubs": 0, "sum_fen": 2, "kinds": [], "chain_head": "", "digest": "",
}  # fmt: skip
QUESTION = FareRequest(
    passage_id="p", pass_id="p", entry_hex="62010A12", exit_hex="62010B31", vehicle_type=1,
    vehicle_class=0, axle_count=2, entry_time="", plate="", plate_colour=0, kind=4,
)  # fmt: skip


class Oracle(CenterClient):
    """Says whatever it is told to, as it would come over the line."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.told: Any = None
        self.head: dict[str, str] = {}

    async def _send(self, method: str, path: str, **_: Any) -> tuple[int, bytes, dict[str, str]]:
        if path.startswith("/v1/parameters/"):
            return 200, b"{}  ", {}
        return 404 if method == "HEAD" else 200, json.dumps(self.told).encode(), self.head

    async def pieces(self, *_: Any) -> tuple[int, AsyncGenerator[bytes, None]]:
        async def none() -> AsyncGenerator[bytes, None]:
            yield b"{}  "

        return 0, none()


@pytest.fixture
def oracle(clock: HurriedClock) -> Oracle:
    return Oracle("http://127.0.0.1:9", "", clock)


@pytest.mark.parametrize("field", ["high_water", "at_ms", "lane"])
async def test_a_heartbeats_answer_ends_nothing(
    store: Store, clock: HurriedClock, oracle: Oracle, field: str
) -> None:
    outbox = Outbox(store, oracle, ["X03"], clock)
    heartbeats = Heartbeats(oracle, outbox, ["X03"], clock)
    for odd in ODD:
        oracle.told = {"high_water": 0, "at_ms": 1, field: odd}
        with suppress(CenterUnavailable):
            await heartbeats.beat("X03")
    offset_ms = heartbeats.clock_offset_ms or 0
    iso(clock.now_ms() + offset_ms)  # the time it believes the centre to have can be told


@pytest.mark.parametrize("field", ["high_water", "seq", "id", "verdict", "reason"])
async def test_an_answer_to_records_ends_nothing_and_settles_nothing_by_itself(
    store: Store, clock: HurriedClock, oracle: Oracle, field: str
) -> None:
    await save(store, 1)
    outbox = Outbox(store, oracle, ["X03"], clock)
    for odd in ODD:
        said = {"seq": 1, "id": record(1).id, "verdict": "retry", "reason": "", field: odd}
        oracle.told = {"verdicts": [said], "high_water": odd if field == "high_water" else 0}
        with suppress(CenterUnavailable):
            await outbox.drain()
    assert await store.rows("SELECT 1 FROM delivery") == []


@pytest.mark.parametrize("field", ENTRY)
async def test_a_line_of_the_manifest_is_left_out_and_the_others_are_fetched(
    store: Store, clock: HurriedClock, oracle: Oracle, tmp_path: Path, field: str
) -> None:
    box = tmp_path / "box"
    archive, fares = Archive(box / "lists", lambda: None), FareTables(box / "fares", None)
    shelf = ParameterShelf(store, clock, DEMO, None, lists=archive, fares=fares)
    await shelf.load()
    before, outside = shelf.current().versions, {*tmp_path.iterdir()}
    lists = StatusLists(archive, shelf, oracle, clock)
    downloads = Downloads(shelf, oracle, clock, lists=lists)
    for odd in ODD:
        few = {**ENTRY, field: odd}
        large = {**few, "name": "minimum_fares", "size": 10**6, field: odd}
        listed = {**few, "name": "status_list", "format": "list", field: odd}
        oracle.told = {"packages": [few, large, listed]}
        for fetch in (downloads.fetch, lists.fetch):
            with suppress(CenterUnavailable):
                await fetch()
        assert shelf.ages()
        for path in await asyncio.to_thread(lambda: list(box.rglob("*.*"))):
            assert path.suffix == ".part"
            assert path.stat().st_size <= len(b"{}  ")
    assert shelf.current().versions == before
    assert {*tmp_path.iterdir()} == outside | {box}


async def test_what_cannot_be_believed_of_a_table_is_shown(
    store: Store, clock: HurriedClock, oracle: Oracle
) -> None:
    shelf = ParameterShelf(store, clock, DEMO, None)
    await shelf.load()
    oracle.told = {"packages": [{**ENTRY, "effective_from": MOMENTS[0]}]}
    assert await Downloads(shelf, oracle, clock).fetch() is False
    (told,) = shelf.rejected().items()
    assert told == (f"policy {ENTRY['version']}", "中心的参数目录写得不对：effective_from")
    marks = await store.rows("SELECT value FROM sync_mark WHERE name = 'parameters_confirmed'")
    assert not marks, "nobody knows whether ours is the newest"


async def test_no_more_is_read_of_a_package_than_the_manifest_says(
    store: Store, clock: HurriedClock
) -> None:
    read = [0]

    async def endless(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/parameters":
            return web.json_response({"packages": [ENTRY]})
        answer = web.StreamResponse()
        await answer.prepare(request)
        with suppress(ConnectionError):
            while read[0] < 64 << 20:
                await answer.write(b" " * (64 << 10))
                read[0] += 64 << 10
        return answer

    shelf = ParameterShelf(store, clock, DEMO, None)
    await shelf.load()
    async with server(endless) as url, CenterClient(url, TOKEN, clock) as client:
        assert await Downloads(shelf, client, clock).fetch() is False
    assert list(shelf.rejected().values()) == ["参数 policy 版本 20990101001 比目录所说的长"]
    assert read[0] < 64 << 20


async def test_a_photos_offset_ends_nothing(oracle: Oracle) -> None:
    for odd in ("9" * 5000, "-1", "1e3", "²", "", " 1"):
        oracle.head = {"Upload-Offset": odd}
        with pytest.raises(NotAVerdict):
            await oracle.photo_offset("0" * 64)


@pytest.mark.parametrize("field", ["amount_fen", "fee95_fen", "mileage_m", "version", "split"])
async def test_a_fare_fits_a_card_and_a_journal(oracle: Oracle, field: str) -> None:
    share = {"prov": "62", "pFee": 1, "pPayFee": 1, "pM": 1}
    for odd in [*ODD, [share] * 10_000]:
        oracle.told = {"amount_fen": 1, field: odd}
        with suppress(CenterUnavailable):
            fare = await oracle.fare(QUESTION)
            assert max(fare.amount_fen, fare.fee95_fen or 0, fare.mileage_m) <= FEN_MAX
            assert len(fare.model_dump_json()) < 10_000


@pytest.mark.parametrize("field", STATEMENT)
async def test_a_statement_can_be_kept_and_shown(oracle: Oracle, field: str) -> None:
    for odd in ODD:
        oracle.told = {"ours": {**STATEMENT, field: odd}, "signature": "00"}
        with suppress(CenterUnavailable):
            told = await oracle.reconcile({})
            assert told is not None
            _is_bounded(told.ours)


def _is_bounded(told: Statement) -> None:
    numbers = told.first_seq, told.last_seq, told.count, told.stubs, abs(told.sum_fen)
    assert max(numbers) <= COUNT_MAX


async def test_digests_of_extreme_ranges_are_no_answer(oracle: Oracle) -> None:
    for odd in ODD:
        told = {"first_seq": odd, "last_seq": 2, "digest": ""}
        oracle.told = {"ranges": [told]}
        with suppress(CenterUnavailable):
            assert await oracle.digests("X03", [(1, 2)]) == [""]
            assert odd is True  # which JSON's readers take for 1


@pytest.mark.parametrize("told", [one for one in MOMENTS if one != "2026-01-01T00:00:00"])
def test_no_table_is_of_a_time_that_cannot_be_told(told: str, tmp_path: Path) -> None:
    """Signed or not: everything that is staged is rehearsed and shown."""
    head = {"name": "policy", "version": "1", "effective_from": told, "body": {}}
    with pytest.raises(ParameterInvalid):
        read_package(json.dumps(head).encode())
    with suppress(ValueError):
        at = datetime.fromisoformat(told)
        with pytest.raises(ListDamaged):  # its own head is read back
            write_list(tmp_path / "x.list", [], "1", at, {})
