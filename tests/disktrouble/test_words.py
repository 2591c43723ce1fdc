"""gateway/disk: one state at a time, the worst; its words; and the order in which space is shed."""

import errno
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gateway import support
from gateway.disk import place, shed
from gateway.disk.shed import ORDER, Shed, level_of
from gateway.disk.states import LAST, RULES, Facts, State, Volume, judge, log_passage_bytes
from gateway.errors import ConfigInvalid, StoreUnavailable
from gateway.evidence import Evidence
from gateway.spool.reserve import Reserve
from gateway.store import Store
from tests.e2e.booth import is_chinese
from tests.flow.rig import JPEG
from tests.still_clock import StillClock

GB, MB = 1024**3, 1024**2
WIDE = Volume(100 * GB, 250 * GB)
TIGHT = Volume(30 * MB, 250 * GB)
WELL = Facts(WIDE, WIDE, True, 512, 20 * MB)


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        (State.OK, {}),
        (State.REPAIRED, {"repairs": 1}),
        (State.REPAIRED, {"io_faults": 1}),
        (State.LOW, {"data": Volume(GB - 1, 250 * GB)}),
        (State.SLOW, {"waiting_ms": 2_001.0}),
        (State.SLOW, {"median_ms": 501.0}),
        (State.BEHIND, {"tables_errno": errno.EIO}),
        (State.FULL, {"data": TIGHT}),
        (State.FULL, {"log": TIGHT}),
        (State.SPENT, {"log": TIGHT, "spare_bytes": LAST * log_passage_bytes(512) - 1}),
        (State.SPENT, {"log_errno": errno.ENOSPC}),
        (State.READ_ONLY, {"log_errno": errno.EROFS}),
        (State.READ_ONLY, {"log": Volume(GB, 2 * GB, is_read_only=True)}),
        (State.BROKEN, {"log_errno": errno.EIO}),
    ],
)
def test_each_fact_has_its_state_and_the_state_its_words(
    state: State, facts: dict[str, Any]
) -> None:
    now = judge(WELL._replace(**facts))
    assert now.state is state
    assert now.may_begin is (state not in (State.SPENT, State.READ_ONLY, State.BROKEN))
    if state is not State.OK:
        for words in (now.text, now.detail, now.action):
            assert is_chinese(words)
            assert "{" not in words
        assert now.code.startswith("E-3")


def test_the_worst_is_told() -> None:
    everything = WELL._replace(
        data=TIGHT, log=TIGHT, spare_bytes=0, tables_errno=errno.EIO, waiting_ms=9e9, repairs=3
    )
    assert judge(everything).state is State.SPENT
    assert judge(everything._replace(log_errno=errno.EROFS)).state is State.READ_ONLY
    assert judge(everything._replace(log_errno=errno.EIO)).state is State.BROKEN
    assert len({rule.code for rule in RULES}) == len(RULES)


def test_while_the_reserve_is_made_after_a_start_nothing_is_told() -> None:
    assert judge(WELL._replace(spare_bytes=0)).state is State.OK


def test_what_is_left_is_told_in_vehicles() -> None:
    full = WELL._replace(data=TIGHT, log=TIGHT, spare_bytes=8 * MB)
    small = 8 * MB // log_passage_bytes(512) - LAST
    assert judge(full).left == small
    assert judge(full._replace(block=4096)).left == 8 * MB // (12 * 4096) - LAST
    roomy = WELL._replace(data=Volume(464 * MB, 250 * GB), spare_bytes=8 * MB)
    assert judge(roomy).left == small + 400 * MB // 400_000


# ---- what is given up ----


def test_things_are_given_up_in_the_declared_order_and_money_is_not_among_them() -> None:
    soft, hard = WIDE.soft_bytes, WIDE.hard_bytes
    lines = [soft, soft * 0.8, soft * 0.6, soft * 0.4, hard]
    for number, line in enumerate(lines):
        assert level_of(Volume(round(line) - 1, WIDE.size_bytes), 0) == number + 1
        assert level_of(Volume(round(line) + 1, WIDE.size_bytes), 0) == number
    assert [step.name for step in ORDER] == [
        shed.SECOND, shed.SMALLER, shed.HELD, shed.SUPPORT, shed.PHOTOS,
    ]  # fmt: skip


def test_what_was_given_up_comes_back_only_when_there_is_more_room_than_when_it_went() -> None:
    below, above = Volume(round(GB * 0.99), 250 * GB), Volume(round(GB * 1.05), 250 * GB)
    assert level_of(below, 0) == 1
    assert level_of(above, 1) == 1
    assert level_of(Volume(round(GB * 1.11), 250 * GB), 1) == 0


async def test_each_step_is_told_when_it_begins_and_when_it_ends() -> None:
    asked: list[str] = []

    async def held() -> int:
        asked.append("held")
        return 700

    heard: list[int] = []
    now = Shed({shed.HELD: held}, lambda: heard.append(now.level))
    tight = Volume(round(GB * 0.5), 250 * GB)
    told = await now.adapt(tight, 0)
    assert [(step.name, begun, freed) for step, begun, freed in told] == [
        (shed.SECOND, True, 0), (shed.SMALLER, True, 0), (shed.HELD, True, 700),
    ]  # fmt: skip
    assert now.is_given_up(shed.HELD)
    assert not now.is_given_up(shed.PHOTOS)
    assert await now.adapt(tight, 1_000) == []
    assert [freed for _, _, freed in await now.adapt(tight, 61_000)] == [700]
    assert asked == ["held", "held"]
    told = await now.adapt(WIDE, 62_000)
    assert [(step.name, begun) for step, begun, _ in told] == [
        (shed.SECOND, False), (shed.SMALLER, False), (shed.HELD, False),
    ]  # fmt: skip
    assert heard == [3, 0]


async def test_only_old_photos_that_the_centre_holds_are_deleted(tmp_path: Path) -> None:
    clock, store = StillClock(), await Store.open(tmp_path / "lane.db")
    evidence = Evidence(store, tmp_path / "evidence", clock)
    names = []
    for number, (age_days, is_held) in enumerate([(200, True), (200, False), (1, True)]):
        clock.ms -= age_days * 86_400_000
        comment = b"\xff\xfe\x00\x03" + bytes([number])
        names.append(await evidence.keep(JPEG[:2] + comment + JPEG[2:], "camera"))
        clock.ms += age_days * 86_400_000
        if is_held:
            mark = (names[-1],)
            await store.write(
                lambda db, mark=mark: (
                    db.execute(  # type: ignore[misc]
                        "INSERT INTO evidence_delivery (sha256, at_ms) VALUES (?, 0)", mark
                    ).rowcount
                )
            )
    size = evidence.path(names[0]).stat().st_size
    assert await evidence.drop_held(90 * 86_400_000) == size
    assert [await evidence.has(name) for name in names] == [False, True, True]
    assert [evidence.path(name).exists() for name in names] == [False, True, True]
    assert await evidence.drop_held(90 * 86_400_000) == 0
    await evidence.close()
    await store.close()


async def test_a_photo_that_is_not_kept_is_refused_with_the_reason(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "lane.db")
    evidence = Evidence(store, tmp_path / "evidence", StillClock(), lambda: "磁盘已满")
    with pytest.raises(StoreUnavailable, match="磁盘已满"):
        await evidence.keep(JPEG, "camera")
    assert not (tmp_path / "evidence").exists()
    await evidence.close()
    await store.close()


async def test_packed_bundles_and_half_written_photos_go_and_nothing_else(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "lane.db")
    evidence = Evidence(store, tmp_path / "evidence", StillClock())
    name = await evidence.keep(JPEG, "camera")
    support.bundle(tmp_path, tmp_path / "bundle.tar.gz", None, StillClock())
    packed = (tmp_path / "bundle.tar.gz").stat().st_size
    theirs = [tmp_path / "backup.tar.gz", tmp_path / "photos.tar.gz"]
    theirs[0].write_bytes(bytes(500))
    with tarfile.open(theirs[1], "w:gz") as tar:
        tar.add(evidence.path(name), "photo.jpg")
    (tmp_path / "evidence" / "incoming" / "half").write_bytes(bytes(70))
    assert await evidence.drop_leftovers() == packed + 70
    assert not (tmp_path / "bundle.tar.gz").exists()
    assert all(path.exists() for path in theirs)
    assert evidence.path(name).exists()
    assert (tmp_path / "lane.db").exists()
    await evidence.close()
    await store.close()


# ---- the reserve ----


def test_the_reserve_is_really_allocated_and_let_go_in_pieces(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", size=3 * MB, step=2 * MB)
    assert not reserve.release()
    while not reserve.is_whole:
        reserve.rebuild()
    assert os.stat(tmp_path / "reserve").st_blocks * 512 >= 3 * MB  # noqa: PTH116
    again = Reserve(tmp_path / "reserve", size=3 * MB, step=2 * MB)
    assert again.is_whole
    assert again.release()
    assert again.held_bytes == MB
    assert again.release()
    assert not again.release()
    assert os.stat(tmp_path / "reserve").st_blocks == 0  # noqa: PTH116


# ---- where the log lies ----


def test_the_log_gets_its_own_folder_once_and_is_never_moved(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other" / "log"
    data.mkdir()
    place.prepare(data, None)
    assert not (data / "spool").exists()
    place.prepare(data, other)
    assert (data / "spool").resolve() == other
    place.prepare(data, other)
    (tmp_path / "third").mkdir()
    with pytest.raises(ConfigInvalid, match="不一致"):
        place.prepare(data, tmp_path / "third")
    shutil.rmtree(other)
    with pytest.raises(ConfigInvalid, match="没有挂上"):
        place.prepare(data, other)
