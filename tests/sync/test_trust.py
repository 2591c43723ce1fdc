"""Lines outwards are believed by the configured CA alone, and nothing is said in clear."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from gateway import trust
from gateway.app import gateway
from gateway.center.app import serve_center
from gateway.devices import build
from gateway.errors import CenterUnavailable
from gateway.sync.center import CenterClient, Line
from gateway.units import SystemClock
from tests.rig import nats as rig
from tests.sync.rig import record
from tests.sync.test_configured import settings

CLOCK = SystemClock()
TOKEN = "a-token-that-nobody-else-may-hear"


class Papers:
    """A CA and what it signed, as files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        authority = trustme.CA()
        self.ca, self.own, self.key = folder / "ca.pem", folder / "own.pem", folder / "own.key"
        authority.cert_pem.write_to_path(self.ca)
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(self.own)
        issued.private_key_pem.write_to_path(self.key)


@pytest.fixture
def ours(tmp_path: Path) -> Papers:
    return Papers(tmp_path / "ours")


@pytest.fixture
def others(tmp_path: Path) -> Papers:
    return Papers(tmp_path / "others")


def lines(seq: int) -> list[Line]:
    one = record(seq)
    return [Line(seq, one.id, one.model_dump_json(by_alias=True).encode())]


def stream(port: int, tls: Any) -> Any:
    from gateway.sync.stream import StreamClient

    nowhere, servers = "http://127.0.0.1:9", [f"tls://127.0.0.1:{port}"]
    return StreamClient(nowhere, servers, TOKEN, CLOCK, timeout_s=5, tls=tls)


async def test_records_go_to_a_broker_that_the_ca_vouches_for_and_to_no_other(
    ours: Papers, others: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := rig.missing():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from gateway.center.stream import Broker

    monkeypatch.setenv("SSL_CERT_FILE", str(ours.ca))  # the centre believes whom the system does
    shown = ["--tls", f"--tlscert={ours.own}", f"--tlskey={ours.key}", "--auth", TOKEN]
    with rig.running(1, shown) as (node,):
        with pytest.raises(CenterUnavailable, match="证书不受信任"):
            async with stream(node.port, trust.context(others.ca, None)) as client:
                await client.submit("X03", lines(1))
        broker = Broker((f"tls://127.0.0.1:{node.port}",), 1, TOKEN)
        async with (
            serve_center(tmp_path / "center.db", 0, None, broker=broker),
            stream(node.port, trust.context(ours.ca, ours.own)) as client,
        ):
            said = await client.submit("X03", lines(1))
    assert [one.verdict for one in said.verdicts] == ["accepted"]


async def test_the_token_is_not_told_to_a_broker_that_does_not_encrypt(ours: Papers) -> None:
    heard = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version": "2.9.10", "max_payload": 1048576}\r\n')
        heard.extend(await reader.read())
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CenterUnavailable, match="没有加密"):
            async with stream(port, trust.context(ours.ca, None)) as client:
                await client.submit("X03", lines(1))
    assert bytes(heard) == b""


async def test_a_centre_is_believed_by_the_configured_ca_alone_and_sees_who_asks(
    ours: Papers, others: Papers
) -> None:
    async def nothing(_: web.Request) -> web.Response:
        return web.json_response({"packages": []})

    wanting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours.ca))
    wanting.verify_mode = ssl.CERT_REQUIRED
    wanting.load_cert_chain(ours.own)
    app = web.Application()
    app.router.add_get("/v1/parameters", nothing)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=wanting).start()
    address: Any = runner.addresses[0]

    async def asked(tls: ssl.SSLContext | None) -> Any:
        async with CenterClient(f"https://127.0.0.1:{address[1]}", TOKEN, CLOCK, tls=tls) as client:
            return await client.manifest()

    assert (await asked(trust.context(ours.ca, ours.own))).entries == []
    for wrong in (trust.context(others.ca, ours.own), trust.context(ours.ca, None), trust.nobody()):
        with pytest.raises(CenterUnavailable):
            await asked(wrong)
    await runner.cleanup()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "文件不存在"), ("not a certificate", "读不出，或者不是证书")]
)
async def test_files_that_cannot_be_read_cost_the_line_and_not_the_lane(
    tmp_path: Path, content: str | None, why: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    def change(told: dict[str, Any]) -> None:
        told["center"].update(url="https://127.0.0.1:9", ca=str(file))

    async with gateway(settings(tmp_path, change), SystemClock(), build.devices) as box:
        (notice,) = next(iter(box.lanes.values())).snapshot()["notices"]
        assert (notice["code"], notice["detail"][:12]) == ("E-406", "到中心的证书文件不能用：")
        assert why in notice["detail"]
