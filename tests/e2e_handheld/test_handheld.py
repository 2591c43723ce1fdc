"""A handheld and the booth at one real demo process: paired, sells, is watched, is sent away."""

import asyncio
import hashlib
import hmac
import json
import ssl
import struct
from datetime import UTC, datetime, timedelta
from io import BytesIO
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from tests.e2e_handheld import demo as rig
from tests.e2e_handheld.conftest import browser
from tests.e2e_handheld.demo import NONCE, Demo, Screen, claim, offer, pair, trust_by_hash, until

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def digits_by_hand(secret: str, ca: str) -> str:
    """Six digits as a handheld works them out, from the words of domain and pairing alone."""
    bits = "".join(f"{'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.index(c):05b}" for c in secret)
    key = int(bits[:128], 2).to_bytes(16)
    digest = hmac.digest(key, f"lane-pairing\n{NONCE}\n{ca}".encode(), "sha256")
    return f"{struct.unpack('>I', digest[:4])[0] % 10**6:06d}"


async def photo(booth: Screen) -> bytes:
    """A picture of its own: the lane camera's, with a word in it that the camera never wrote."""
    async with booth.http.get(f"{booth.base}/api/lanes/X03/camera.jpg") as answer:
        jpeg = await answer.read()
    comment = b"from a handheld"
    return SOI + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + jpeg[2:]


async def put_photo(screen: Screen, name: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": "image/jpeg"}
    path = f"/api/lanes/X03/photos/{name}"
    return await screen.ask("PUT", path, data=BytesIO(body), headers=headers)


async def arrive(booth: Screen, preset: str = "car") -> dict[str, Any]:
    status, there = await booth.ask("POST", "/bench/vehicle", {"preset": preset})
    assert status == 200, there
    return there


async def begin(screen: Screen, plate: str, photo: str | None = None) -> None:
    """From an idle lane to the fare."""
    await screen.look()
    await screen.go("read", "checked")
    await screen.go("submit_plate", "evidenced", plate=plate, colour=0, source="typed", photo=photo)
    await screen.go("classify", "classified", vehicle_type=1, vehicle_class=0)
    await screen.go("quote", "priced")


async def at_centre(demo: Demo, id_: str) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{demo.center}/v1/records?limit=1000") as answer,
    ):
        body = await answer.json(content_type=None)
    return [record for record in body["records"] if record["id"] == id_]


# ---- pairing ----


async def test_a_handheld_comes_in_by_the_qr_and_six_digits(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    offered = await offer(booth)
    assert offered.url == demo.lan
    hand.trust = await trust_by_hash(offered)

    status, waiting = await claim(hand, offered, "手持 7")
    assert (status, waiting["state"]) == (200, "waiting")
    assert waiting["digits"] == digits_by_hand(offered.secret, offered.ca)
    shown = (await booth.get("/api/pairings"))["pairings"][0]
    assert (shown["digits"], shown["name"]) == (waiting["digits"], "手持 7")
    status, still = await hand.ask("POST", "/pair", {"claim": waiting["claim"]})
    assert (status, still["state"]) == (200, "waiting")
    assert (await hand.ask("GET", "/api/session"))[0] == 401

    await booth.ask("POST", f"/api/pairings/{offered.id}/confirm")
    poll = {"claim": waiting["claim"]}
    async with hand.http.post(f"{hand.base}/pair", json=poll, ssl=hand.trust) as answer:
        cookie = answer.headers["Set-Cookie"]
    for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
        assert word in cookie
    me = await hand.get("/api/session")
    assert (me["operator"], me["owner"]) == (None, f"handheld:{offered.id}")


async def test_a_paired_handheld_gets_the_booths_own_page_and_interface(
    booth: Screen, hand: Screen
) -> None:
    await pair(booth, hand)
    for path in ("/", "/app.js", "/ui.css", "/vendor/lit-html/lit-html.js", "/api/openapi.json"):
        ours, theirs = await booth.ask("GET", path), await hand.ask("GET", path)
        assert ours == theirs, path
        assert ours[0] == 200
    await hand.sign_in("1001")
    of_each = {"at_ms": 0, "screen": None}  # the words are for whoever looks

    async def sees_the_same() -> bool:  # the line to the centre may come up between two looks
        mine, booths = await hand.look(), await booth.look()
        return {**mine, **of_each} == {**booths, **of_each}

    await until(sees_the_same, "the two show the same")


async def test_without_its_credential_a_device_sees_the_pairing_page_and_nothing_else(
    demo: Demo, hand: Screen
) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/app.js"),
        ("GET", "/api/session"),
        ("POST", "/api/session"),
        ("GET", "/api/lanes"),
        ("GET", "/api/live"),
        ("POST", "/api/lanes/X03/commands"),
        ("PUT", f"/api/lanes/X03/photos/{'0' * 64}"),
        ("GET", "/api/lanes/X03/camera.jpg"),
        ("GET", "/api/passages"),
        ("POST", "/api/pairings"),
        ("GET", "/api/openapi.json"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/there/is/nothing"),
        ("GET", "/pair/../app.js"),
    ):
        body = {"operator": "1001", "password": "1001"} if method == "POST" else None
        status, told = await hand.ask(method, path, body)
        assert (status, told["code"]) == (401, "device.not_paired"), (method, path)
    for path in ("/pair", "/pair/pair.js", "/pair/pair.css", "/ca.crt"):
        assert (await hand.ask("GET", path))[0] == 200
    for cookie in ("x" * 43, "' OR 1=1 --"):
        status, _ = await hand.ask("GET", "/api/lanes", cookies={"lane_device": cookie})
        assert status == 401


async def test_bench_and_metrics_are_for_the_booth_alone(booth: Screen, hand: Screen) -> None:
    await pair(booth, hand)
    await hand.sign_in("9001")
    for path in ("/bench/vehicle", "/bench/ledger", "/metrics", "//metrics", "/bench%2Fvehicle"):
        assert (path, (await hand.ask("GET", path))[0]) == (path, 404)
    for method, path in (("POST", "/bench/vehicle"), ("POST", "/bench/faults")):
        assert (await hand.ask(method, path, {"preset": "car"}))[0] == 404
    for path in ("/bench/vehicle", "/metrics"):
        assert (await booth.ask("GET", path))[0] == 200


async def test_the_centres_pull_keeps_its_own_token_on_the_lane_network(hand: Screen) -> None:
    path = "/center/v1/batches"
    assert (await hand.ask("GET", path))[0] == 401
    bearer = {"Authorization": "Bearer demo-pull"}
    assert (await hand.ask("GET", path, headers=bearer))[0] == 200


# ---- the secret ----


async def test_a_used_secret_is_refused_and_the_first_device_stays(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    offered = await offer(booth)
    _, waiting = await claim(hand, offered)
    async with browser() as http:
        late = Screen(demo.lan, http, hand.trust)
        status, told = await claim(late, offered, "迟到的")
        assert (status, told["code"]) == (403, "pairing.refused")
        await booth.ask("POST", f"/api/pairings/{offered.id}/confirm")
        status, told = await late.ask("POST", "/pair", {"claim": "A" * 43})
        assert status == 403
        assert (await hand.ask("POST", "/pair", {"claim": waiting["claim"]}))[0] == 200
        status, told = await claim(late, offered, "迟到的")
        assert (status, told["code"]) == (403, "pairing.refused")
        assert (await late.ask("GET", "/api/session"))[0] == 401
    names = [row["name"] for row in (await booth.get("/api/pairings"))["pairings"]]
    assert names == ["手持 1"]


async def test_a_guesser_has_five_tries_and_then_the_right_secret_is_none(
    booth: Screen, hand: Screen
) -> None:
    offered = await offer(booth)
    for _ in range(5):
        body = {"secret": "B" * 26, "nonce": NONCE, "name": "猜"}
        assert (await hand.ask("POST", "/pair", body))[0] == 403
    assert (await claim(hand, offered))[0] == 403
    assert (await booth.ask("POST", f"/api/pairings/{offered.id}/confirm"))[0] == 404


async def test_only_a_station_master_opens_confirms_and_revokes(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    id_ = await pair(booth, hand)
    await hand.sign_in("1001")
    for method, path in (
        ("POST", "/api/pairings"),
        ("POST", f"/api/pairings/{id_}/confirm"),
        ("DELETE", f"/api/pairings/{id_}"),
    ):
        assert (await hand.ask(method, path))[0] == 403
    assert (await hand.ask("GET", "/api/session"))[0] == 200


# ---- selling ----


async def test_a_handheld_takes_a_vehicle_from_card_to_centre_with_its_own_photo(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    id_ = await pair(booth, hand)
    await hand.sign_in("1001")
    there = await arrive(booth)
    jpeg = await photo(booth)
    name = hashlib.sha256(jpeg).hexdigest()
    assert await put_photo(hand, name, jpeg) == (200, {"sha256": name, "size": len(jpeg)})

    await begin(hand, there["plate"], photo=name)
    passage = hand.snap["passage"]
    assert (passage["owner"], passage["photo"]) == (f"handheld:{id_}", name)
    await hand.go("confirm_entry", "agreed", station_hex=there["entry_hex"], source="typed")
    await hand.go("save", "saved")

    async with hand.http.get(f"{hand.base}/api/photos/{name}", ssl=hand.trust) as answer:
        assert await answer.read() == jpeg
    truth = await booth.get("/bench/vehicle")
    paid = hand.snap["passage"]["quote"]["amount_fen"]
    assert there["balance_fen"] - truth["card"]["balance_fen"] == paid > 0
    record = hand.snap["passage"]["record"]
    [kept] = await until(lambda: at_centre(demo, record["id"]), "the record is at the centre")
    assert json.dumps(kept).count(record["tac"]) >= 1
    async with aiohttp.ClientSession() as http:

        async def has_photo() -> bool:
            async with http.head(f"{demo.center}/v1/evidence/{name}") as answer:
                return answer.status == 200

        await until(has_photo, "the photo is at the centre")


async def test_a_photo_must_be_what_its_name_says(booth: Screen, hand: Screen) -> None:
    await pair(booth, hand)
    jpeg = await photo(booth)
    name = hashlib.sha256(jpeg).hexdigest()
    assert (await put_photo(hand, name, jpeg))[0] == 401  # paired, but nobody is signed in
    await hand.sign_in("1001")
    assert (await put_photo(hand, name, jpeg[:-1] + b"!"))[0] == 422
    junk = b"GIF89a" * 100
    assert (await put_photo(hand, hashlib.sha256(junk).hexdigest(), junk))[0] == 422
    large = SOI + b"\xff\xfe\x00\x02" + bytes(2 * 1024 * 1024) + EOI
    assert (await put_photo(hand, hashlib.sha256(large).hexdigest(), large))[0] == 413
    assert (await hand.ask("GET", f"/api/photos/{name}"))[0] == 404


async def test_the_booth_can_only_watch_until_it_puts_the_handhelds_vehicle_aside(
    booth: Screen, hand: Screen
) -> None:
    id_ = await pair(booth, hand)
    await hand.sign_in("1001")
    there = await arrive(booth)
    await begin(hand, there["plate"])
    entry = {"station_hex": there["entry_hex"], "source": "typed"}

    await booth.look()
    for command, body in (("confirm_entry", entry), ("quote", {}), ("cancel", {"reason": "误"})):
        status, told = await booth.press(command, **body)
        assert (status, told["code"]) == (409, "flow.not_owner")
        assert told["snapshot"]["passage"]["owner"] == f"handheld:{id_}"
    passage = booth.snap["passage"]["id"]
    await booth.go("suspend", "idle")

    await hand.look()
    assert hand.snap["suspended"][0]["passage"] == passage
    await booth.go("resume", "priced", passage=passage)
    assert booth.snap["passage"]["owner"] == "booth"
    await hand.look()
    for command, body in (("confirm_entry", entry), ("suspend", {})):
        status, told = await hand.press(command, **body)
        assert (status, told["code"]) == (409, "flow.not_owner")
    await booth.go("confirm_entry", "agreed", **entry)
    await booth.go("save", "saved")
    truth = await booth.get("/bench/vehicle")
    assert (
        there["balance_fen"] - truth["card"]["balance_fen"]
        == (booth.snap["passage"]["quote"]["amount_fen"])
    )


async def test_a_handheld_takes_over_what_the_booth_put_aside(booth: Screen, hand: Screen) -> None:
    id_ = await pair(booth, hand)
    await hand.sign_in("1001")
    there = await arrive(booth)
    await begin(booth, there["plate"])
    passage = booth.snap["passage"]["id"]
    await booth.go("suspend", "idle")
    await hand.look()
    await hand.go("resume", "priced", passage=passage)
    assert hand.snap["passage"]["owner"] == f"handheld:{id_}"
    status, told = await booth.press("quote")
    assert (status, told["code"]) == (409, "flow.stale"), told
    await booth.look()
    status, told = await booth.press("quote")
    assert (status, told["code"]) == (409, "flow.not_owner")
    await hand.go("cancel", "idle", reason="不过站")


# ---- live ----


async def test_the_booth_sees_each_step_of_the_handheld_live_and_the_other_way_round(
    booth: Screen, hand: Screen
) -> None:
    await pair(booth, hand)
    await hand.sign_in("1001")
    there = await arrive(booth)
    async with (
        hand.http.ws_connect(f"{hand.base}/api/live?lane=X03", ssl=hand.trust) as on_hand,
        booth.http.ws_connect(f"{booth.base}/api/live?lane=X03") as on_booth,
    ):
        await begin(hand, there["plate"])
        rev = hand.snap["rev"]
        for line in (on_hand, on_booth):
            seen = await heard(line, rev)
            assert (seen["state"], seen["passage"]["plate"]) == ("priced", there["plate"])
        await booth.look()
        await booth.go("suspend", "idle")
        assert (await heard(on_hand, booth.snap["rev"]))["state"] == "idle"


async def test_a_session_of_the_booth_is_nothing_on_a_handheld(booth: Screen, hand: Screen) -> None:
    await pair(booth, hand)
    stolen = next(c.value for c in booth.http.cookie_jar if c.key == "lane_session")
    me = (await hand.ask("GET", "/api/session", cookies={"lane_session": stolen}))[1]
    assert me["operator"] is None
    await hand.sign_in("1001")
    taken = next(c.value for c in hand.http.cookie_jar if c.key == "lane_session")
    me = (await booth.ask("GET", "/api/session", cookies={"lane_session": taken}))[1]
    assert me["operator"] != "1001"


async def heard(line: "aiohttp.ClientWebSocketResponse", rev: int) -> dict[str, Any]:
    """The newest snapshot, once it has come as far as `rev`."""
    async with asyncio.timeout(rig.WAIT_S):
        while True:
            message = await line.receive_json()
            if message["type"] == "snapshot" and message["rev"] >= rev and not message["busy"]:
                return dict(message)


# ---- revocation ----


async def test_a_revoked_handheld_is_out_at_once_and_the_booth_goes_on_with_its_vehicle(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    id_ = await pair(booth, hand)
    await hand.sign_in("1001")
    there = await arrive(booth)
    await begin(hand, there["plate"])
    async with hand.http.ws_connect(f"{hand.base}/api/live?lane=X03", ssl=hand.trust) as line:
        await heard(line, hand.snap["rev"])
        assert (await booth.ask("DELETE", f"/api/pairings/{id_}"))[0] == 200
        async with asyncio.timeout(rig.WAIT_S):
            while (await line.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert line.closed
    entry = {"station_hex": there["entry_hex"], "source": "typed"}
    status, told = await hand.press("confirm_entry", **entry)
    assert (status, told["code"]) == (401, "device.not_paired")
    assert (await hand.ask("GET", "/"))[0] == 401
    assert (await booth.get("/api/pairings"))["pairings"] == []

    await booth.look()
    passage = booth.snap["passage"]["id"]
    await booth.go("suspend", "idle")
    await booth.go("resume", "priced", passage=passage)
    await booth.go("confirm_entry", "agreed", **entry)
    await booth.go("save", "saved")
    again = await pair(booth, hand, "新的")
    assert again != id_
    assert (await hand.get("/api/session"))["operator"] is None  # its old session died with it


async def test_one_revocation_leaves_the_other_handheld_alone(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    first = await pair(booth, hand)
    async with browser() as http:
        other = Screen(demo.lan, http, hand.trust)
        await pair(booth, other, "手持 2")
        await other.sign_in("1001")
        async with other.http.ws_connect(f"{other.base}/api/live", ssl=other.trust) as line:
            await booth.ask("DELETE", f"/api/pairings/{first}")
            assert (await hand.ask("GET", "/api/session"))[0] == 401
            assert (await other.ask("GET", "/api/lanes"))[0] == 200
            await line.receive_json(timeout=rig.WAIT_S)
            assert not line.closed


# ---- certificates ----


async def shown_certificates(lan: str, trust: ssl.SSLContext) -> x509.Certificate:
    where = urlsplit(lan)
    reader, writer = await asyncio.open_connection(where.hostname, where.port, ssl=trust)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    del reader
    return x509.load_der_x509_certificate(der)


async def test_a_handheld_whose_clock_is_wrong_still_accepts_the_lane(
    demo: Demo, booth: Screen, trust: ssl.SSLContext
) -> None:
    """A day slow, as after a flat battery: a leaf made today would be "not yet valid"."""
    leaf = await shown_certificates(demo.lan, trust)
    async with booth.http.get(f"{demo.lan}/ca.crt", ssl=trust) as answer:
        authority = x509.load_pem_x509_certificate(await answer.read())
    address = x509.IPAddress(ip_address("127.0.0.1"))

    def accepts(at: datetime) -> bool:
        builder = PolicyBuilder().store(Store([authority])).time(at)
        try:
            builder.build_server_verifier(address).verify(leaf, [])
        except VerificationError:
            return False
        return True

    now = datetime.now(UTC)
    assert accepts(now)
    assert accepts(now - timedelta(hours=36))
    assert accepts(now + timedelta(days=300))
    assert not accepts(now - timedelta(days=3))  # back-dated, not boundless
    assert not accepts(now + timedelta(days=420))


async def test_somebody_in_between_with_the_right_file_and_another_key_is_found_out(
    demo: Demo, booth: Screen, hand: Screen
) -> None:
    trustme = pytest.importorskip("trustme")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    heard: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        offered = await offer(booth)
        hand.trust, hand.base = await trust_by_hash(offered), f"https://127.0.0.1:{port}"
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await claim(hand, offered)
    assert heard == []  # the secret was never said
