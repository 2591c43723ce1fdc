"""gateway/pairing.py: one secret, once, for two minutes; then a credential that can be revoked."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway import pairing
from gateway.errors import NotFound, PairingRefused
from gateway.pairing import Pairings, Stage, digits_of
from gateway.store import Store
from tests.still_clock import StillClock

CA = "ab" * 32
NONCE = "0123456789abcdef"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


@pytest.fixture
def pairings(store: Store, clock: StillClock) -> Pairings:
    return Pairings(store, clock, CA)


async def paired(pairings: Pairings, name: str = "手持 1") -> tuple[str, str]:
    """(id, credential) of a handheld that went the whole way."""
    offer = pairings.open("9001")
    claim = pairings.claim(offer.secret, NONCE, name).claim
    pairings.confirm(offer.id)
    credential = (await pairings.poll(claim)).credential
    assert credential is not None
    return offer.id, credential


def test_the_digits_are_reproduced_by_the_rule_of_the_docstring() -> None:
    # Worked out apart from the code: printf 'lane-pairing\n…' | openssl dgst -sha256 -mac HMAC
    assert digits_of("AAAQEAYEAUDAOCAJBIFQYDIOB4", NONCE, CA) == "041743"
    assert digits_of("aaaq-eaye-auda-ocaj-bifq-ydio-b4", NONCE, CA) == "041743"


def test_another_nonce_or_another_authority_gives_other_digits() -> None:
    secret = "AAAQEAYEAUDAOCAJBIFQYDIOB4"
    shown = {digits_of(secret, nonce, ca) for nonce in (NONCE, "x" * 16) for ca in (CA, "cd" * 32)}
    assert len(shown) == 4


async def test_a_handheld_is_paired_only_after_the_booth_confirmed(pairings: Pairings) -> None:
    offer = pairings.open("9001")
    waiting = pairings.claim(offer.secret, NONCE, "手持 1")
    assert waiting.digits == digits_of(offer.secret, NONCE, CA) == offer.digits
    for _ in range(3):
        assert (await pairings.poll(waiting.claim)).credential is None
    assert await pairings.devices() == []

    pairings.confirm(offer.id)
    got = await pairings.poll(waiting.claim)
    assert got.stage is Stage.PAIRED
    assert got.credential is not None
    assert await pairings.device(got.credential) == offer.id
    assert [d.name for d in await pairings.devices()] == ["手持 1"]


async def test_a_lost_answer_costs_nothing(pairings: Pairings) -> None:
    offer = pairings.open("9001")
    claim = pairings.claim(offer.secret, NONCE, "手持 1").claim
    pairings.confirm(offer.id)
    answers = await asyncio.gather(*(pairings.poll(claim) for _ in range(5)))
    assert len({a.credential for a in answers}) == 1
    assert len(await pairings.devices()) == 1


async def test_the_secret_is_128_bits_and_new_each_time(pairings: Pairings) -> None:
    secrets = {pairings.open("9001").secret for _ in range(50)}
    assert len(secrets) == 50
    assert all(len(pairing._bytes_of(secret)) == 16 for secret in secrets)


async def test_the_secret_is_good_once(pairings: Pairings) -> None:
    offer = pairings.open("9001")
    pairings.claim(offer.secret, NONCE, "手持 1")
    with pytest.raises(PairingRefused):
        pairings.claim(offer.secret, "f" * 16, "别人")
    assert offer.name == "手持 1"


async def test_the_secret_is_good_for_two_minutes_by_the_clock_that_cannot_jump(
    pairings: Pairings, clock: StillClock
) -> None:
    offer = pairings.open("9001")
    clock.ms += 119_999
    assert pairings.offer() is offer
    clock.ms += 1
    assert pairings.offer() is None
    with pytest.raises(PairingRefused):
        pairings.claim(offer.secret, NONCE, "手持 1")


async def test_five_wrong_secrets_end_the_offer(pairings: Pairings) -> None:
    offer = pairings.open("9001")
    for left in (4, 3, 2, 1):
        with pytest.raises(PairingRefused, match=f"还可以试 {left} 次"):
            pairings.claim("A" * 26, NONCE, "x")
    with pytest.raises(PairingRefused, match="已关闭"):
        pairings.claim("not base32 at all!", NONCE, "x")
    with pytest.raises(PairingRefused):
        pairings.claim(offer.secret, NONCE, "手持 1")


async def test_a_new_offer_ends_the_one_before(pairings: Pairings) -> None:
    first, second = pairings.open("9001"), pairings.open("9001")
    with pytest.raises(PairingRefused):
        pairings.claim(first.secret, NONCE, "x")
    with pytest.raises(NotFound):
        pairings.confirm(first.id)
    assert pairings.claim(second.secret, NONCE, "x").digits


async def test_nothing_can_be_confirmed_before_a_handheld_shows_digits(pairings: Pairings) -> None:
    offer = pairings.open("9001")
    with pytest.raises(PairingRefused):
        pairings.confirm(offer.id)
    with pytest.raises(PairingRefused):
        await pairings.poll("")  # an offer nobody claimed has no claim to guess
    assert offer.stage is Stage.OPEN


async def test_an_offer_that_was_called_off_admits_nobody(pairings: Pairings) -> None:
    offer = pairings.open("9001")
    claim = pairings.claim(offer.secret, NONCE, "手持 1").claim
    pairings.confirm(offer.id)
    await pairings.end(offer.id)
    with pytest.raises(PairingRefused):
        await pairings.poll(claim)
    assert await pairings.devices() == []


async def test_only_the_hash_of_a_credential_is_on_disk(pairings: Pairings, tmp_path: Path) -> None:
    offer_id, credential = await paired(pairings)
    assert len(credential) >= 43
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert offer_id.encode() in on_disk
    assert credential.encode() not in on_disk


async def test_a_paired_handheld_survives_a_restart_and_a_revoked_one_does_not(
    pairings: Pairings, store: Store, clock: StillClock
) -> None:
    kept_id, kept = await paired(pairings, "留")
    gone_id, gone = await paired(pairings, "走")
    await pairings.end(gone_id)
    assert await pairings.device(gone) is None

    again = Pairings(store, clock, CA)
    assert await again.device(kept) == kept_id
    assert await again.device(gone) is None
    assert [d.name for d in await again.devices()] == ["留"]
    with pytest.raises(NotFound):
        await again.end(gone_id)
    rows = await store.rows("SELECT name FROM handheld")
    assert {row["name"] for row in rows} == {"留", "走"}  # a row is never deleted


async def test_strangers_are_nobody(pairings: Pairings) -> None:
    await paired(pairings)
    assert await pairings.device("x" * 43) is None
    assert await pairings.device("") is None
    with pytest.raises(NotFound):
        await pairings.end("H00000000")


async def test_last_seen_is_written_once_a_minute(
    pairings: Pairings, store: Store, clock: StillClock
) -> None:
    id_, credential = await paired(pairings)

    async def seen() -> int:
        row = (await store.rows("SELECT last_seen_ms FROM handheld WHERE id = ?", id_))[0]
        return row["last_seen_ms"]

    await pairings.device(credential)
    first = await seen()
    assert first == clock.ms
    clock.ms += 59_000
    await pairings.device(credential)
    assert await seen() == first
    clock.ms += 1_000
    await pairings.device(credential)
    assert await seen() == clock.ms
    assert (await pairings.devices())[0].last_seen_ms == clock.ms


async def test_a_revocation_cuts_open_lines_but_not_the_one_that_revokes(
    pairings: Pairings,
) -> None:
    id_, credential = await paired(pairings)
    inside = asyncio.Event()

    async def screen() -> None:
        with pairings.line(credential):
            inside.set()
            await asyncio.Event().wait()

    open_line = asyncio.create_task(screen())
    await inside.wait()
    with pairings.line(credential):
        await pairings.end(id_)
    with pytest.raises(asyncio.CancelledError):
        await open_line


async def test_a_pairing_that_cannot_be_stored_admits_nobody(
    pairings: Pairings, store: Store
) -> None:
    await store.write(lambda db: db.execute("DROP TABLE handheld") and None)
    offer = pairings.open("9001")
    claim = pairings.claim(offer.secret, NONCE, "手持 1").claim
    pairings.confirm(offer.id)
    pairings._known = {}
    with pytest.raises(Exception, match="handheld"):
        await pairings.poll(claim)
    assert offer.stage is Stage.CONFIRMED
    assert offer.credential == ""
    with sqlite3.connect(store.path) as db:
        assert db.execute("SELECT 1 FROM sqlite_master WHERE name = 'handheld'").fetchall() == []
    db.close()
