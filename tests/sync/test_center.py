"""The HTTP client against real servers, proper ones and others."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.errors import CenterUnavailable, FareUnknown
from gateway.records import FareRequest
from gateway.sync.center import CenterClient, Line, NotAVerdict, pick_verdicts
from tests.sync.rig import TOKEN, HurriedClock, Truth

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def question(entry_hex: str = "62010A12", **changes: object) -> FareRequest:
    fields: dict[str, object] = {
        "passage_id": "X03-1",
        "pass_id": "016201204523000012345620251121070000",
        "entry_hex": entry_hex,
        "exit_hex": "62010B31",
        "vehicle_type": 1,
        "vehicle_class": 0,
        "axle_count": 2,
        "entry_time": "2025-11-21T07:00:00+08:00",
        "plate": "甘A12345",
        "plate_colour": 0,
        "kind": 4,
    }
    return FareRequest.model_validate({**fields, **changes})


async def test_a_fare_comes_with_its_etc_price_and_its_split(client: CenterClient) -> None:
    fare = await client.fare(question())
    assert (fare.amount_fen, fare.fee95_fen, fare.kind) == (3900, 3705, 4)
    assert sum(share.p_pay_fee for share in fare.split) == fare.amount_fen
    assert sum(share.p_fee for share in fare.split) == fare.fee95_fen


async def test_a_way_that_cannot_be_restored_is_a_named_reason(client: CenterClient) -> None:
    for kind in (4, 5):
        with pytest.raises(FareUnknown) as no:
            await client.fare(question("62010E05", kind=kind))
        assert no.value.reason == "994"
        assert "门架记录连不成路径（994）" in no.value.detail


async def test_the_ministry_prices_what_leaves_the_province(client: CenterClient) -> None:
    with pytest.raises(FareUnknown, match="在线计费没有结果"):
        await client.fare(question("63010A02", kind=4))
    fare = await client.fare(question("63010A02", kind=5))
    assert fare.kind == 5
    assert [share.prov for share in fare.split] == ["62", "63"]


async def test_a_fare_that_is_late_is_given_up_within_its_deadline(
    truth: Truth, clock: HurriedClock
) -> None:
    await truth.fault("slow", seconds=1, count=1)
    async with CenterClient(truth.url, TOKEN, clock, fare_timeout_s=0.1) as client:
        begun_ms = clock.monotonic_ms()
        with pytest.raises(CenterUnavailable):
            await client.fare(question())
        assert clock.monotonic_ms() - begun_ms < 800


async def test_redirects_are_never_followed(clock: HurriedClock) -> None:
    asked: list[str] = []

    async def portal(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=307, headers={"Location": "/login"})

    async with server(portal) as url, CenterClient(url, "secret", clock) as client:
        with pytest.raises(NotAVerdict):
            await client.submit("X03", [Line(1, "a", b"{}")])
        with pytest.raises(NotAVerdict):
            await client.fare(question())
    assert asked == ["/v1/records", "/v1/fares"]


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "<html>"},
        {"text": "[]"},
        {"text": '{"verdicts": 3}'},
        {"body": b"\x1f\x8b broken", "headers": {"Content-Encoding": "gzip"}},
        {"text": "{}", "status": 201},
        {"text": "", "status": 500},
        {"text": '{"code": "x"}', "status": 404},
    ],
)
async def test_an_answer_without_verdicts_means_later(
    clock: HurriedClock, answer: dict[str, object]
) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(**answer)  # type: ignore[arg-type]

    async with server(odd) as url, CenterClient(url, "", clock) as client:
        with pytest.raises(CenterUnavailable):
            await client.submit("X03", [Line(1, "a", b"{}")])
        assert client.is_online is False


async def test_the_wish_of_a_busy_centre_is_passed_on(clock: HurriedClock) -> None:
    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "12"})

    async with server(busy) as url, CenterClient(url, "", clock) as client:
        with pytest.raises(CenterUnavailable) as no:
            await client.submit("X03", [Line(1, "a", b"{}")])
    assert no.value.retry_after_s == 12


async def test_an_endless_answer_is_cut_off(clock: HurriedClock) -> None:
    async def bomb(_: web.Request) -> web.Response:
        body = gzip.compress(b" " * 20_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async with server(bomb) as url, CenterClient(url, "", clock) as client:
        with pytest.raises(CenterUnavailable):
            await client.submit("X03", [Line(1, "a", b"{}")])


async def test_the_same_lines_are_the_same_bytes_each_time(clock: HurriedClock) -> None:
    bodies: list[tuple[bytes, str]] = []

    async def watch(request: web.Request) -> web.Response:
        bodies.append((await request.read(), request.headers["Content-Digest"]))
        return web.json_response({"verdicts": [], "high_water": 0})

    async with server(watch) as url, CenterClient(url, "", clock) as client:
        for _ in range(2):
            await client.submit("X03", [Line(7, "a", b'{"seq":7}'), Line(9, "b", b'{"seq":9}')])
    assert bodies[0] == bodies[1]


async def test_a_wrong_token_sends_nothing_and_says_later(
    truth: Truth, clock: HurriedClock
) -> None:
    async with CenterClient(truth.url, "wrong", clock) as client:
        with pytest.raises(CenterUnavailable):
            await client.submit("X03", [Line(1, "a", b"{}")])
    assert await truth.seqs() == []


async def test_photos_resume_where_the_centre_says(client: CenterClient) -> None:
    import hashlib

    photo = bytes(range(256)) * 40
    sha256 = hashlib.sha256(photo).hexdigest()
    assert (await client.photo_offset(sha256)).offset == 0
    first = await client.send_photo(sha256, 0, photo[:4000], len(photo))
    assert (first.is_complete, first.offset) == (False, 4000)
    repeated = await client.send_photo(sha256, 0, photo[:4000], len(photo))  # 409
    assert (repeated.is_complete, repeated.offset) == (False, 4000)
    assert (await client.photo_offset(sha256)).offset == 4000
    assert (await client.send_photo(sha256, 4000, photo[4000:], len(photo))).is_complete
    assert (await client.photo_offset(sha256)).is_complete


def test_verdicts_are_matched_not_counted() -> None:
    lines = [Line(1, "a", b""), Line(2, "b", b"")]
    said = pick_verdicts(
        lines,
        [
            {"seq": 2, "id": "b", "verdict": "refused", "reason": "r"},
            {"seq": 1, "id": "b", "verdict": "accepted"},
            None,
        ],
    )
    assert [(v.seq, v.verdict) for v in said] == [(1, "retry"), (2, "refused")]
