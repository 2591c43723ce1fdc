"""An export: the same bytes each time, true in itself, and nothing in it can be changed unseen."""

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from gateway import audit, parcel
from gateway.__main__ import main
from gateway.audit import EXPORT, JOURNAL, part_of
from gateway.errors import KeyMissing, ParcelRefused, RequestInvalid
from gateway.export import ExportRefused, export, span
from gateway.keys import PRIVATE, Signer, prepare, read_public
from gateway.parcel import Parcel
from gateway.store import Draft, Store
from tests.flow.rig import Box, World, drive_through
from tests.rig.filled import AT_MS, delivery, fill, filled


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Two lanes, with 12 and 5 records."""
    await filled(tmp_path / "data", {"X03": 12, "X04": 5})
    return tmp_path / "data"


def public(data: Path) -> bytes:
    return read_public(str(data / "keys" / "lane.pub"))


def opened(file: Path, data: Path) -> Parcel:
    return Parcel.open(file, public(data), EXPORT)


def lines_of(data: Path, lane: str) -> list[str]:
    db = sqlite3.connect(data / "lane.db")
    try:
        rows = db.execute("SELECT line FROM record WHERE lane = ? ORDER BY seq", (lane,))
        return [line for (line,) in rows]
    finally:
        db.close()


# ---- what is in it ---------------------------------------------------------------------------


async def test_an_export_holds_the_lines_as_they_are_and_says_what_it_holds(data: Path) -> None:
    out = data.parent / "out.tar"
    told = export(data, out)
    parcel = opened(out, data)
    assert audit.examine(parcel) == told
    for lane, count in (("X03", 12), ("X04", 5)):
        found = [line.decode() for line in parcel.lines(part_of(lane))]
        assert found == lines_of(data, lane)
        assert len(found) == count
    first, second = told.lanes
    assert (first.lane, first.first_seq, first.last_seq, first.vehicles) == ("X03", 1, 12, 12)
    assert first.sum_fen == 12 * 3610
    assert [(k.kind, k.means, k.count, k.sum_fen) for k in second.kinds] == [
        ("paid", "etc_card", 5, 5 * 3610)
    ]
    assert (told.journal.first_seq, told.journal.count) == (1, 51)
    assert told.damaged == ()
    assert list(data.parent.glob(".out*")) == []  # nothing is left beside it


async def test_the_same_data_gives_the_same_bytes(data: Path) -> None:
    one, two = data.parent / "1.tar", data.parent / "2.tar"
    export(data, one)
    export(data, two)
    assert one.read_bytes() == two.read_bytes()


async def test_any_tool_opens_it_and_the_chain_can_be_computed_by_hand(data: Path) -> None:
    out = data.parent / "out.tar"
    told = export(data, out)
    with tarfile.open(out) as tar:
        names = tar.getnames()
        tar.extractall(data.parent / "x", filter="data")
    assert names == [
        "manifest.json", "manifest.sig", "journal.txt", "records-X03.ndjson", "records-X04.ndjson",
    ]  # fmt: skip
    last = bytes.fromhex(told.journal.previous_hash)
    for line in (data.parent / "x" / JOURNAL).read_bytes().splitlines():
        named, _, text = line.partition(b" ")
        last = hashlib.sha256(last + text).digest()
        assert last.hex() == named.decode()
    assert last.hex() == told.journal.head_hash


async def test_a_span_of_time_takes_its_rows_and_no_others(data: Path) -> None:
    out = data.parent / "out.tar"
    told = export(data, out, span("2025-11-21T08:00:03", "2025-11-21T08:00:06"))
    first, second = told.lanes
    assert (first.first_seq, second.first_seq) == (3, 1)  # X04's rows stand behind X03's
    assert first.chain_before == json.loads(lines_of(data, "X03")[2])["prevChain"]
    audit.examine(opened(out, data))
    day = export(data, out, span("2025-11-21", "2025-11-21"))
    assert [lane.count for lane in day.lanes] == [12, 5]
    assert day.until == "2025-11-22T00:00:00+08:00"
    with pytest.raises(RequestInvalid, match="没有流水"):
        export(data, out, span("2025-11-22", None))
    with pytest.raises(RequestInvalid, match="看不懂"):
        span("21.11.2025", None)


async def test_stubs_and_corrections_are_counted_as_what_they_are(tmp_path: Path) -> None:
    from gateway.flow.corrections import Correct
    from tests.flow.rig import COLLECTOR
    from tests.flow.test_corrections import MASTER, by_hand, desk

    prepare(tmp_path)
    box = await Box.power_on(World(), tmp_path)
    passage = await by_hand(box)
    await desk(box).correct(passage, Correct(**MASTER, amount_fen=800), COLLECTOR, "a")
    await box.do("read")
    await box.do("cancel", reason="走错")
    await box.power_off()
    told = export(tmp_path, tmp_path / "out.tar")
    (lane,) = told.lanes
    assert (lane.count, lane.vehicles, lane.sum_fen) == (3, 1, 800)
    assert {(k.kind, k.correction, k.count, k.sum_fen) for k in lane.kinds} == {
        ("by_hand", False, 1, 500), ("by_hand", True, 1, 300), ("cancelled", False, 1, 0),
    }  # fmt: skip
    audit.examine(opened(tmp_path / "out.tar", tmp_path))


async def test_photos_come_along_and_those_that_are_gone_are_named(tmp_path: Path) -> None:
    prepare(tmp_path)
    box = await Box.power_on(World(), tmp_path)
    await drive_through(box)
    (line,) = await box.lines()
    await box.power_off()
    out = tmp_path / "out.tar"
    told = export(tmp_path, out, with_photos=True)
    assert (told.photos, told.photos_missing) == (1, ())
    parcel = opened(out, tmp_path)
    assert parcel.photos() == [line["photo"]]
    assert hashlib.sha256(parcel.photo(line["photo"])).hexdigest() == line["photo"]
    audit.examine(parcel)
    for photo in (tmp_path / "evidence").glob("*/*.jpg"):
        photo.write_bytes(b"not what it was")
    told = export(tmp_path, out, with_photos=True)
    assert (told.photos, told.photos_missing) == (0, (line["photo"],))
    audit.examine(opened(out, tmp_path))


async def test_an_export_is_made_while_the_lane_sells(tmp_path: Path) -> None:
    """Rows are in the log and not yet in the tables: it is the log that is exported."""
    prepare(tmp_path)
    world = World()
    box = await Box.power_on(world, tmp_path)
    await drive_through(box)
    told = export(tmp_path, tmp_path / "out.tar")
    assert told.lanes[0].count == 1
    audit.examine(opened(tmp_path / "out.tar", tmp_path))
    await box.do("read")
    await box.power_off()


async def test_a_lane_that_goes_on_behind_what_the_centre_holds_is_followed(data: Path) -> None:
    """The box was restored from an old copy: numbers jump once, and the journal says why."""

    def raise_lane(draft: Draft) -> None:
        moment = (AT_MS, 1, "boot", "")
        draft.add("X03", "", moment, "lane_raised", "", "{}", {"raised": 20})
        draft.lanes["X03"] = draft.lanes["X03"]._replace(seq=20)

    store = await Store.open(data / "lane.db")
    await store.log(raise_lane)
    await fill(store, 2)
    await store.close()
    told = export(data, data.parent / "out.tar")
    assert (told.lanes[0].last_seq, told.lanes[0].count) == (22, 14)
    assert audit.examine(opened(data.parent / "out.tar", data)) == told


# ---- what is refused -------------------------------------------------------------------------


async def test_damage_is_said_and_nothing_is_written_unless_insisted(data: Path) -> None:
    out = data.parent / "out.tar"
    with sqlite3.connect(data / "lane.db") as db:
        db.execute("UPDATE journal SET operator = '9999' WHERE seq = 2")
    db.close()
    with pytest.raises(ExportRefused, match=r"lane\.db 第 2 行"):
        export(data, out)
    assert not out.exists()
    told = export(data, out, is_forced=True)
    assert told.damaged[0].startswith("lane.db 第 2 行")
    assert audit.examine(opened(out, data)).damaged == told.damaged


async def test_a_torn_out_piece_of_the_log_is_shown_as_a_gap(data: Path) -> None:
    store = await Store.open(data / "lane.db")
    await fill(store, 100)  # further files of the log
    await store.close()
    files = sorted((data / "spool").glob("*.seg"))
    raw = bytearray(files[0].read_bytes())
    raw[20_000:20_100] = bytes(100)
    files[0].write_bytes(raw)
    out = data.parent / "out.tar"
    with pytest.raises(ExportRefused):
        export(data, out)
    told = export(data, out, is_forced=True)
    parcel = opened(out, data)
    assert any(line.startswith(b"- ") for line in parcel.lines(JOURNAL))
    assert audit.examine(parcel) == told
    assert told.journal.count < told.journal.last_seq


async def test_a_disk_that_fills_up_leaves_nothing_behind(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither half a file, nor the parts; and an older export stays as it was."""
    out = data.parent / "out.tar"
    out.write_bytes(b"older")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parcel, "_put", full)
    assert main(["journal", "export", str(data), "--out", str(out)]) == 1
    assert "写不了" in capsys.readouterr().err
    assert out.read_bytes() == b"older"
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "out.tar"]


async def test_an_export_is_for_its_owner_alone(data: Path) -> None:
    """Plates and card numbers are in it."""
    export(data, data.parent / "out.tar")
    assert (data.parent / "out.tar").stat().st_mode & 0o777 == 0o600


async def test_an_empty_box_has_nothing_to_export(tmp_path: Path) -> None:
    await filled(tmp_path / "data", {})
    with pytest.raises(RequestInvalid, match="没有流水"):
        export(tmp_path / "data", tmp_path / "out.tar")


async def test_without_a_key_there_is_no_export(data: Path) -> None:
    (data / "keys" / PRIVATE).unlink()
    with pytest.raises(KeyMissing, match="没有签名密钥"):
        export(data, data.parent / "out.tar")


async def test_another_key_did_not_sign_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tar"
    export(data, out)
    other = prepare(tmp_path / "other")
    with pytest.raises(ParcelRefused, match="签名不对"):
        Parcel.open(out, bytes.fromhex(other.public_hex), EXPORT)
    with pytest.raises(ParcelRefused, match="这是离线导出，要的是中心回执"):
        Parcel.open(out, public(data), "receipt")


async def test_every_changed_byte_is_noticed(data: Path) -> None:
    """A bit at every kind of place: heads, manifest, signature, parts, fillings, the end."""
    out, bad = data.parent / "out.tar", data.parent / "bad.tar"
    export(data, out, span("2025-11-21T08:00:01", "2025-11-21T08:00:03"))
    whole, key = out.read_bytes(), public(data)
    rng = random.Random(7)
    places = {*range(0, 1024, 3), *range(len(whole) - 1100, len(whole), 3)}
    places |= {rng.randrange(len(whole)) for _ in range(600)}
    for at in sorted(places):
        raw = bytearray(whole)
        raw[at] ^= 1 << rng.randrange(8)
        bad.write_bytes(raw)
        with pytest.raises(ParcelRefused):
            Parcel.open(bad, key, EXPORT)


async def test_a_cut_or_a_longer_file_is_noticed(data: Path) -> None:
    out, bad = data.parent / "out.tar", data.parent / "bad.tar"
    export(data, out, span("2025-11-21T08:00:01", "2025-11-21T08:00:03"))
    whole, key = out.read_bytes(), public(data)
    for length in {0, 1, 511, 512, 700, len(whole) // 2, len(whole) - 512, len(whole) - 1}:
        bad.write_bytes(whole[:length])
        with pytest.raises(ParcelRefused):
            Parcel.open(bad, key, EXPORT)
    for more in (b"\0", bytes(512), whole):
        bad.write_bytes(whole + more)
        with pytest.raises(ParcelRefused):
            Parcel.open(bad, key, EXPORT)


@pytest.mark.parametrize("lie", ["sum", "row", "record", "gap", "extra"])
async def test_a_box_that_signs_a_lie_is_found_out(data: Path, lie: str) -> None:
    """Its key is good; what it signed contradicts itself."""
    from gateway.parcel import Part, Writing

    out, folder = data.parent / "out.tar", data.parent / "parts"
    export(data, out)
    folder.mkdir()
    honest = opened(out, data)
    manifest = json.loads(json.dumps(honest.manifest))
    parts: list[tuple[Part, Path]] = []
    for name in [part["name"] for part in manifest["parts"]]:
        written = Writing(folder, name)
        lines = list(honest.lines(name))
        if name == JOURNAL and lie == "row":
            lines[4] = lines[4].replace(b'"1001"', b'"1002"')
        if name == JOURNAL and lie == "gap":
            del lines[4]
        if name == part_of("X03") and lie == "record":
            lines[2] = lines[2].replace(b'"fee":3610', b'"fee":3611')
        for line in lines:
            written.add(line)
        parts.append((written.done(), written.path))
    if lie == "sum":
        manifest["lanes"][0]["sum_fen"] += 1
    if lie == "extra":
        more = Writing(folder, part_of("X09"))
        more.add(b"{}")
        parts.append((more.done(), more.path))
    more_of = {k: v for k, v in manifest.items() if k not in ("format", "parts")}
    parcel.write(out, Signer.read(data / "keys" / PRIVATE), more_of, parts)
    with pytest.raises(ParcelRefused):
        audit.examine(opened(out, data))


# ---- size and the command line ---------------------------------------------------------------


async def test_ten_thousand_records_pass_in_bounded_memory(tmp_path: Path) -> None:
    """Made, verified, taken in by a centre, and its receipt taken back: each in its own process."""
    peaks = {}
    for count in (100, 10_000):
        data = tmp_path / str(count)
        await filled(data, {"X03": count}, rows=1)
        peaks[count] = [peak_mb(*arguments) for arguments in a_round_trip(data)]
        taken = dict.fromkeys(range(1, count + 1), ("accepted", "receipt"))
        assert await delivery(data) == taken
    assert (data / "out.tar").stat().st_size > 25 << 20
    more = [large - small for small, large in zip(*peaks.values(), strict=True)]
    assert max(more) < 24, peaks  # export, verify, centre, receipt


def a_round_trip(data: Path) -> list[list[str]]:
    out, center, receipt = str(data / "out.tar"), str(data / "center.db"), str(data / "r.tar")
    key, center_key = str(data / "keys" / "lane.pub"), str(data / "center-key.pub")
    return [
        ["journal", "export", str(data), "--out", out],
        ["journal", "verify", out, "--key", key],
        ["center", "import", out, "--db", center, "--key", key, "--out", receipt],
        ["journal", "import-receipt", str(data), receipt, "--center-key", center_key],
    ]


def peak_mb(*arguments: str) -> float:
    """The most memory that one command of ours had, in a process of its own."""
    script = (
        "import resource, sys\nfrom gateway.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return int(told.stdout.split()[-1]) / 1024


def test_the_command_says_what_it_wrote_and_the_file_can_be_verified_alone(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data.parent / "out.tar"
    key = str(data / "keys" / "lane.pub")
    assert main(["journal", "export", str(data), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "X03 记录第 1 到 12 条：12 辆，合计 433.20 元" in told
    assert main(["journal", "verify", str(out), "--key", key]) == 0
    assert "签名、哈希链、记录和合计都对" in capsys.readouterr().out
    assert main(["journal", "verify", str(out)]) == 2
    assert main(["journal", "export", str(data), "--out", "/nowhere/x.tar"]) == 1
    assert main(["journal", "export", str(data), "--from", "x", "--out", str(out)]) == 1


def test_openssl_confirms_the_signature(data: Path) -> None:
    """An auditor needs none of our programs."""
    out, folder = data.parent / "out.tar", data.parent / "x"
    export(data, out)
    with tarfile.open(out) as tar:
        tar.extractall(folder, filter="data")
    signed = b"lane-gateway parcel 1\n" + (folder / "manifest.json").read_bytes()
    (folder / "signed").write_bytes(signed)
    (folder / "sig").write_bytes(bytes.fromhex((folder / "manifest.sig").read_text().strip()))
    key = str(data / "keys" / "lane.pub")
    verify = ("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin")
    told = subprocess.run(
        [*verify, "-in", "signed", "-sigfile", "sig"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Verified Successfully" in told.stdout, told.stderr
