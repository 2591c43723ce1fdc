"""A real `lane-gateway demo` process, and a collector's browser in front of it, over HTTP only.

Waiting is polling with an end. The process is stopped by its own id; what it wrote to stderr is
shown when it does not come up.
"""

import asyncio
import itertools
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import aiohttp

T = TypeVar("T")
Json = dict[str, Any]
START_S, STOP_S, WAIT_S = 60.0, 15.0, 30.0
STEPS_MAX = 20
MASTER = {"operator": "9001", "password": "9001"}
ROOT = Path(__file__).parents[2]


class Answer(NamedTuple):
    """What came back, also as the bytes it came in."""

    status: int
    body: Any
    raw: bytes


class NotYet(AssertionError):
    """What was waited for did not happen in time."""


async def until(ask: Callable[[], Awaitable[T | None]], what: str, within_s: float = WAIT_S) -> T:
    """The first answer that is not None or False. Raises: NotYet."""
    end = time.monotonic() + within_s
    while True:
        found = await ask()
        if found is not None and found is not False:
            return found
        if time.monotonic() > end:
            raise NotYet(f"not within {within_s} s: {what}")
        await asyncio.sleep(0.03)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


class Browser:
    """One collector's page at one lane: cookie, Idempotency-Key, If-Match; and the bench beside it.

    `car` is what the bench answered when the vehicle was put there.
    """

    def __init__(self, url: str, lane: str = "X03") -> None:
        self.url, self.lane = url, lane
        self.http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True), timeout=aiohttp.ClientTimeout(total=30)
        )
        self.shot: Json = {}
        self.car: Json = {}
        self._keys = itertools.count(1)
        self._name = os.urandom(4).hex()

    async def close(self) -> None:
        await self.http.close()

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        if body is not None:
            more["json"] = body
        async with self.http.request(method, self.url + path, **more) as got:
            raw = await got.read()
            is_json = got.content_type == "application/json"
            return Answer(got.status, await got.json() if is_json else None, raw)

    async def get(self, path: str, **more: Any) -> Any:
        answer = await self.call("GET", path, **more)
        assert answer.status == 200, (path, answer)
        return answer.body

    async def sign_in(self, number: str = "1001") -> None:
        body = {"operator": number, "password": number}
        answer = await self.call("POST", "/api/session", body)
        assert answer.status == 200, answer

    async def look(self) -> Json:
        self.shot = await self.get(f"/api/lanes/{self.lane}")
        return self.shot

    def next_key(self) -> str:
        return f"{self._name}-{next(self._keys)}"

    async def tap(
        self, command: str, *, key: str | None = None, rev: int | None = None, **body: Any
    ) -> Answer:
        """One command as a page sends it. What comes back is the caller's to judge."""
        headers = {
            "Idempotency-Key": key or self.next_key(),
            "If-Match": f'"{self.shot["rev"] if rev is None else rev}"',
        }
        path = f"/api/lanes/{self.lane}/commands"
        answer = await self.call("POST", path, {"command": command, **body}, headers=headers)
        if answer.status == 200 and answer.body["rev"] >= self.shot.get("rev", 0):
            self.shot = answer.body
        return answer

    async def do(self, command: str, **body: Any) -> Json:
        """A command that must be carried out; the new snapshot."""
        if not self.shot:
            await self.look()
        answer = await self.tap(command, **body)
        assert answer.status == 200, (command, self.shot["state"], answer.status, answer.body)
        return self.shot

    async def refused(self, status: int, code: str, command: str, **body: Any) -> Json:
        """A command that must be refused, in Chinese, with nothing changed."""
        before = await self.look()
        answer = await self.tap(command, **body)
        assert (answer.status, answer.body["code"]) == (status, code), answer
        assert is_chinese(answer.body["detail"]), answer.body
        assert is_chinese(answer.body["action"]), answer.body
        assert picture(await self.look()) == picture(before)
        return answer.body

    # ---- a collector's work ----

    async def put(self, preset: str = "car", **fields: Any) -> Json:
        answer = await self.call("POST", "/bench/vehicle", {"preset": preset, **fields})
        assert answer.status == 200, answer
        self.car = answer.body
        return self.car

    async def step(self) -> Json:
        """The next thing a collector does, by what the screen says."""
        command, body = next_tap(self.shot, self.car)
        return await self.do(command, **body)

    async def drive(self, to: str = "saved") -> Json:
        """A new passage, read and brought to the state named."""
        await self.look()
        await self.do("read")
        return await self.drive_on(to)

    async def drive_on(self, to: str = "saved") -> Json:
        """From wherever the passage is to the state named."""
        for _ in range(STEPS_MAX):
            if self.shot["state"] == to:
                return self.shot
            assert self.shot["state"] not in ("idle", "saved"), self.shot["problem"]
            await self.step()
        raise AssertionError(f"stuck in {self.shot['state']}: {self.shot['problem']}")

    async def clear(self) -> None:
        """End whatever stands on the lane, and let everything work again."""
        await self.call("DELETE", "/bench/faults")
        await self.look()
        for _ in range(STEPS_MAX):
            state, aside = self.shot["state"], self.shot["suspended"]
            if state in ("idle", "saved") and not aside:
                await self.call("DELETE", "/bench/vehicle")
                return
            if state in ("idle", "saved"):
                await self.do("resume", passage=aside[0]["passage"])
            elif "cancel" in self.shot["allowed"]:
                await self.do("cancel", reason="演练结束")
            else:
                await self.step()
        raise AssertionError(f"cannot be cleared: {self.shot['state']}")

    # ---- the bench ----

    async def arm(self, device: str, fault: str, **more: Any) -> None:
        body = {"device": device, "fault": fault, **more}
        answer = await self.call("POST", "/bench/faults", body)
        assert answer.status == 200, answer

    async def disarm(self) -> None:
        assert (await self.call("DELETE", "/bench/faults")).status == 200

    async def truth(self) -> Json:
        told: Json = await self.get("/bench/vehicle")
        return told

    async def ledger(self) -> list[Json]:
        told: list[Json] = await self.get("/bench/ledger")
        return told


def next_tap(shot: Json, car: Json) -> tuple[str, Json]:
    """What a collector presses, by the screen and the vehicle in front of the window."""
    match shot["state"]:
        case "idle" | "saved":
            return "read", {}
        case "checked":
            return "submit_plate", {
                "plate": car["plate"],
                "colour": car["colour"],
                "source": "lpr",
            }
        case "evidenced":
            return "classify", {
                "vehicle_type": car["vehicle_type"],
                "vehicle_class": car["vehicle_class"],
            }
        case "classified" if shot["passage"]["needs_weight"]:
            return "weigh", {"axle_count": car["axle_count"], "weight_kg": car["weight_kg"]}
        case "classified":
            return "quote", {}
        case "unpriced":
            return "minimum_fare", dict(MASTER)
        case "priced":
            return "confirm_entry", {"station_hex": car["entry_hex"]}
        case "agreed":
            return "save", {}
        case "doubtful":
            return "prove", {}
        case other:
            raise AssertionError(f"nobody knows what to do in {other}: {shot['problem']}")


def picture(shot: Json) -> Json:
    """A snapshot without what moves by itself, and the words made of that."""
    moving = ("at_ms", "devices", "sync", "parameters", "busy", "top", "side")
    return {key: value for key, value in shot.items() if key not in moving}


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)


class Center:
    """What the centre itself holds. Asks only its own port."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url, self._http = url, http

    async def get(self, path: str) -> Any:
        async with self._http.get(self.url + path) as got:
            assert got.status == 200, (path, got.status)
            return await got.json()

    async def lines(self, lane: str = "X03") -> list[Json]:
        """Every line it booked for a lane, in order of arrival, stubs too."""
        told = await self.get(f"/v1/records?lane={lane}&limit=500")
        lines: list[Json] = told["records"]
        return lines

    async def lane(self, lane: str = "X03") -> Json:
        told: Json = await self.get(f"/v1/lanes/{lane}")
        return told

    async def arrived(self, record_id: str, lane: str = "X03", within_s: float = WAIT_S) -> Json:
        """The record of that id once it is there; and it is there once."""

        async def ask() -> list[Json] | None:
            found = [line for line in await self.lines(lane) if line["id"] == record_id]
            return found if found and not found[0]["stub"] else None

        found = await until(ask, f"record {record_id} at the centre", within_s)
        assert len(found) == 1
        record: Json = found[0]["record"]
        return record

    async def has_photo(self, sha256: str) -> bool:
        async with self._http.head(f"{self.url}/v1/evidence/{sha256}") as got:
            return got.status == 200

    async def is_up(self) -> bool:
        try:
            await self.lane()
        except (aiohttp.ClientError, TimeoutError, AssertionError):
            return False
        return True


class Booth(Browser):
    """The browser together with the demo it looks at."""

    def __init__(self, data: Path) -> None:
        self.port, self.center_port = free_port(), free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.data, self.process = data, None
        self.center = Center(f"http://127.0.0.1:{self.center_port}", self.http)
        data.mkdir(parents=True, exist_ok=True)

    process: asyncio.subprocess.Process | None

    async def __aenter__(self) -> Self:
        await self.start()
        await self.sign_in()
        await self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.close()

    async def start(self) -> None:
        """Until pages are served and the centre answers."""
        with (self.data / "stderr").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "gateway", "demo", "--port", str(self.port), "--data", str(self.data)),
                *("--center-port", str(self.center_port)),
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )
        try:
            await until(self._is_up, "the demo is up", START_S)
        except NotYet:
            await self.stop()
            raise AssertionError((self.data / "stderr").read_text()[-4000:]) from None

    async def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, (self.data / "stderr").read_text()[-4000:]
        try:
            answer = await self.call("GET", "/healthz")
        except (aiohttp.ClientError, TimeoutError):
            return False
        return answer.status == 200 and await self.center.is_up()

    async def stop(self) -> int:
        """As Ctrl+C would; killed if it does not end. The exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise

    async def kill(self) -> None:
        """The plug is pulled."""
        assert self.process is not None
        process, self.process = self.process, None
        process.kill()
        await process.wait()

    async def restart(self) -> None:
        assert await self.stop() == 0
        await self.start()
        await self.look()

    async def saved(self) -> Json:
        """The passage just saved: chips, books, history and centre must say the same of it.

        Returns the record as the centre holds it.
        """
        shot = await self.look()
        assert shot["state"] == "saved", shot["problem"]
        record = await self.center.arrived(shot["passage"]["record"]["id"])
        agree(record, shot, self.car, await self.truth())
        facts = await self.get(f"/api/passages/{shot['passage']['id']}")
        assert (facts["state"], facts["record_id"]) == ("saved", record["id"])
        assert facts["record"]["tac"] == record["tac"]

        async def is_complete() -> bool:  # what is saved now goes before a stub or a backlog
            held = await self.center.lane()
            return held["holes"] == [] and held["high_water"] >= record["seq"]

        await until(is_complete, "no holes at the centre")
        return record

    async def not_debited(self) -> None:
        """The card on the reader is as the bench laid it down, and nothing new is owed."""
        card = (await self.truth())["card"]
        assert card["debits"] == []
        assert (card["balance_fen"], card["card_seq"]) == (
            self.car["balance_fen"],
            self.car["card_seq"],
        )


def agree(record: Json, shot: Json, car: Json, truth: Json) -> None:
    """One paid passage in four tellings: record, screen, what was put there, what chips hold."""
    card, debits = truth["card"], truth["card"]["debits"]
    assert len(debits) == 1, f"debited {len(debits)} times"
    debit = debits[0]
    shown = shot["passage"]["record"]
    assert (record["id"], record["seq"]) == (shown["id"], shown["seq"])
    assert record["tac"] == shown["tac"] == debit["tac"]
    assert record["mac2"] in ("verified", "unchecked")
    assert record["cardTransNo"] == f"{debit['card_seq']:04X}"
    assert debit["card_seq"] == car["card_seq"] == card["card_seq"] - 1
    assert record["terminalTransNo"] == f"{debit['terminal_seq']:08X}"
    assert record["terminalNo"] == debit["terminal_no"] == truth["psam"]["terminal_no"]
    assert debit["terminal_seq"] <= truth["psam"]["terminal_seq"]
    assert record["cardId"] == card["card_id"] == car["card_id"]
    assert record["transFee"] == record["fee"] == debit["amount_fen"]
    assert record["preBalance"] == car["balance_fen"]
    assert record["postBalance"] == card["balance_fen"]
    assert record["preBalance"] - record["postBalance"] == record["fee"]
    assert record["payFee"] == record["fee"] + record["discountFee"]
    assert record["vehicleId"] == f"{shot['passage']['plate']}_{shot['passage']['colour']}"
    assert (card["station_hex"], card["status"]) == (car["exit_hex"], 4)
