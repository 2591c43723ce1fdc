"""Photos: what is taken, what is refused, and what a crash between file and row leaves."""

import asyncio
import errno
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import evidence as module
from gateway.app import gateway
from gateway.config import demo
from gateway.errors import NotFound, PhotoInvalid, StoreUnavailable
from gateway.evidence import SIZE_MAX, Evidence, check_jpeg
from gateway.store import Draft, Store
from gateway.units import SystemClock


def picture(
    width: int = 64, height: int = 48, seed: int = 0, flags: list[int] | None = None
) -> bytes:
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", image, flags or [])[1].tobytes()


JPEG = picture()
SHA256 = hashlib.sha256(JPEG).hexdigest()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


@pytest.fixture
async def evidence(store: Store, tmp_path: Path) -> AsyncIterator[Evidence]:
    evidence = Evidence(store, tmp_path / "evidence", SystemClock())
    yield evidence
    await evidence.close()


def files(tmp_path: Path) -> list[str]:
    folder = tmp_path / "evidence"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


async def rows(store: Store) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await store.rows("SELECT sha256, size, source FROM evidence")]


# ---- listing again ---------------------------------------------------------------------------


async def kept(folder: Path, count: int) -> None:
    """A box that keeps so many photos, and whose database is damaged then."""
    store = await Store.open(folder / "lane.db")
    evidence = Evidence(store, folder / "evidence", SystemClock())
    for number in range(count):
        await evidence.keep(picture(seed=number), "camera")
    await evidence.close()
    await store.close()
    raw = (folder / "lane.db").read_bytes()
    (folder / "lane.db").write_bytes(bytes(4096) + raw[4096:])


async def test_photos_are_listed_again_though_the_start_that_mended_was_cut_off(
    tmp_path: Path,
) -> None:
    await kept(tmp_path, 3)
    store = await Store.open(tmp_path / "lane.db")
    assert store.repairs
    await store.close()  # the power is cut before the photos' turn
    settings = demo(tmp_path, 0, "http://127.0.0.1:9", "t")
    async with gateway(settings, SystemClock()) as box:
        assert not box.store.repairs
        assert len(await rows(box.store)) == 3
        assert not box.store.may_lack_rows


async def test_what_was_listed_before_a_cut_need_not_be_read_again(
    evidence: Evidence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTED_AT_ONCE", 1)
    for number in range(5):
        await evidence.keep(picture(seed=number), "camera")
    await store.write(lambda db: db.execute("DELETE FROM evidence") and None)

    def cut() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await evidence.restore(cut)
    assert len(await rows(store)) == 1
    assert await evidence.restore() == 4
    assert len(await rows(store)) == 5


async def test_a_row_taken_out_of_the_list_is_made_again_after_a_cut(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "lane.db")
    evidence = Evidence(store, tmp_path / "evidence", SystemClock())
    await evidence.keep(JPEG, "camera")
    await evidence.close()
    assert not store.may_lack_rows
    await store.close()
    with closing(sqlite3.connect(tmp_path / "lane.db", isolation_level=None)) as db:
        db.execute("UPDATE seal SET sum = sum + 1 WHERE of = 'evidence'")
    for _ in range(2):
        store = await Store.open(tmp_path / "lane.db")
        assert await rows(store) == []
        assert store.may_lack_rows
        await store.close()


# ---- keeping -------------------------------------------------------------------------------


async def test_photo_is_kept_under_its_own_hash(
    evidence: Evidence, store: Store, tmp_path: Path
) -> None:
    assert not await evidence.has(SHA256)
    assert await evidence.keep(JPEG, "camera") == SHA256
    assert await evidence.has(SHA256)
    assert evidence.path(SHA256).read_bytes() == JPEG
    assert files(tmp_path) == [f"{SHA256[:2]}/{SHA256[2:]}.jpg"]
    assert await rows(store) == [(SHA256, len(JPEG), "camera")]


async def test_same_photo_twice_is_kept_once(
    evidence: Evidence, store: Store, tmp_path: Path
) -> None:
    for source in ("camera", "handheld", "camera"):
        await evidence.keep(JPEG, source)
    assert len(files(tmp_path)) == 1
    assert await rows(store) == [(SHA256, len(JPEG), "camera")]


async def test_a_photo_that_a_killed_life_left_is_named_for_certain(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was renamed, and killed before its name was synced; the power is cut after the row."""
    path = evidence.path(SHA256)
    path.parent.mkdir(parents=True)
    path.write_bytes(JPEG)
    synced, real = list[Path](), module.sync_folder
    monkeypatch.setattr(module, "sync_folder", lambda folder: (synced.append(folder), real(folder)))
    await evidence.keep(JPEG, "camera")
    assert {path.parent, path.parent.parent} <= set(synced)


async def test_many_photos_at_once_are_all_kept(evidence: Evidence, tmp_path: Path) -> None:
    pictures = [picture(seed=n) for n in range(20)]
    names = await asyncio.gather(*(evidence.keep(jpeg, "camera") for jpeg in pictures))
    assert len(set(names)) == 20 == len(files(tmp_path))
    assert all(evidence.path(n).read_bytes() == j for n, j in zip(names, pictures, strict=True))


async def test_photo_that_rotted_on_disk_is_written_anew(evidence: Evidence) -> None:
    await evidence.keep(JPEG, "camera")
    evidence.path(SHA256).write_bytes(JPEG[:-100])
    await evidence.keep(JPEG, "camera")
    assert evidence.path(SHA256).read_bytes() == JPEG


async def test_named_photo_must_be_the_one_it_is_named_for(evidence: Evidence) -> None:
    assert await evidence.keep_named(SHA256, JPEG) == SHA256
    for name, body in (
        (SHA256, picture(seed=1)),
        (SHA256, JPEG[:-2]),
        (SHA256.upper(), JPEG),
        ("../" * 20 + "abcd", JPEG),
        ("", JPEG),
        (SHA256, b""),
    ):
        with pytest.raises(PhotoInvalid):
            await evidence.keep_named(name, body)


@pytest.mark.parametrize(
    "name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"]
)
def test_path_of_what_is_no_name_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        Evidence.path(Evidence.__new__(Evidence), name)


async def test_disk_work_stays_off_the_loop(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    real = module.write_synced

    def watched(path: Path, data: bytes) -> None:
        threads.append(threading.current_thread().name)
        real(path, data)

    monkeypatch.setattr(module, "write_synced", watched)
    await evidence.keep(JPEG, "camera")
    assert len(threads) == 1
    assert threads[0].startswith("evidence")


# ---- crashes and disks ------------------------------------------------------------------------


async def test_file_and_its_folder_are_synced_before_the_row(
    evidence: Evidence, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real_fsync, real_write = os.fsync, store.write

    def fsync(fd: int) -> None:
        said.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real_fsync(fd)

    async def write(work: Any) -> Any:
        said.append("row")
        return await real_write(work)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(store, "write", write)
    await evidence.keep(JPEG, "camera")

    names = [Path(name).name for name in said]
    assert names[1:5] == [SHA256, SHA256[:2], "evidence", "row"]
    assert names[0] == evidence.path(SHA256).parents[2].name, "the folder's own name comes first"


async def test_crash_between_file_and_row_leaves_a_harmless_orphan(tmp_path: Path) -> None:
    program = tmp_path / "dies.py"
    program.write_text(
        "import asyncio, os, sys\n"
        "from pathlib import Path\n"
        "from gateway.evidence import Evidence\n"
        "from gateway.store import Store\n"
        "from gateway.units import SystemClock\n"
        "class Dying(Store):\n"
        "    async def write(self, work):\n"
        "        os._exit(9)\n"
        "async def main(folder):\n"
        "    store = await Dying.open(folder / 'lane.db')\n"
        "    evidence = Evidence(store, folder / 'evidence', SystemClock())\n"
        "    await evidence.keep((folder / 'photo').read_bytes(), 'camera')\n"
        "asyncio.run(main(Path(sys.argv[1])))\n"
    )
    (tmp_path / "photo").write_bytes(JPEG)
    died = subprocess.run(
        [sys.executable, str(program), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": "."},
        timeout=60,
    )
    assert died.returncode == 9
    assert files(tmp_path) == [f"{SHA256[:2]}/{SHA256[2:]}.jpg"]

    store = await Store.open(tmp_path / "lane.db")
    evidence = Evidence(store, tmp_path / "evidence", SystemClock())
    assert not await evidence.has(SHA256)
    assert await evidence.keep(JPEG, "camera") == SHA256
    assert await evidence.has(SHA256)
    assert len(files(tmp_path)) == 1
    await evidence.close()
    await store.close()


async def test_photos_of_the_newest_passages_get_their_rows_back(
    store: Store, evidence: Evidence
) -> None:
    """The log kept the step, the disk lost the end of what SQLite had synced."""
    kept = [await evidence.keep(picture(seed=seed), "camera") for seed in range(4)]
    bound = [("PhotoBound", "sha256"), ("PlateSubmitted", "photo")]
    for name, (event, key) in zip(kept[:2], bound, strict=True):
        await store.log(partial(_step, event, json.dumps({key: name, "no_photo_reason": ""})))
    await store.log(partial(_step, "PhotoBound", json.dumps({"sha256": "0" * 64})))  # deleted since
    await store.log(partial(_step, "PlateSubmitted", json.dumps({"photo": None})))
    rotten = evidence.path(kept[2])
    await store.log(partial(_step, "PhotoBound", json.dumps({"sha256": kept[2]})))
    before = await rows(store)
    await store.write(lambda db: db.execute("DELETE FROM evidence"))
    rotten.write_bytes(rotten.read_bytes()[:-9] + bytes(9))
    assert await evidence.recover() == 2
    assert await rows(store) == [row for row in before if row[0] in kept[:2]]
    assert await evidence.recover() == 0


def _step(event: str, body: str, draft: Draft) -> int:
    return draft.add("X03", "p", (1, 1, "b", "o"), event, "evidenced", body)


async def test_half_written_file_of_a_crash_is_swept(evidence: Evidence, tmp_path: Path) -> None:
    left = tmp_path / "evidence" / "incoming" / ("0" * 64)
    left.parent.mkdir(parents=True)
    left.write_bytes(JPEG[:100])
    await evidence.keep(JPEG, "camera")
    assert files(tmp_path) == [f"{SHA256[:2]}/{SHA256[2:]}.jpg"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
async def test_disk_that_takes_no_photo_is_told_and_no_row_promises_it(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreUnavailable, match="照片存不下"):
        await evidence.keep(JPEG, "camera")
    monkeypatch.undo()
    assert not await evidence.has(SHA256)
    assert files(tmp_path) == []
    assert await evidence.keep(JPEG, "camera") == SHA256  # and goes on once the disk is well


# ---- what a JPEG is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]],
    ids=["baseline", "progressive", "restarts"],
)
def test_size_is_read_from_every_kind_of_jpeg(flags: list[int]) -> None:
    assert check_jpeg(picture(320, 200, flags=flags)) == (320, 200)


def test_markers_with_fill_bytes_and_a_thumbnail_are_understood() -> None:
    thumbnail = b"\xff\xe1" + (len(JPEG) + 2).to_bytes(2) + JPEG
    assert check_jpeg(JPEG[:2] + thumbnail + b"\xff\xff" + JPEG[2:]) == (64, 48)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "不是 JPEG"),
        (b"GIF89a", "不是 JPEG"),
        (cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes(), "不是 JPEG"),
        (JPEG[:-2], "不完整"),
        (JPEG[: len(JPEG) // 2], "不完整"),
        (b"\xff\xd8\xff\xd9", "损坏"),
        (JPEG[:30] + b"\xff\xd9", "损坏"),
        (JPEG[:2] + b"\xff\xe0\x00\x00" + JPEG[2:], "损坏"),
        (JPEG[: JPEG.index(b"\xff\xda") + 14] + b"\xff\xd9", "损坏"),
        (JPEG[:2] + bytes(SIZE_MAX) + JPEG[2:], "太大"),
    ],
)
async def test_what_is_no_whole_jpeg_is_refused(evidence: Evidence, data: bytes, why: str) -> None:
    with pytest.raises(PhotoInvalid, match=why):
        await evidence.keep(data, "camera")


@pytest.mark.parametrize(("width", "height"), [(4097, 10), (10, 4097), (0, 10), (10, 0)])
def test_impossible_sizes_are_refused(width: int, height: int) -> None:
    at = JPEG.index(b"\xff\xc0")
    data = JPEG[: at + 5] + height.to_bytes(2) + width.to_bytes(2) + JPEG[at + 9 :]
    with pytest.raises(PhotoInvalid, match="尺寸"):
        check_jpeg(data)


def test_largest_side_is_taken() -> None:
    assert check_jpeg(picture(4096, 8)) == (4096, 8)


@given(st.binary(max_size=300), st.integers(0, len(JPEG)))
def test_any_bytes_are_a_photo_or_photo_invalid(junk: bytes, at: int) -> None:
    for data in (junk, JPEG[:at] + junk + JPEG[at:], b"\xff\xd8" + junk + b"\xff\xd9"):
        try:
            width, height = check_jpeg(data)
        except PhotoInvalid:
            continue
        assert 0 < width <= 4096
        assert 0 < height <= 4096
