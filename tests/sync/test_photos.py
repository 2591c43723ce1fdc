import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import CenterUnavailable
from gateway.store import Store
from gateway.sync import photos
from gateway.sync.center import CenterClient, NotAVerdict, Offset
from gateway.sync.photos import PIECE_BYTES, TOGETHER, PhotoPusher
from tests.sync.rig import HurriedClock, Truth, until

Keep = Callable[[bytes], Awaitable[str]]


@pytest.fixture
def keep(store: Store, tmp_path: Path) -> Keep:
    """A photo as the evidence module leaves it: file and row."""

    async def put(body: bytes) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        (tmp_path / f"{sha256}.jpg").write_bytes(body)
        row = (sha256, len(body), len(body), "camera")
        await store.write(
            lambda db: db.execute("INSERT INTO evidence VALUES (?, ?, ?, ?)", row).rowcount
        )
        return sha256

    return put


class Money:
    owed = False


@pytest.fixture
def pusher(store: Store, client: CenterClient, clock: HurriedClock, tmp_path: Path) -> PhotoPusher:
    def path(sha256: str) -> Path:
        return tmp_path / f"{sha256}.jpg"

    return PhotoPusher(store, client, path, lambda: Money.owed, clock)


async def test_photos_arrive_whole_and_once(
    keep: Keep, pusher: PhotoPusher, tmp_path: Path, truth: Truth
) -> None:
    bodies = [b"\xff\xd8" + bytes([n]) * 600_000 for n in range(3)]
    names = [await keep(body) for body in bodies]
    await pusher.drain()
    for name, body in zip(names, bodies, strict=True):
        assert (tmp_path / "center-evidence" / f"{name}.jpg").read_bytes() == body
    assert await pusher.unsent() == 0


async def test_photos_wait_for_the_money(
    keep: Keep, pusher: PhotoPusher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(b"a photo")
    monkeypatch.setattr(Money, "owed", True)
    await pusher.drain()
    assert await pusher.unsent() == 1
    monkeypatch.setattr(Money, "owed", False)
    await pusher.drain()
    assert await pusher.unsent() == 0


async def test_a_broken_upload_goes_on_where_it_stopped(
    keep: Keep, pusher: PhotoPusher, client: CenterClient, truth: Truth
) -> None:
    body = bytes(range(256)) * 4000
    sha256 = await keep(body)
    await client.send_photo(sha256, 0, body[:300_000], len(body))
    await truth.fault("down")
    with pytest.raises(CenterUnavailable):
        await pusher.drain()
    await truth.fault("none")

    sent: list[int] = []
    real = client.send_photo

    async def watched(sha256: str, first: int, piece: bytes, size: int) -> object:
        sent.append(first)
        return await real(sha256, first, piece, size)

    client.send_photo = watched  # type: ignore[method-assign, assignment]
    await pusher.drain()
    assert sent[0] == 300_000
    assert await pusher.unsent() == 0


async def test_a_damaged_photo_is_left_out_and_holds_nobody_up(
    keep: Keep, pusher: PhotoPusher, tmp_path: Path
) -> None:
    damaged = await keep(b"one")
    missing = await keep(b"three")
    await keep(b"the good one")
    (tmp_path / f"{damaged}.jpg").write_bytes(b"other bytes")
    (tmp_path / f"{missing}.jpg").unlink()
    await pusher.drain()
    assert await pusher.unsent() == 2
    assert len(list((tmp_path / "center-evidence").glob("*.jpg"))) == 1


async def test_photos_wait_as_long_as_a_busy_centre_wishes(
    keep: Keep, pusher: PhotoPusher, truth: Truth, clock: HurriedClock
) -> None:
    await keep(b"\xff\xd8 a photo")
    await truth.fault("busy", seconds=17, count=1)
    running = asyncio.create_task(pusher.run())
    await until(lambda: _none_left(pusher))
    running.cancel()
    assert clock.slept[0] == 17


async def _none_left(pusher: PhotoPusher) -> bool:
    return await pusher.unsent() == 0


async def test_photos_that_went_before_the_line_broke_are_not_sent_again(
    keep: Keep, pusher: PhotoPusher, client: CenterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        await keep(b"\xff\xd8" + bytes([n]) * (10 + n))
    real, sent = client.send_photo, list[str]()

    async def third_breaks(sha256: str, *more: Any) -> Any:
        if len(sent) == 2:
            raise CenterUnavailable("断了")
        sent.append(sha256)
        return await real(sha256, *more)

    monkeypatch.setattr(client, "send_photo", third_breaks)
    with pytest.raises(CenterUnavailable):
        await pusher.drain()
    assert await pusher.unsent() == 3


async def test_small_photos_go_together_and_never_more_than_one_piece_of_bytes(
    keep: Keep, pusher: PhotoPusher, client: CenterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        await keep(b"\xff\xd8" + bytes([n]) * (1000 + n))
    for n in range(4):
        await keep(b"\xff\xd8" + bytes([n]) * (PIECE_BYTES // 2 + n))
    real, on_the_way, seen = client.send_photo, list[int](), list[tuple[int, int]]()

    async def counted(sha256: str, first: int, piece: bytes, size: int) -> Any:
        on_the_way.append(len(piece))
        seen.append((len(on_the_way), sum(on_the_way)))
        answer = await real(sha256, first, piece, size)
        on_the_way.remove(len(piece))
        return answer

    monkeypatch.setattr(client, "send_photo", counted)
    await pusher.drain()
    assert await pusher.unsent() == 0
    assert max(count for count, _ in seen) == TOGETHER
    assert max(size for _, size in seen) <= PIECE_BYTES


async def test_a_photo_that_failed_is_tried_again_after_a_minute(
    keep: Keep,
    pusher: PhotoPusher,
    client: CenterClient,
    clock: HurriedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries, is_ill = [0], True

    async def send(_: str, first: int, piece: bytes, size: int) -> Offset:
        tries[0] += 1
        return Offset(False, 0, hash_differs=True) if is_ill else Offset(True, size)

    monkeypatch.setattr(client, "send_photo", send)
    await keep(b"a photo")
    await pusher.drain()
    failed, is_ill = tries[0], False
    await pusher.drain()
    assert tries[0] == failed
    clock.ahead_ms += 60_000
    await pusher.drain()
    assert await pusher.unsent() == 0


async def test_a_photo_that_gets_no_answer_holds_up_no_other(
    keep: Keep, pusher: PhotoPusher, client: CenterClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, real = await keep(b"1"), client.send_photo
    for size in range(2, 6):
        await keep(b"1" * size)

    async def choosy(sha256: str, *piece: Any) -> Offset:
        if sha256 == first:
            raise NotAVerdict("中心对图片的回答是 413")
        return await real(sha256, *piece)

    monkeypatch.setattr(client, "send_photo", choosy)
    monkeypatch.setattr(photos, "TOGETHER", 1)
    with pytest.raises(CenterUnavailable):
        await pusher.drain()
    await pusher.drain()
    assert await pusher.unsent() == 1


async def test_what_was_gone_through_is_looked_at_again_piece_by_piece(
    keep: Keep, pusher: PhotoPusher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fixture's time of a photo is its length: one of a clock set back comes last."""
    monkeypatch.setattr(photos, "LOOKED_AT", 2)
    names = [await keep(b"1" * size) for size in range(2, 9)]
    await pusher.drain()
    assert await pusher.unsent() == 0
    await keep(b"1")
    lost = "DELETE FROM evidence_delivery WHERE sha256 = ?"
    await store.write(lambda db: db.execute(lost, (names[5],)).rowcount)
    for _ in range(5):
        await pusher.drain()
    assert await pusher.unsent() == 0
