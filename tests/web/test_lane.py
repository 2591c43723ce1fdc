import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.devices.ports import Frame
from gateway.errors import DeviceUnavailable
from gateway.web.drafts import KEPT_MAX, Draft, Drafts
from gateway.web.lane import PHOTO_SIZE_MAX, WATCHERS_MAX
from tests.web.junk import VALID, bodies
from tests.web.rig import JPEG, Listener, chinese, listening
from tests.web.ui import fixtures

COMMANDS = "/api/lanes/X03/commands"


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    async with listening(tmp_path) as running:
        yield running


@pytest.fixture
async def browser(listener: Listener) -> Any:
    return await listener.signed_in()


async def ask(
    browser: Any, body: Any, rev: str = '"17"', key: str = "k1", status: int = 200
) -> Any:
    headers = {"Idempotency-Key": key, "If-Match": rev}
    answer = await browser.post(COMMANDS, json=body, headers=headers)
    assert answer.status == status, await answer.text()
    return await answer.json()


async def test_lanes_are_listed_enabled_or_not(browser: Any) -> None:
    told = await (await browser.get("/api/lanes")).json()
    assert [(lane["lane"], lane["enabled"]) for lane in told] == [("X03", True), ("X04", False)]
    assert told[0]["name"] == "X03 出口"
    assert told[0]["devices"]["reader"]["state"] == "ok"


async def test_a_snapshot_is_whole(browser: Any, listener: Listener) -> None:
    told = await (await browser.get("/api/lanes/X03")).json()
    assert told.items() >= listener.x03.snapshot().items()
    assert (await browser.get("/api/lanes/X99")).status == 404


async def test_a_command_reaches_the_lane_with_its_person_key_and_rev(
    browser: Any, listener: Listener
) -> None:
    told = await ask(browser, {"command": "read"})
    assert told["rev"] == 18
    ((command, who, key, rev),) = listener.x03.asked
    assert (command.command, who.operator, key, rev) == ("read", "1001", "k1", 17)


async def test_the_plain_rev_is_taken_too(browser: Any) -> None:
    assert (await ask(browser, {"command": "read"}, rev="17"))["rev"] == 18


async def test_a_stale_rev_is_a_409_with_the_snapshot_of_now(
    browser: Any, listener: Listener
) -> None:
    told = await ask(browser, {"command": "read"}, rev='"16"', status=409)
    assert told["code"] == "flow.stale"
    assert told["snapshot"].items() >= listener.x03.snapshot().items()
    assert not listener.x03.asked


async def test_what_the_state_does_not_allow_is_a_409_with_the_snapshot(browser: Any) -> None:
    told = await ask(browser, {"command": "save"}, status=409)
    assert told["code"] == "flow.unexpected"
    assert told["snapshot"]["state"] == "idle"


async def test_the_same_key_again_is_the_same_answer(browser: Any, listener: Listener) -> None:
    first = await ask(browser, {"command": "read"})
    assert await ask(browser, {"command": "read"}) == first
    assert len(listener.x03.asked) == 1


async def test_a_lane_that_is_not_enabled_takes_no_command(
    browser: Any, listener: Listener
) -> None:
    headers = {"Idempotency-Key": "k", "If-Match": "17"}
    answer = await browser.post(
        "/api/lanes/X04/commands", json={"command": "read"}, headers=headers
    )
    assert answer.status == 409
    assert "X04" in (await answer.json())["detail"]
    assert not listener.x04.asked


@pytest.mark.parametrize("missing", ["Idempotency-Key", "If-Match"])
async def test_a_command_without_its_headers_is_a_428(browser: Any, missing: str) -> None:
    headers = {"Idempotency-Key": "k", "If-Match": '"17"'}
    del headers[missing]
    answer = await browser.post(COMMANDS, json={"command": "read"}, headers=headers)
    assert answer.status == 428
    assert missing in (await answer.json())["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Match", "*"),
        ("If-Match", '"17'),
        ("If-Match", 'W/"17"'),
        ("If-Match", "-1"),
        ("If-Match", "1.5"),
        ("If-Match", "9" * 30),
        ("If-Match", '"1", "2"'),
        ("Idempotency-Key", "x" * 65),
        ("Idempotency-Key", "a b"),
        ("Idempotency-Key", "键"),
    ],
)
async def test_a_malformed_header_is_a_422(
    browser: Any, listener: Listener, name: str, value: str
) -> None:
    headers = {"Idempotency-Key": "k", "If-Match": '"17"', name: value}
    answer = await browser.post(COMMANDS, json={"command": "read"}, headers=headers)
    assert answer.status == 422
    assert name in (await answer.json())["detail"]
    assert not listener.x03.asked


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"command": "fly"}, "没有这个命令"),
        ({}, "没有写明命令"),
        ({"command": "submit_plate", "plate": "甘A12345"}, "车牌颜色（colour）没有填"),
        ({"command": "classify", "vehicle_type": "1"}, "车型（vehicle_type）应为整数"),
        ({"command": "classify", "vehicle_type": True}, "车型（vehicle_type）应为整数"),
        ({"command": "classify", "vehicle_type": 1.5}, "车型（vehicle_type）应为整数"),
        ({"command": "weigh", "axle_count": 1, "weight_kg": 1}, "轴数（axle_count）不能小于 2"),
        ({"command": "weigh", "axle_count": 3, "weight_kg": -1}, "总重（weight_kg）不能小于 0"),
        ({"command": "confirm_entry", "station_hex": "62010A1G"}, "站 Hex 码（station_hex）格式"),
        ({"command": "cancel", "reason": ""}, "原因（reason）至少 1 个字"),
        ({"command": "cancel", "reason": "长" * 201}, "原因（reason）最多 200 个字"),
        ({"command": "read", "amount_fen": 1}, "金额（amount_fen）不是这个请求的内容"),
        ({"command": "settle_by_hand", "means": "gold", "reason": "x"}, "收费方式（means）只能是"),
    ],
)
async def test_a_malformed_command_names_the_field_and_what_was_expected(
    browser: Any, listener: Listener, body: Any, says: str
) -> None:
    told = await ask(browser, body, status=422)
    assert told["code"] == "request.invalid"
    assert says in told["detail"]
    assert not listener.x03.asked


async def test_a_password_in_a_bad_command_is_not_told_back(browser: Any) -> None:
    body = {"command": "minimum_fare", "operator": "9001", "password": ["hunter2"]}
    answer = await browser.post(
        COMMANDS, json=body, headers={"Idempotency-Key": "k", "If-Match": "17"}
    )
    assert answer.status == 422
    assert "hunter2" not in await answer.text()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=bodies(), rev=st.sampled_from(['"17"', "17", "x", '"18"']))
@example(body={"command": "classify", "vehicle_type": 10**40}, rev="17")
@example(body={"command": "submit_plate", "plate": "\x00", "colour": -(2**63) - 1}, rev="17")
async def test_no_body_makes_it_a_500(
    browser: Any, listener: Listener, body: Any, rev: str
) -> None:
    listener.x03.allowed = [valid["command"] for valid in VALID]
    headers = {"Idempotency-Key": "k", "If-Match": rev}
    answer = await browser.post(COMMANDS, json=body, headers=headers)
    assert answer.status in (200, 409, 422), await answer.text()
    listener.x03.rev = 17
    listener.x03.answers.clear()
    if answer.status == 422:
        assert chinese((await answer.json())["detail"])


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(body=st.binary(max_size=60))
async def test_no_bytes_make_it_a_500(browser: Any, body: bytes) -> None:
    headers = {"Idempotency-Key": "k", "If-Match": '"17"'}
    assert (await browser.post(COMMANDS, data=body, headers=headers)).status == 422


# ---- photos ----


def name_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def put(browser: Any, name: str, body: Any, lane: str = "X03") -> Any:
    return await browser.put(f"/api/lanes/{lane}/photos/{name}", data=body)


async def test_a_photo_is_kept_under_its_hash_and_comes_back_the_same(browser: Any) -> None:
    for _ in range(2):
        answer = await put(browser, name_of(JPEG), JPEG)
        assert answer.status == 200, await answer.text()
        assert await answer.json() == {"sha256": name_of(JPEG), "size": len(JPEG)}
    back = await browser.get(f"/api/photos/{name_of(JPEG)}")
    assert back.content_type == "image/jpeg"
    assert await back.read() == JPEG


async def test_a_photo_that_is_not_what_its_name_says_is_refused(browser: Any) -> None:
    answer = await put(browser, "0" * 64, JPEG)
    assert answer.status == 422
    assert (await answer.json())["code"] == "photo.invalid"
    assert (await browser.get(f"/api/photos/{'0' * 64}")).status == 404


async def test_what_is_no_jpeg_is_refused(browser: Any) -> None:
    assert (await put(browser, name_of(b"GIF89a"), b"GIF89a")).status == 422


async def test_a_photo_for_no_lane_or_under_no_name_is_refused(browser: Any) -> None:
    assert (await put(browser, name_of(JPEG), JPEG, lane="X99")).status == 404
    assert (await put(browser, "abc", JPEG)).status == 422
    assert (await browser.get("/api/photos/ABC")).status == 422


async def test_an_oversized_photo_is_refused_whether_or_not_it_says_its_size(
    browser: Any,
) -> None:
    big = bytes(PHOTO_SIZE_MAX + 1)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 64 * 1024):
            yield big[start : start + 64 * 1024]

    for body in (io.BytesIO(big), chunks()):
        answer = await put(browser, name_of(big), body)
        assert answer.status == 413
        told = await answer.json()
        assert told["code"] == "photo.invalid"
        assert "2 MB" in told["detail"]


# ---- the camera ----


async def test_the_camera_shows_one_picture(browser: Any) -> None:
    answer = await browser.get("/api/lanes/X03/camera.jpg")
    assert answer.content_type == "image/jpeg"
    assert await answer.read() == JPEG


async def test_a_camera_that_fails_is_a_503_in_chinese(browser: Any, listener: Listener) -> None:
    listener.x03.camera = [DeviceUnavailable("车道相机没有应答")]
    answer = await browser.get("/api/lanes/X03/camera.jpg")
    assert answer.status == 503
    assert (await answer.json())["detail"] == "车道相机没有应答"


async def test_many_who_look_cost_the_lane_one_picture(browser: Any, listener: Listener) -> None:
    asked = [browser.get("/api/lanes/X03/camera.jpg") for _ in range(10)]
    assert {answer.status for answer in await asyncio.gather(*asked)} == {200}
    assert listener.x03.frames_taken < 5


async def test_the_moving_picture_is_pictures_until_the_camera_fails(
    browser: Any, listener: Listener
) -> None:
    listener.x03.camera = [Frame(JPEG, 0, None), Frame(JPEG, 0, None), DeviceUnavailable("没了")]
    answer = await browser.get("/api/lanes/X03/camera.mjpeg")
    assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
    body = await asyncio.wait_for(answer.read(), 10)
    assert body.count(b"--frame\r\nContent-Type: image/jpeg") == 2
    assert body.count(JPEG) == 2


async def test_the_places_at_the_moving_picture_are_bounded_and_free_again(
    browser: Any, listener: Listener
) -> None:
    watching = [await browser.get("/api/lanes/X03/camera.mjpeg") for _ in range(WATCHERS_MAX)]
    refused = await browser.get("/api/lanes/X03/camera.mjpeg")
    assert refused.status == 503
    assert (await refused.json())["code"] == "camera.busy"
    watching[0].close()
    async with asyncio.timeout(10):
        while (again := await browser.get("/api/lanes/X03/camera.mjpeg")).status != 200:
            await asyncio.sleep(0.05)
    for answer in (again, *watching):
        answer.close()


async def test_a_stopping_box_ends_the_moving_picture(browser: Any, listener: Listener) -> None:
    answer = await browser.get("/api/lanes/X03/camera.mjpeg")
    async with asyncio.timeout(5):
        stopping = asyncio.create_task(listener.server.close())
        assert b"--frame" in await answer.read()
        await stopping


def half_typed(**changes: Any) -> dict[str, Any]:
    """As static/state.js has it."""
    editor = {"chars": list("甘A12"), "at": 4, "wide": False, "page": ""}
    draft = {
        "passage": "P1", "editor": editor, "from": "", "touched": True, "typed": True,
        "colour": 0, "colourTouched": False, "photo": None, "hex": "6201", "type": None,
        "class": None, "axles": None, "kilos": "", "weightReason": "", "look": "",
        "means": "cash", "fen": "", "reason": "",
    }  # fmt: skip
    return {**draft, **changes}


async def test_what_is_half_typed_is_kept_for_every_screen(
    browser: Any, listener: Listener
) -> None:
    passage = fixtures.passage(id="P1")
    listener.x03.more = {"state": "checked", "passage": passage}
    before = listener.x03.changes.count
    put = await browser.put("/api/lanes/X03/draft", json=half_typed())
    assert put.status == 200, await put.text()
    assert listener.x03.changes.count == before + 1
    told = await (await browser.get("/api/lanes/X03")).json()
    assert told["draft"] == half_typed()
    listener.x03.more = {"state": "checked", "passage": {**passage, "id": "P2"}}
    assert (await (await browser.get("/api/lanes/X03")).json())["draft"] is None


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"passage": "P9"}, 404),
        ({"hex": "62 1"}, 422),
        ({"editor": None}, 422),
        ({"password": "1001"}, 422),
    ],
)
async def test_what_is_no_draft_of_this_passage_is_not_kept(
    browser: Any, listener: Listener, changes: dict[str, Any], status: int
) -> None:
    listener.x03.more = {"state": "checked", "passage": fixtures.passage(id="P1")}
    put = await browser.put("/api/lanes/X03/draft", json=half_typed(**changes))
    assert put.status == status
    assert (await (await browser.get("/api/lanes/X03")).json())["draft"] is None


async def test_only_the_owners_screen_types(browser: Any, listener: Listener) -> None:
    passage = fixtures.passage(id="P1", owner="handheld:2")
    listener.x03.more = {"state": "checked", "passage": passage}
    put = await browser.put("/api/lanes/X03/draft", json=half_typed())
    assert (put.status, (await put.json())["code"]) == (409, "flow.not_owner")


def test_old_drafts_make_room() -> None:
    drafts = Drafts()
    for n in range(KEPT_MAX + 3):
        drafts.keep(Draft.model_validate(half_typed(passage=f"P{n}")))
    assert drafts.of({"passage": {"id": "P2"}}) is None
    assert drafts.of({"passage": {"id": "P3"}}) is not None
