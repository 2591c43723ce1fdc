import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.center.tables import Tables, public_hex
from gateway.errors import CenterUnavailable, ParameterInvalid
from gateway.store import Store
from gateway.sync.center import CenterClient, NotAVerdict
from gateway.sync.download import Downloads, ParameterShelf, public_key
from tests.sync.rig import DEMO, TOKEN, HurriedClock, Truth, center
from tests.sync.test_center import server

HOUR_MS = 3_600_000


def at(ms: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)).isoformat()


def document(name: str, version: str, effective_from: str, **body: Any) -> dict[str, Any]:
    """The demo's table of that name, as another version."""
    demo = json.loads((DEMO / f"{name}.json").read_text())
    changed = {**demo["body"], **body}
    return {**demo, "version": version, "effective_from": effective_from, "body": changed}


def publish(folder: Path, package: dict[str, Any]) -> None:
    path = folder / f"{package['name']}-{package['version']}.json"
    path.write_text(json.dumps(package, ensure_ascii=False))


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """What the centre publishes: the demo set, to which tests add."""
    folder = tmp_path / "published"
    shutil.copytree(DEMO, folder)
    return folder


@pytest.fixture
async def truth(tmp_path: Path, published: Path) -> Any:
    async with center(tmp_path / "center.db", parameters=published) as truth:
        yield truth


@pytest.fixture
async def shelf(store: Store, clock: HurriedClock, truth: Truth) -> ParameterShelf:
    key = public_key(truth.public_key)
    shelf = ParameterShelf(store, clock, DEMO, key, exit_hex="62010B31")
    await shelf.load()
    return shelf


@pytest.fixture
def downloads(shelf: ParameterShelf, client: CenterClient, clock: HurriedClock) -> Downloads:
    return Downloads(shelf, client, clock)


def hours(shelf: ParameterShelf) -> int:
    return shelf.current().policy.status_list_stale_hours


def reasons(shelf: ParameterShelf, name: str = "policy") -> list[str]:
    table = next(row for row in shelf.ages() if row["name"] == name)
    return [row["reason"] for row in table["rejected"]]


async def test_a_newer_package_is_fetched_checked_and_in_force_at_once(
    shelf: ParameterShelf, downloads: Downloads, published: Path
) -> None:
    assert hours(shelf) == 72
    publish(
        published, document("policy", "2", "2025-12-01T00:00:00+08:00", status_list_stale_hours=5)
    )
    assert await downloads.fetch() is True
    assert hours(shelf) == 5
    assert shelf.current().versions["policy"] == "2"
    assert shelf.current().versions["stations"] == "20251118001"


async def test_a_package_for_later_is_staged_and_switched_when_its_time_comes(
    shelf: ParameterShelf, downloads: Downloads, published: Path, clock: HurriedClock
) -> None:
    soon = at(clock.now_ms() + HOUR_MS)
    publish(published, document("policy", "2", soon, status_list_stale_hours=5))
    await downloads.fetch()
    assert hours(shelf) == 72
    assert [package.version for package in shelf.upcoming()] == ["2"]
    row = next(row for row in shelf.ages() if row["name"] == "policy")
    assert row["next"]["version"] == "2"

    clock.ahead_ms += 2 * HOUR_MS
    assert hours(shelf) == 5
    assert shelf.upcoming() == []
    clock.ahead_ms -= 2 * HOUR_MS  # the jump was a mistake: what is due now is due now
    assert hours(shelf) == 72


async def test_what_was_staged_survives_a_restart(
    store: Store, shelf: ParameterShelf, downloads: Downloads, published: Path, clock: HurriedClock
) -> None:
    publish(
        published, document("policy", "2", "2025-12-01T00:00:00+08:00", status_list_stale_hours=5)
    )
    await downloads.fetch()
    again = ParameterShelf(store, clock, None, None)
    with pytest.raises(ParameterInvalid, match="缺少参数"):
        await again.load()  # the store alone has one table only
    again = ParameterShelf(store, clock, DEMO, None)
    await again.load()
    assert hours(again) == 5


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"status_list_stale_hours": 0}, "不能用"),
        ({"status_list_stale_hours": "many"}, "不能用"),
        ({"no_such_field": 1}, "不能用"),
    ],
)
async def test_a_broken_table_is_rejected_with_its_reason_and_the_old_one_stays(
    store: Store,
    shelf: ParameterShelf,
    downloads: Downloads,
    published: Path,
    body: dict[str, Any],
    reason: str,
) -> None:
    publish(published, document("policy", "2", "2025-12-01T00:00:00+08:00", **body))
    assert await downloads.fetch() is False
    assert hours(shelf) == 72
    assert reason in reasons(shelf)[0]
    rows = await store.rows("SELECT state, reason FROM parameter WHERE version = '2'")
    assert [(row["state"], reason in row["reason"]) for row in rows] == [("rejected", True)]

    # Put right under the same version, it is taken in the next round.
    publish(
        published, document("policy", "2", "2025-12-01T00:00:00+08:00", status_list_stale_hours=5)
    )
    assert await downloads.fetch() is True
    assert hours(shelf) == 5
    assert reasons(shelf) == []


async def test_minimum_fares_of_another_exit_are_rejected(
    shelf: ParameterShelf, downloads: Downloads, published: Path
) -> None:
    publish(
        published,
        document("minimum_fares", "2", "2025-12-01T00:00:00+08:00", exit_hex="62010A12", rows=[]),
    )
    assert await downloads.fetch() is False
    assert "62010A12" in reasons(shelf, "minimum_fares")[0]
    assert shelf.current().minimum_fares.find("62010A12", 1) is not None


async def test_a_replayed_older_version_changes_nothing(
    store: Store, shelf: ParameterShelf, downloads: Downloads, published: Path
) -> None:
    publish(
        published, document("policy", "0", "2025-01-01T00:00:00+08:00", status_list_stale_hours=1)
    )
    assert await downloads.fetch() is True
    assert hours(shelf) == 72
    assert await store.rows("SELECT * FROM parameter") == []


async def test_a_signature_of_another_key_is_refused(
    store: Store, client: CenterClient, clock: HurriedClock, published: Path
) -> None:
    other = public_key(public_hex(Ed25519PrivateKey.generate()))
    shelf = ParameterShelf(store, clock, DEMO, other)
    await shelf.load()
    publish(
        published, document("policy", "2", "2025-12-01T00:00:00+08:00", status_list_stale_hours=5)
    )
    assert await Downloads(shelf, client, clock).fetch() is False
    assert hours(shelf) == 72
    assert reasons(shelf) == ["参数 policy 版本 2 签名不对"]


TAMPER: dict[str, Callable[[bytes], bytes]] = {
    "长度不符": lambda raw: raw[:-20],
    "校验和不符": lambda raw: raw.replace(b"72", b"73"),
}


@pytest.mark.parametrize("fault", TAMPER)
async def test_bytes_changed_on_the_way_are_refused(
    store: Store, clock: HurriedClock, tmp_path: Path, fault: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    publish(source, document("policy", "2", "2025-12-01T00:00:00+08:00"))
    key = Ed25519PrivateKey.generate()
    tables = Tables(source, key)

    async def tampering(request: web.Request) -> web.Response:
        if request.path == "/v1/parameters":
            return web.Response(body=tables.manifest()[0])
        found = tables.find("policy", "2")
        assert found is not None
        return web.Response(body=TAMPER[fault](found.read_bytes()))

    shelf = ParameterShelf(store, clock, DEMO, key.public_key())
    await shelf.load()
    async with server(tampering) as url, CenterClient(url, TOKEN, clock) as client:
        assert await Downloads(shelf, client, clock).fetch() is False
    assert shelf.current().versions["policy"] == "20251118001"
    assert fault in reasons(shelf)[0]


async def test_a_transfer_cut_in_the_middle_is_tried_again_not_believed(
    store: Store, clock: HurriedClock, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    publish(source, document("policy", "2", "2025-12-01T00:00:00+08:00", status_list_stale_hours=5))
    tables = Tables(source, Ed25519PrivateKey.generate())
    cuts = [1]

    async def cutting(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/parameters":
            return web.Response(body=tables.manifest()[0])
        found = tables.find("policy", "2")
        assert found is not None
        raw = found.read_bytes()
        answer = web.StreamResponse(headers={"Content-Length": str(len(raw))})
        await answer.prepare(request)
        if cuts:
            cuts.pop()
            await answer.write(raw[:50])
            assert request.transport is not None
            request.transport.close()
            return answer
        await answer.write(raw)
        return answer

    shelf = ParameterShelf(store, clock, DEMO, None)
    await shelf.load()
    async with server(cutting) as url, CenterClient(url, TOKEN, clock) as client:
        downloads = Downloads(shelf, client, clock)
        with pytest.raises(CenterUnavailable):
            await downloads.fetch()
        assert hours(shelf) == 72
        assert await downloads.fetch() is True
    assert hours(shelf) == 5


async def test_an_unchanged_manifest_costs_one_304_and_confirms_the_age(
    shelf: ParameterShelf, downloads: Downloads, clock: HurriedClock, client: CenterClient
) -> None:
    assert shelf.age_s("status_list") > 0
    await downloads.fetch()
    assert shelf.age_s("status_list") == 0
    clock.ahead_ms += HOUR_MS
    assert shelf.age_s("status_list") == 3600
    assert await client.manifest(downloads._etag) is None
    await downloads.fetch()
    assert shelf.age_s("status_list") == 0


async def test_a_broken_file_in_the_folder_is_reported_and_the_rest_loads(
    store: Store, clock: HurriedClock, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(DEMO, folder)
    (folder / "policy-broken.json").write_text('{"name": "policy", "vers')
    shelf = ParameterShelf(store, clock, folder, None)
    await shelf.load()
    assert hours(shelf) == 72
    assert "参数文件不完整" in reasons(shelf)[0]


async def test_many_versions_of_a_list_do_not_fill_memory_or_disk(
    store: Store, shelf: ParameterShelf, downloads: Downloads, published: Path
) -> None:
    for minute in range(8):
        stamp = f"2025-12-01T00:0{minute}:00+08:00"
        publish(published, document("status_list", f"20251201000{minute}", stamp))
        await downloads.fetch()
    assert shelf.current().versions["status_list"] == "202512010007"
    assert len(await store.rows("SELECT 1 FROM parameter")) <= 4
    assert len(shelf._shelf["status_list"]) <= 4


async def test_a_box_without_tables_says_so_and_fetches_them(
    store: Store, clock: HurriedClock, client: CenterClient, truth: Truth
) -> None:
    shelf = ParameterShelf(store, clock, None, public_key(truth.public_key))
    with pytest.raises(ParameterInvalid):
        await shelf.load()
    assert await Downloads(shelf, client, clock).fetch() is True
    assert shelf.current().stations.by_hex("62010A12") is not None


async def test_a_malformed_manifest_changes_nothing(store: Store, clock: HurriedClock) -> None:
    entry = {"name": "policy", "version": "9", "sha256": "", "size": 1, "effective_from": "soon"}

    async def odd(_: web.Request) -> web.Response:
        return web.json_response({"packages": [entry, {**entry, "name": "unheard_of"}]})

    shelf = ParameterShelf(store, clock, DEMO, None)
    await shelf.load()
    async with server(odd) as url, CenterClient(url, TOKEN, clock) as client:
        await Downloads(shelf, client, clock).fetch()
    assert shelf.current().versions["policy"] == "20251118001"


async def test_a_package_that_the_centre_does_not_give_holds_up_no_other(
    shelf: ParameterShelf,
    downloads: Downloads,
    published: Path,
    client: CenterClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(published, document("stations", "2", "2025-11-30T00:00:00+08:00"))
    later = document("policy", "2", "2025-12-01T00:00:00+08:00", status_list_stale_hours=5)
    publish(published, later)
    real = client.package

    async def choosy(name: str, *more: Any, size: int) -> bytes:
        if name == "stations":
            raise NotAVerdict("中心回答 404，稍后再试")
        return await real(name, *more, size=size)

    monkeypatch.setattr(client, "package", choosy)
    assert await downloads.fetch() is False
    assert hours(shelf) == 5
    monkeypatch.undo()
    assert await downloads.fetch() is True
    assert shelf.current().versions["stations"] == "2"
