"""A list file: what goes in is found, what does not is not, and no changed byte gives an answer."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.params import ListDamaged
from gateway.statuslist import reader
from gateway.statuslist.form import BLOCK_BYTES, CARD, SIGNED_BYTES, key_of, listed, read_head
from gateway.statuslist.reader import ListFile
from gateway.statuslist.writer import Row, Writer, write_list

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
REASONS = {1: "卡挂失", 4: "账户透支"}
AT = datetime(2025, 11, 21, tzinfo=UTC)
AT_S = 1_763_700_000


def some_rows(count: int, seed: int = 1) -> list[Row]:
    """Cards of three provinces and OBUs, dense and sparse, first and last numbers among them."""
    chance = random.Random(seed)
    numbers = {f"{62010000000000000000 + n}" for n in range(count // 3)}  # dense: alike at first
    numbers |= {f"{chance.randrange(10**20):020d}" for _ in range(count // 3)}
    numbers |= {f"{chance.randrange(16**16):016X}" for _ in range(count // 3)}
    numbers |= {"0" * 20, "9" * 20, "0" * 16, "F" * 16}
    return [(number, (1,), AT_S) for number in sorted(numbers)]


def make(path: Path, rows: list[Row], version: str = "1", **more: str) -> Path:
    write_list(path, rows, version, AT, REASONS, KEY.sign, **more)
    return path


def state(opened: ListFile, number: str) -> bytes | None:
    key = key_of(number)
    assert key is not None
    return opened.find(*key)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[ListFile, list[Row]]:
    rows = some_rows(9_000)
    path = make(tmp_path_factory.mktemp("list") / "many.list", rows)
    return ListFile.open(path, KEY.public_key()), rows


def test_all_that_is_in_is_found_and_its_neighbours_are_not(
    many: tuple[ListFile, list[Row]],
) -> None:
    opened, rows = many
    opened.check()
    there = {number for number, _, _ in rows}
    for number in sorted(there):
        assert state(opened, number) is not None
        width = len(number)
        after = f"{int(number, 16) + 1:0{width}X}"
        if after not in there and len(after) == width:
            assert state(opened, after) is None


def test_a_number_says_why_and_since_when(tmp_path: Path) -> None:
    opened = ListFile.open(make(tmp_path / "l", [("62012045220000009001", (4, 1), AT_S)]))
    found = state(opened, "62012045220000009001")
    assert found is not None
    hit = listed("62012045220000009001", found, opened.head.reasons)
    assert hit is not None
    assert (hit.type, hit.reason, hit.listed_at) == (1, "卡挂失、账户透支", "2025-11-21 12:40")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.text("0123456789", min_size=20, max_size=20), max_size=600),
    st.sets(st.text("0123456789ABCDEF", min_size=16, max_size=16), max_size=20),
)
def test_any_set_of_numbers_is_a_list(tmp_path: Path, cards: set[str], obus: set[str]) -> None:
    path = make(tmp_path / "any.list", [(number, (2,), 5) for number in cards | obus])
    opened = ListFile.open(path)
    opened.check()
    assert (opened.head.cards, opened.head.obus) == (len(cards), len(obus))
    assert all(state(opened, number) for number in cards | obus)
    assert state(opened, "12345678901234567890") is None or "12345678901234567890" in cards


@pytest.mark.parametrize("base", ["", "0"])
def test_no_changed_byte_is_answered_from(tmp_path: Path, base: str) -> None:
    """Each look-up after a flipped bit gives the true answer or none at all."""
    rows = some_rows(900)
    path = make(tmp_path / "l.list", rows, base=base)
    whole, chance = path.read_bytes(), random.Random(5)
    for _ in range(150):
        raw = bytearray(whole)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)
        with pytest.raises(ListDamaged):
            ListFile.open(path).check()
        try:
            opened = ListFile.open(path)
        except ListDamaged:
            continue
        for number, _, _ in chance.sample(rows, 20):
            try:
                assert state(opened, number) is not None
            except ListDamaged:
                continue


def test_a_small_delta_reads_a_block_only_for_what_may_be_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = some_rows(2000)
    there = {number for number, _, _ in rows}
    path, read = make(tmp_path / "delta", rows, base="0"), list[int]()
    monkeypatch.setattr(reader, "RESIDENT_MAX", len(rows))
    small = ListFile.open(path)
    monkeypatch.setattr(reader, "RESIDENT_MAX", len(rows) - 1)
    large, whole = ListFile.open(path), ListFile.open(make(tmp_path / "full", rows))
    real = ListFile.block

    def block(self: ListFile, number: int) -> tuple[int, bytes]:
        read.append(number)
        return real(self, number)

    monkeypatch.setattr(ListFile, "block", block)
    asked = [*there, *(f"{n:020d}" for n in range(10**16, 10**19, 10**16))]
    for opened in (small, large, whole):
        read.clear()
        assert [n for n in asked if state(opened, n)] == [n for n in asked if n in there]
        assert len(read) == (len(rows) if opened is small else len(asked))


def test_a_block_of_another_list_or_another_place_is_noticed(tmp_path: Path) -> None:
    rows = some_rows(2000)
    mine, other = make(tmp_path / "a", rows, "1"), make(tmp_path / "b", rows, "2")
    raw, foreign = bytearray(mine.read_bytes()), other.read_bytes()
    raw[BLOCK_BYTES : 2 * BLOCK_BYTES] = foreign[BLOCK_BYTES : 2 * BLOCK_BYTES]
    mine.write_bytes(raw)
    with pytest.raises(ListDamaged, match="第 0 块"):
        ListFile.open(mine).block(0)
    raw[BLOCK_BYTES : 2 * BLOCK_BYTES] = raw[2 * BLOCK_BYTES : 3 * BLOCK_BYTES]
    mine.write_bytes(raw)
    with pytest.raises(ListDamaged, match="第 0 块"):
        ListFile.open(mine).block(0)


@pytest.mark.parametrize("cut", [0, 100, BLOCK_BYTES, 2 * BLOCK_BYTES + 7, -1])
def test_a_truncated_list_is_not_opened(tmp_path: Path, cut: int) -> None:
    path = make(tmp_path / "l", some_rows(900))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ListDamaged):
        ListFile.open(path)


def test_a_file_cut_while_it_is_open_is_damage_and_not_a_crash(tmp_path: Path) -> None:
    path = make(tmp_path / "l", some_rows(900))
    opened = ListFile.open(path)
    with path.open("r+b") as file:
        file.truncate(BLOCK_BYTES + 9)
    with pytest.raises(ListDamaged):
        state(opened, "9" * 20)


def test_only_the_centres_signature_opens_it(tmp_path: Path) -> None:
    path = make(tmp_path / "l", some_rows(60))
    other = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).public_key()
    with pytest.raises(ListDamaged, match="签名不对"):
        ListFile.open(path, other)
    head = read_head(path.read_bytes()[:BLOCK_BYTES], KEY.public_key())
    assert head.version == "1"
    KEY.public_key().verify(path.read_bytes()[SIGNED_BYTES : SIGNED_BYTES + 64],
                            path.read_bytes()[:SIGNED_BYTES])  # fmt: skip


def row(number: str, types: int = 1) -> bytes:
    key = key_of(number)
    assert key is not None
    return key[1] + types.to_bytes(2, "big") + AT_S.to_bytes(4, "big")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row("2" * 20), row("1" * 20)], "没有排好序"),
        ([row("1" * 20), row("1" * 20)], "没有排好序"),
        ([row("1" * 20), row("2" * 20, types=0)], "已移出"),
    ],
)
def test_a_signed_list_that_is_out_of_order_is_refused_all_the_same(
    tmp_path: Path, rows: list[bytes], why: str
) -> None:
    with Writer(tmp_path / "l", "1", "", AT) as out:
        out.add(CARD, b"".join(rows))
        out.close(REASONS, KEY.sign)
    with pytest.raises(ListDamaged, match=why):
        ListFile.open(tmp_path / "l", KEY.public_key()).check()


def test_a_writer_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    with Writer(tmp_path / "l", "1", "", AT) as out:
        out.add(CARD, row("1" * 20))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", ["", "12", "G" * 16, "1" * 19, "甘" * 20, "1" * 18 + "a1"])
def test_what_is_no_number_is_on_no_list(number: str) -> None:
    assert key_of(number) is None
