"""The pull routes over HTTP, as a province's collector would use them."""

import gzip
import hashlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.store import Store
from gateway.sync.batches import SEAL_COUNT, Batches
from gateway.sync.holdings import Holdings
from gateway.web.app import BODY_BYTES_MAX
from gateway.web.faults import faults_as_json
from gateway.web.pull import CONSUMERS, PULL, VERDICTS_BYTES_MAX, Pull, routes, token_hash
from tests.sync.rig import HurriedClock, save

Client = TestClient[web.Request, web.Application]
PROVINCE = {"Authorization": "Bearer province-token"}
SECTION = {"Authorization": "Bearer section-token"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "lane.db")
    yield store
    await store.close()


@pytest.fixture
def batches(store: Store) -> Batches:
    return Batches(store, ["X03"], HurriedClock(), seal_count=2)


@pytest.fixture
async def client(
    store: Store,
    batches: Batches,
    tmp_path: Path,
    aiohttp_client: Callable[[web.Application], Awaitable[Client]],
) -> Client:
    app = web.Application(
        middlewares=[faults_as_json(lambda _: None)], client_max_size=BODY_BYTES_MAX
    )
    holdings = Holdings(store, ["X03", "X04"])
    app[PULL] = Pull(batches, holdings, lambda sha256: tmp_path / f"{sha256}.jpg")
    app[CONSUMERS] = {token_hash("province-token"): "province", token_hash("section-token"): "s"}
    app.add_routes(routes)
    return await aiohttp_client(app)


async def get(client: Client, path: str, headers: dict[str, str] = PROVINCE) -> Any:
    answer = await client.get(f"/center/v1{path}", headers=headers)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def test_a_consumer_pulls_settles_and_moves_only_its_own_cursor(
    client: Client, store: Store, batches: Batches
) -> None:
    for seq in (1, 2, 3):
        await save(store, seq)
    await batches.seal_due()
    first, second = (await get(client, "/batches"))["batches"]
    assert set(first) >= {"batch", "first_seq", "last_seq", "count", "sum_fen", "sealed_at"}

    path = f"/center/v1/batches/{first['batch']}"
    bodies = [await (await client.get(path, headers=PROVINCE)).read() for _ in range(2)]
    assert bodies[0] == bodies[1]
    assert hashlib.sha256(bodies[0]).hexdigest() == first["sha256"]
    assert second["prev_sha256"] == first["sha256"]
    records = [json.loads(line) for line in gzip.decompress(bodies[0]).splitlines()]

    said = [{"id": r["id"], "seq": r["seq"], "verdict": "accepted"} for r in records]
    answer = await client.post(f"{path}/verdicts", json={"verdicts": said}, headers=PROVINCE)
    assert (await answer.json())["cursor"] == first["batch"]
    assert [b["batch"] for b in (await get(client, "/batches"))["batches"]] == [second["batch"]]
    assert len((await get(client, "/batches", SECTION))["batches"]) == 2
    assert len((await get(client, "/batches?after=0"))["batches"]) == 2
    assert (await get(client, "/holdings"))["unsent"] == 1


async def test_what_is_kept_can_be_read_again_by_range(client: Client, store: Store) -> None:
    for seq in range(1, 6):
        await save(store, seq)
    answer = await client.get("/center/v1/records?from_seq=2&to_seq=4", headers=PROVINCE)
    text = await answer.text()
    assert [json.loads(line)["seq"] for line in text.splitlines()] == [2, 3, 4]
    rows = await store.rows("SELECT line FROM record WHERE seq BETWEEN 2 AND 4 ORDER BY seq")
    assert text == "".join(f"{row['line']}\n" for row in rows)


async def test_a_photo_is_given_whole_or_by_range(client: Client, tmp_path: Path) -> None:
    photo = b"\xff\xd8" + bytes(1000)
    sha256 = hashlib.sha256(photo).hexdigest()
    (tmp_path / f"{sha256}.jpg").write_bytes(photo)
    path = f"/center/v1/evidence/{sha256}"
    assert await (await client.get(path, headers=PROVINCE)).read() == photo
    part = await client.get(path, headers={**PROVINCE, "Range": "bytes=0-1"})
    assert (part.status, await part.read()) == (206, b"\xff\xd8")
    missing = await client.get(f"/center/v1/evidence/{'0' * 64}", headers=PROVINCE)
    assert missing.status == 404


async def test_a_digest_of_a_shift_is_there_for_both_sides(client: Client, store: Store) -> None:
    await save(store, 1, shift_id=5)
    digest = await get(client, "/digests/5")
    assert digest["lanes"][0]["sum_fen"] == 3610
    unsigned = {key: value for key, value in digest.items() if key != "sha256"}
    canonical = json.dumps(unsigned, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(canonical.encode()).hexdigest() == digest["sha256"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic province-token"},
        {"Authorization": f"Bearer {token_hash('province-token')}"},
    ],
)
async def test_nobody_pulls_without_a_consumers_token(
    client: Client, headers: dict[str, str]
) -> None:
    paths = [
        "/batches",
        "/batches/1",
        "/records",
        f"/evidence/{'0' * 64}",
        "/holdings",
        "/digests/1",
    ]
    for path in paths:
        answer = await client.get(f"/center/v1{path}", headers=headers)
        assert answer.status == 401
        assert (await answer.json())["code"] == "consumer.unknown"
    answer = await client.post("/center/v1/batches/1/verdicts", json={}, headers=headers)
    assert answer.status == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/batches?after=x", 422),
        ("/batches?limit=0", 422),
        ("/records?from_seq=-1", 422),
        ("/records?lane=X99", 422),
        ("/batches/77", 404),
        ("/digests/77", 404),
    ],
)
async def test_what_makes_no_sense_is_said_so(client: Client, path: str, status: int) -> None:
    answer = await client.get(f"/center/v1{path}", headers=PROVINCE)
    assert answer.status == status
    assert (await answer.json())["detail"]


async def test_malformed_verdicts_change_nothing(
    client: Client, store: Store, batches: Batches
) -> None:
    await save(store, 1)
    await save(store, 2)
    await batches.seal_due()
    path = "/center/v1/batches/1/verdicts"
    for body in (b"", b"[]", b'{"verdicts": 1}'):
        assert (await client.post(path, data=body, headers=PROVINCE)).status == 422
    answer = await client.post(path, json={"verdicts": ["accepted", {}]}, headers=PROVINCE)
    assert await answer.json() == {"batch": 1, "cursor": 0, "settled": 0, "retry": 2}
    assert await store.rows("SELECT 1 FROM delivery") == []


async def test_a_whole_batch_may_be_refused_with_reasons(client: Client, store: Store) -> None:
    full = Batches(store, ["X03"], HurriedClock())
    for seq in range(1, SEAL_COUNT + 1):
        await save(store, seq)
    await full.seal_due()
    ((count,),) = await store.rows("SELECT count FROM batch WHERE batch = 1")
    rows = await store.rows("SELECT seq, id FROM record WHERE seq <= ?", count)
    said = [{**dict(row), "verdict": "refused", "reason": "卡号与车牌不符" * 10} for row in rows]
    body = json.dumps({"verdicts": said})  # as most write it: six bytes a character
    assert len(body) > BODY_BYTES_MAX
    path = "/center/v1/batches/1/verdicts"
    answer = await client.post(path, data=body, headers=PROVINCE)
    assert await answer.json() == {"batch": 1, "cursor": 1, "settled": count, "retry": 0}
    answer = await client.post(
        path, data=io.BytesIO(b" " * (VERDICTS_BYTES_MAX + 1)), headers=PROVINCE
    )
    assert answer.status == 413
