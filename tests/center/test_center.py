"""The reference centre alone, over HTTP: permanent uniqueness, holes, digests, evidence. All of it
on both databases."""

import base64
import gzip
import hashlib
import json
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.center.app import Serving, serve_center
from gateway.keys import Signer
from gateway.tally import Tally, signed_bytes
from tests.sync.rig import DEMO, record

TOKEN = "a-token-for-tests"


@pytest.fixture
async def serving(tmp_path: Path, dsn: str) -> AsyncIterator[Serving]:
    async with serve_center(tmp_path / "center.db", 0, DEMO, TOKEN, dsn=dsn) as serving:
        yield serving


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        yield http


def exit_record(seq: int, **changes: Any) -> dict[str, Any]:
    return {**record(seq).model_dump(mode="json", by_alias=True), **changes}


def packed(lines: list[dict[str, Any]], **headers: str) -> dict[str, Any]:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    body = gzip.compress(text.encode())
    seqs = [line["seq"] for line in lines if "seq" in line] or [0]
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return {
        "data": body,
        "headers": {
            "Content-Encoding": "gzip",
            "Content-Digest": f"sha-256=:{digest}:",
            "Lane": "X03",
            "First-Seq": str(min(seqs)),
            "Last-Seq": str(max(seqs)),
            **headers,
        },
    }


class Center:
    def __init__(self, serving: Serving, http: aiohttp.ClientSession) -> None:
        self.url, self.http = serving.url, http

    async def push(self, *lines: dict[str, Any], **headers: str) -> tuple[int, Any]:
        async with self.http.post(
            f"{self.url}/v1/records", **packed(list(lines), **headers)
        ) as answer:
            return answer.status, await answer.json()

    async def say(self, *lines: dict[str, Any]) -> list[tuple[str, str]]:
        status, answer = await self.push(*lines)
        assert status == 200, answer
        return [(said["verdict"], said.get("reason", "")) for said in answer["verdicts"]]

    async def get(self, path: str) -> Any:
        async with self.http.get(self.url + path) as answer:
            assert answer.status == 200
            return await answer.json()


@pytest.fixture
def center(serving: Serving, http: aiohttp.ClientSession) -> Center:
    return Center(serving, http)


async def test_verdicts_come_in_request_order_with_high_water(center: Center) -> None:
    status, answer = await center.push(exit_record(3), exit_record(1))
    assert status == 200
    assert [said["seq"] for said in answer["verdicts"]] == [3, 1]
    assert answer["high_water"] == 1
    lane = await center.get("/v1/lanes/X03")
    assert (lane["stored"], lane["holes"], lane["high_water"]) == (2, [2], 1)
    await center.say(exit_record(2))
    assert (await center.get("/v1/lanes/X03"))["high_water"] == 3


async def test_the_same_id_is_fine_with_the_same_bytes_and_never_with_others(
    center: Center,
) -> None:
    assert await center.say(exit_record(1)) == [("accepted", "")]
    assert await center.say(exit_record(1)) == [("duplicate", "")]
    ((verdict, reason),) = await center.say(exit_record(1, description="changed"))
    assert verdict == "refused"
    assert reason.startswith("内容不同")
    kept = await center.get("/v1/records")
    assert [row["record"]["description"] for row in kept["records"]] == [""]


async def test_twice_in_one_body_is_one_record(center: Center) -> None:
    said = await center.say(exit_record(1), exit_record(1))
    assert [verdict for verdict, _ in said] == ["accepted", "duplicate"]


async def test_a_slot_belongs_to_one_id_for_ever(center: Center) -> None:
    await center.say(exit_record(1))
    other = exit_record(1, id="Z" * 37)
    assert await center.say(other) == [("refused", "这个序号已经有另一条流水")]
    moved = exit_record(2, id=exit_record(1)["id"])
    assert await center.say(moved) == [("refused", "同一流水号已在别的序号下")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "short"}, "字段 id 不合要求"),
        ({"payFee": 1}, "应收不等于实收加优惠"),
        ({"cardId": "6201"}, "卡号应为 20 位数字"),
        ({"postBalance": 1}, "卡内余额变化与扣款金额不符"),
        ({"tac": "xyz"}, "字段 tac 不合要求"),
        ({"fee": -5}, "字段 fee 不合要求"),
        ({"id": "\0" * 37}, "字段 id 不合要求"),
        ({"seq": 2**63}, "字段 seq 不合要求"),
        ({"lane": "X\09"}, "流水的车道 X\09 与请求的车道 X03 不符"),
        ({"corrects": "\0" * 37}, "字段 corrects 不合要求"),
        ({"corrects": "Z" * 37, "adjustFee": 2**64}, "字段 adjustFee 不合要求"),
        ({"lane": "X09"}, "流水的车道 X09 与请求的车道 X03 不符"),
    ],
)
async def test_a_record_that_contradicts_itself_is_refused_with_the_reason(
    center: Center, change: dict[str, Any], reason: str
) -> None:
    line = {**exit_record(1), **change}
    assert await center.say(line) == [("refused", reason)]
    assert (await center.get("/v1/lanes/X03"))["stored"] == 0


async def test_unknown_fields_are_ignored(center: Center) -> None:
    assert await center.say(exit_record(1, fieldOfNextYear={"a": 1})) == [("accepted", "")]


async def test_a_stub_fills_the_slot_and_gives_way_to_the_record(center: Center) -> None:
    one = exit_record(1)
    stub = {"seq": 1, "id": one["id"], "stub": True, "refused": "卡号不对"}
    assert await center.say(stub) == [("accepted", "")]
    assert await center.say(stub) == [("duplicate", "")]
    lane = await center.get("/v1/lanes/X03")
    assert (lane["stored"], lane["stubs"], lane["high_water"]) == (0, 1, 1)
    assert await center.say(one) == [("accepted", "")]
    assert await center.say(stub) == [("duplicate", "")]
    lane = await center.get("/v1/lanes/X03")
    assert (lane["stored"], lane["stubs"]) == (1, 0)


async def test_the_digest_is_over_the_bytes_on_the_wire(center: Center) -> None:
    for header in ({"Content-Digest": f"sha-256=:{'A' * 43}=:"}, {"Content-Digest": ""}):
        status, answer = await center.push(exit_record(1), **header)
        assert status == 400
        assert "Content-Digest" in answer["detail"]
    assert (await center.get("/v1/lanes/X03"))["stored"] == 0


async def test_records_come_in_zstd_too(center: Center) -> None:
    sent = packed([exit_record(1)], **{"Content-Encoding": "zstd"})
    sent["data"] = zstandard.compress(gzip.decompress(sent["data"]))
    digest = base64.b64encode(hashlib.sha256(sent["data"]).digest()).decode()
    sent["headers"]["Content-Digest"] = f"sha-256=:{digest}:"
    async with center.http.post(f"{center.url}/v1/records", **sent) as answer:
        assert (await answer.json())["verdicts"][0]["verdict"] == "accepted"


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstandard.compress)]
)
async def test_a_bomb_and_a_torn_body_are_refused_whole(
    center: Center, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    for body, wanted in (
        (compress(b" " * 64 * 1024 * 1024), 413),
        (compress(b'{"seq": 1}')[:-9], 400),
        (b"no gzip", 400),
        (compress(b"not json\n"), 400),
        (compress(b""), 400),
    ):
        sent = packed([exit_record(1)], **{"Content-Encoding": encoding})
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        sent["headers"]["Content-Digest"] = f"sha-256=:{digest}:"
        async with center.http.post(
            f"{center.url}/v1/records", data=body, headers=sent["headers"]
        ) as answer:
            assert answer.status == wanted


async def test_a_range_that_is_not_the_lines_own_is_refused(center: Center) -> None:
    status, _ = await center.push(exit_record(1), **{"Last-Seq": "2"})
    assert status == 400


async def test_without_the_token_nothing_is_said(center: Center) -> None:
    async with aiohttp.ClientSession() as stranger:
        for path in ("/v1/records", "/v1/lanes/X03", "/v1/parameters"):
            async with stranger.get(center.url + path) as answer:
                assert answer.status == 401


async def test_faults_cannot_be_armed_unless_allowed(center: Center) -> None:
    async with center.http.post(f"{center.url}/test/faults", json={"fault": "down"}) as answer:
        assert answer.status == 404


async def test_records_are_paged_in_order_of_arrival(center: Center) -> None:
    await center.say(exit_record(2), exit_record(1), exit_record(3))
    first = await center.get("/v1/records?limit=2")
    assert [row["seq"] for row in first["records"]] == [2, 1]
    second = await center.get(f"/v1/records?limit=2&after={first['next']}")
    assert [row["seq"] for row in second["records"]] == [3]
    assert second["next"] == first["next"] + 1


async def test_what_was_acknowledged_is_there_after_a_restart(
    tmp_path: Path, http: aiohttp.ClientSession, dsn: str
) -> None:
    keys = []
    for said in ("accepted", "duplicate"):
        async with serve_center(tmp_path / "c.db", 0, None, TOKEN, dsn=dsn) as serving:
            center = Center(serving, http)
            assert await center.say(exit_record(1)) == [(said, "")]
            assert (await center.get("/v1/lanes/X03"))["high_water"] == 1
            keys.append(serving.public_key)
    assert keys[0] == keys[1]


async def test_evidence_is_taken_in_pieces_and_checked(center: Center) -> None:
    photo = bytes(range(256)) * 300
    sha256 = hashlib.sha256(photo).hexdigest()
    url = f"{center.url}/v1/evidence/{sha256}"

    async def put(first: int, last: int, body: bytes) -> tuple[int, str]:
        headers = {"Content-Range": f"bytes {first}-{last}/{len(photo)}"}
        async with center.http.put(url, data=body, headers=headers) as answer:
            return answer.status, answer.headers.get("Upload-Offset", "")

    async with center.http.head(url) as answer:
        assert (answer.status, answer.headers["Upload-Offset"]) == (404, "0")
    assert await put(0, 999, photo[:1000]) == (202, "1000")
    assert await put(0, 999, photo[:1000]) == (409, "1000")
    assert await put(500, 100, b"") == (400, "")
    assert await put(1000, len(photo) - 1, photo[1000:]) == (201, str(len(photo)))
    async with center.http.get(url, headers={"Range": "bytes=10-19"}) as answer:
        assert (answer.status, await answer.read()) == (206, photo[10:20])


async def test_evidence_that_is_not_what_its_name_says_is_dropped(center: Center) -> None:
    url = f"{center.url}/v1/evidence/{'0' * 64}"
    async with center.http.put(url, data=b"something") as answer:
        assert answer.status == 422
    async with center.http.head(url) as answer:
        assert (answer.status, answer.headers["Upload-Offset"]) == (404, "0")


async def test_packages_are_signed_and_conditional_and_resumable(
    center: Center, serving: Serving, tmp_path: Path
) -> None:
    async with center.http.get(f"{center.url}/v1/parameters") as answer:
        etag, manifest = answer.headers["ETag"], await answer.json()
    for known in (etag, f"W/{etag}", f'"another", W/{etag}', "*"):
        headers = {"If-None-Match": known}
        async with center.http.get(f"{center.url}/v1/parameters", headers=headers) as answer:
            assert answer.status == 304
    async with center.http.get(
        f"{center.url}/v1/parameters", headers={"If-None-Match": 'W/"another"'}
    ) as answer:
        assert answer.status == 200

    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(serving.public_key))
    assert len(manifest["packages"]) == 8
    for entry in manifest["packages"]:
        url = f"{center.url}/v1/parameters/{entry['name']}/{entry['version']}"
        async with center.http.get(url) as answer:
            raw = await answer.read()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (entry["size"], entry["sha256"])
        key.verify(bytes.fromhex(entry["signature"]), raw)
        async with center.http.get(url, headers={"Range": "bytes=5-"}) as answer:
            assert (answer.status, await answer.read()) == (206, raw[5:])
    private = tmp_path / "center-key.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert load_pem_public_key(private.with_suffix(".pub").read_bytes()) == key


async def test_nonsense_gets_a_chinese_answer_not_a_trace(center: Center) -> None:
    for path, body in (
        (
            "/v1/digests",
            b'{"lane": "X03", "ranges": [[18446744073709551614, 18446744073709551615]]}',
        ),
        ("/v1/fares", b"{}"),
        ("/v1/fares", b"\xff"),
        ("/v1/heartbeat", b"[]"),
        ("/v1/heartbeat", b"not json"),
    ):
        async with center.http.post(center.url + path, data=body) as answer:
            assert answer.status in (400, 422)
            assert (await answer.json())["detail"]
    async with center.http.get(f"{center.url}/v1/records?after=x") as answer:
        assert answer.status == 400
    strange = {"Content-Type": "application/json; charset=nope"}
    for method, path, status in (
        ("POST", "/v1/heartbeat", 422),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/records", 405),
    ):
        ask = center.http.request(method, center.url + path, data=b"{", headers=strange)
        async with ask as answer:
            assert answer.status == status
            assert set(await answer.json()) == {"code", "detail", "action"}


# ---- stubs and corrections ---------------------------------------------------------------------


def cancelled(seq: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("fee", "payFee", "discountFee", "transFee"), 0)
    balances = {"preBalance": None, "postBalance": None, "tac": None}
    return exit_record(seq, outcome="cancelled", means="none", isStub=True, **nothing, **balances)


def correction(seq: int, of: dict[str, Any], **changes: Any) -> dict[str, Any]:
    own = {"id": exit_record(seq)["id"], "seq": seq, "corrects": of["id"]}
    return {**of, **own, **changes}


async def test_a_cancelled_passage_holds_its_place_and_is_counted_apart(center: Center) -> None:
    assert await center.say(exit_record(1), cancelled(2), exit_record(3)) == [("accepted", "")] * 3
    assert await center.say(cancelled(2)) == [("duplicate", "")]
    lane = await center.get("/v1/lanes/X03")
    assert (lane["stored"], lane["cancelled"], lane["stubs"]) == (3, 1, 0)
    assert (lane["holes"], lane["high_water"]) == ([], 3)


@pytest.mark.parametrize(
    "changes", [{"fee": 5, "payFee": 5}, {"outcome": "paid"}, {"isStub": False}]
)
async def test_a_stub_has_no_money_and_a_vehicle_is_no_stub(
    center: Center, changes: dict[str, Any]
) -> None:
    ((verdict, reason),) = await center.say({**cancelled(1), **changes})
    assert verdict == "refused"
    assert reason.startswith("取消的一笔")


async def test_corrections_are_linked_to_what_they_correct(center: Center) -> None:
    first = exit_record(1)
    second = correction(3, first, vehicleId="甘A54321_0")
    third = correction(4, second, vehicleClass=8)
    said = await center.say(first, exit_record(2), second, third)
    assert [verdict for verdict, _ in said] == ["accepted"] * 4
    rows = (await center.get("/v1/records"))["records"]
    assert [row["corrected_by"] for row in rows] == [second["id"], None, third["id"], None]
    lane = await center.get("/v1/lanes/X03")
    assert (lane["stored"], lane["corrections"], lane["high_water"]) == (4, 2, 4)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fee": 3600, "payFee": 3790}, "更正差额"),
        ({"transFee": 1, "preBalance": 50_001}, "更正不能改动卡上的扣款"),
        ({"tac": "00000000"}, "更正不能改动卡上的扣款"),
        ({"corrects": None, "adjustFee": 5}, "更正没有写明"),
    ],
)
async def test_a_correction_that_does_not_agree_is_refused_and_leaves_nothing(
    center: Center, changes: dict[str, Any], why: str
) -> None:
    first = exit_record(1)
    await center.say(first)
    ((verdict, reason),) = await center.say(correction(2, first, **changes))
    assert verdict == "refused"
    assert reason.startswith(why)
    lane = await center.get("/v1/lanes/X03")
    assert (lane["stored"], lane["corrections"]) == (1, 0)
    assert await center.say(correction(2, first, vehicleClass=8)) == [("accepted", "")]


async def test_a_record_is_corrected_once_and_only_by_a_later_one(center: Center) -> None:
    first, second = exit_record(1), exit_record(2)
    await center.say(first, second)
    await center.say(correction(3, first, vehicleClass=8))
    again = await center.say(correction(4, first, vehicleClass=9))
    assert again == [("refused", "被更正的流水已有另一条更正")]
    assert await center.say(correction(5, second, vehicleClass=8)) == [("accepted", "")]


async def test_a_correction_whose_record_was_refused_is_taken(center: Center) -> None:
    """The first one's slot is a stub; there is nothing to compare with."""
    bad = exit_record(1, payFee=1)
    ((verdict, _),) = await center.say(bad)
    assert verdict == "refused"
    await center.say({"seq": 1, "id": bad["id"], "stub": True, "refused": "应收不等于"})
    assert await center.say(correction(2, exit_record(1), vehicleClass=8)) == [("accepted", "")]


async def test_every_lane_is_shown_with_its_holes_and_its_last_sign_of_life(
    serving: Serving, http: aiohttp.ClientSession
) -> None:
    """Completeness at a glance: what is missing, up to where all is there, when it last spoke."""
    for seq in (1, 2, 5):
        async with http.post(f"{serving.url}/v1/records", **packed([exit_record(seq)])) as answer:
            assert answer.status == 200
    beat = {"lane": "X04", "at_ms": 1, "lane_key": ""}
    async with http.post(f"{serving.url}/v1/heartbeat", json=beat) as answer:
        assert answer.status == 200
    async with http.get(f"{serving.url}/v1/lanes") as answer:
        one, other = (await answer.json())["lanes"]
    assert (one["lane"], one["high_water"], one["highest_seq"]) == ("X03", 2, 5)
    assert (one["missing"], one["holes"], one["reconciled"]) == (2, [3, 4], [])
    assert (other["lane"], other["stored"], other["missing"]) == ("X04", 0, 0)
    assert other["last_heartbeat"]["at_ms"] == 1


async def test_an_answer_to_many_is_compressed_for_who_takes_it(
    serving: Serving, http: aiohttp.ClientSession
) -> None:
    many = [exit_record(seq) for seq in range(1, 21)]
    async with http.post(f"{serving.url}/v1/records", **packed(many)) as answer:
        told = await answer.json()
        assert answer.headers["Content-Encoding"] in ("gzip", "deflate")
    assert [said["verdict"] for said in told["verdicts"]] == ["accepted"] * 20


# ---- completeness and reconciliation -----------------------------------------------------------


async def test_what_is_missing_is_told_and_a_statement_is_compared(center: Center) -> None:
    beat = {"lane": "X03", "unsent": 2}
    async with center.http.post(f"{center.url}/v1/heartbeat", json=beat) as answer:
        assert (await answer.json())["high_water"] == 0
    lines = [exit_record(seq) for seq in (1, 2, 4)]
    await center.say(*lines)
    tally = Tally()
    for line in lines[:2]:
        tally.add(line["seq"], line["id"], json.dumps(line, ensure_ascii=False).encode())
    signer = Signer(Ed25519PrivateKey.generate())
    for last in (2, 4):
        ours = tally.told("X03", "day", "2025-11-21", 1, last)
        signature = signer.sign(signed_bytes(ours)).hex()
        body = {"statement": ours.model_dump(mode="json"), "key": signer.public_hex}
        url = f"{center.url}/v1/reconciliations"
        async with center.http.post(url, json={**body, "signature": signature}) as answer:
            said = await answer.json()
        assert (said["agrees"], said["ours"]["count"]) == ((last == 2), 2 if last == 2 else 3)
    asked = {"lane": "X03", "ranges": [[1, 2], [3, 3]]}
    async with center.http.post(f"{center.url}/v1/digests", json=asked) as answer:
        told = (await answer.json())["ranges"]
    assert [(one["count"], one["digest"] == ours.digest) for one in told] == [(2, True), (0, False)]
    (lane,) = (await center.get("/v1/lanes"))["lanes"]
    assert (lane["holes"], lane["missing"], lane["highest_seq"]) == ([3], 1, 4)
    assert lane["last_heartbeat"]["unsent"] == 2
    assert [(one["of"], one["agrees"]) for one in lane["reconciled"]] == [("day", False)]
