"""gateway/tls.py: a lane makes its own certificates, keeps them, and never stops for them."""

import asyncio
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientConnectorCertificateError, ClientSession, web
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway import tls
from gateway.errors import TlsUnavailable
from gateway.tls import Renewal, inspect, prepare

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("127.0.0.1", "gw.lane")


def leaf_of(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificates((folder / tls.LEAF_FILE).read_bytes())[0]


def client(ca_pem: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=ca_pem.decode())


async def served(context: ssl.SSLContext) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    return runner, runner.addresses[0][1]


async def test_a_client_that_trusts_the_authority_is_served_and_no_other(tmp_path: Path) -> None:
    identity = prepare(tmp_path, NAMES, NOW)
    stranger = prepare(tmp_path / "other", NAMES, NOW)
    runner, port = await served(identity.context())
    try:
        async with ClientSession() as http:
            url = f"https://127.0.0.1:{port}/"
            async with http.get(url, ssl=client(identity.ca_pem)) as answer:
                assert answer.status == 404
            with pytest.raises(ClientConnectorCertificateError):
                await http.get(url, ssl=client(stranger.ca_pem))
            with pytest.raises(ClientConnectorCertificateError):
                await http.get(url, ssl=client(identity.ca_pem), server_hostname="other.lane")
    finally:
        await runner.cleanup()


def test_the_certificates_are_what_phones_ask_for(tmp_path: Path) -> None:
    identity = prepare(tmp_path, NAMES, NOW)
    ca, leaf = x509.load_pem_x509_certificate(identity.ca_pem), leaf_of(tmp_path)
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.not_valid_before_utc == NOW - timedelta(days=2)
    assert ca.not_valid_after_utc > NOW + timedelta(days=3650)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["gw.lane"]
    assert leaf.not_valid_before_utc == NOW - timedelta(days=2)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=400)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_second_start_finds_the_same_certificates(tmp_path: Path) -> None:
    first = prepare(tmp_path, NAMES, NOW)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    second = prepare(tmp_path, NAMES, NOW + timedelta(days=300))
    assert second == first
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_keys_are_for_the_owner_only(tmp_path: Path) -> None:
    prepare(tmp_path / "tls", NAMES, NOW)
    assert stat.S_IMODE((tmp_path / "tls").stat().st_mode) == 0o700
    for file in (tmp_path / "tls").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


@pytest.mark.parametrize(
    ("names", "later"),
    [(NAMES, timedelta(days=368)), (("127.0.0.1",), timedelta()), (NAMES, timedelta(days=3000))],
)
def test_the_leaf_is_renewed_when_old_or_renamed_and_the_authority_stays(
    tmp_path: Path, names: tuple[str, ...], later: timedelta
) -> None:
    first = prepare(tmp_path, NAMES, NOW)
    was = leaf_of(tmp_path)
    second = prepare(tmp_path, names, NOW + later)
    assert second.ca_sha256 == first.ca_sha256
    assert leaf_of(tmp_path) != was
    assert second.names == names
    assert second.leaf_expires > NOW + later + timedelta(days=30)


@pytest.mark.parametrize("garbage", [b"", b"\0" * 4096, b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("broken", [tls.AUTHORITY_FILE, tls.LEAF_FILE])
def test_a_broken_file_is_moved_aside_and_made_anew(
    tmp_path: Path, broken: str, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    first = prepare(tmp_path, NAMES, NOW)
    (tmp_path / broken).write_bytes(garbage)
    second = prepare(tmp_path, NAMES, NOW)
    second.context()
    assert (tmp_path / f"{broken}.broken-1").read_bytes() == garbage
    assert (second.ca_sha256 == first.ca_sha256) == (broken == tls.LEAF_FILE)
    assert "moved aside" in caplog.text
    (tmp_path / broken).write_bytes(garbage)
    prepare(tmp_path, NAMES, NOW)
    assert (tmp_path / f"{broken}.broken-2").exists()


def test_a_leaf_of_another_authority_is_replaced(tmp_path: Path) -> None:
    prepare(tmp_path, NAMES, NOW)
    prepare(tmp_path / "other", NAMES, NOW)
    (tmp_path / "other" / tls.LEAF_FILE).replace(tmp_path / tls.LEAF_FILE)
    with pytest.raises(TlsUnavailable):
        inspect(tmp_path)
    prepare(tmp_path, NAMES, NOW)
    assert inspect(tmp_path) is not None


def test_a_box_with_a_dead_clock_makes_certificates_that_are_valid_today(tmp_path: Path) -> None:
    prepare(tmp_path, NAMES, datetime(1970, 1, 1, tzinfo=UTC))
    leaf = leaf_of(tmp_path)
    assert leaf.not_valid_before_utc >= tls.CLOCK_FLOOR - timedelta(days=2)
    identity = prepare(tmp_path, NAMES, NOW)
    assert identity.leaf_expires > NOW + timedelta(days=30)
    assert leaf_of(tmp_path).not_valid_before_utc <= NOW


def test_a_clock_gone_mad_takes_nothing_away(tmp_path: Path) -> None:
    first = prepare(tmp_path, NAMES, NOW)
    assert prepare(tmp_path, NAMES, NOW + timedelta(days=20_000)) == first
    assert prepare(tmp_path, NAMES, NOW - timedelta(days=20_000)) == first


def test_a_power_cut_while_writing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    first = prepare(tmp_path, NAMES, NOW)
    (tmp_path / "leaf.pem.new").write_bytes(b"half")
    (tmp_path / "leaf.pem.new").chmod(0o644)
    second = prepare(tmp_path, ("127.0.0.1",), NOW)
    assert second.ca_sha256 == first.ca_sha256
    assert not (tmp_path / "leaf.pem.new").exists()
    assert stat.S_IMODE((tmp_path / tls.LEAF_FILE).stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_written_is_a_fault_the_lane_can_catch(tmp_path: Path) -> None:
    (tmp_path / "tls").write_text("a file stands in the way")
    with pytest.raises(TlsUnavailable):
        prepare(tmp_path / "tls", NAMES, NOW)


def test_inspect_changes_nothing(tmp_path: Path) -> None:
    assert inspect(tmp_path) is None
    made = prepare(tmp_path, NAMES, NOW)
    assert inspect(tmp_path) == made
    (tmp_path / tls.LEAF_FILE).write_bytes(b"garbage")
    with pytest.raises(TlsUnavailable):
        inspect(tmp_path)
    assert (tmp_path / tls.LEAF_FILE).read_bytes() == b"garbage"


async def test_an_open_listener_shows_the_renewed_leaf(tmp_path: Path) -> None:
    class Gated:
        boot_id = "test"

        def __init__(self) -> None:
            self.gate, self.rounds = asyncio.Semaphore(0), 0

        def now_ms(self) -> int:
            return round(NOW.timestamp() * 1000)

        def monotonic_ms(self) -> int:
            return 0

        async def sleep(self, seconds: float) -> None:
            self.rounds += 1
            await self.gate.acquire()

    identity = prepare(tmp_path, NAMES, NOW)
    context, clock = identity.context(), Gated()
    runner, port = await served(context)

    async def shown() -> object:
        trusting = client(identity.ca_pem)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        serial = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        await writer.wait_closed()
        return serial

    renewal = asyncio.create_task(Renewal(tmp_path, ("127.0.0.1",), context, clock).run())
    try:
        before = await shown()
        clock.gate.release()
        async with asyncio.timeout(5):
            while clock.rounds < 2:
                await asyncio.sleep(0.01)
        assert await shown() != before
        (tmp_path / tls.LEAF_FILE).unlink()
        (tmp_path / tls.LEAF_FILE).mkdir()  # now nothing can be read or written there
        clock.gate.release()
        async with asyncio.timeout(5):
            while clock.rounds < 3:
                await asyncio.sleep(0.01)
        assert await shown()
    finally:
        renewal.cancel()
        await runner.cleanup()


def test_old_protocols_are_refused(tmp_path: Path) -> None:
    context = prepare(tmp_path, NAMES, NOW).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_an_authority_that_is_gone_is_a_new_one_and_its_old_leaf_is_kept_aside(
    tmp_path: Path,
) -> None:
    first = prepare(tmp_path, NAMES, NOW)
    (tmp_path / tls.AUTHORITY_FILE).unlink()
    assert prepare(tmp_path, NAMES, NOW).ca_sha256 != first.ca_sha256
    assert (tmp_path / f"{tls.LEAF_FILE}.broken-1").exists()
