"""What a broker has acknowledged is known to be there until the centre has spoken."""

import os

import pytest

if not os.environ.get("CI"):
    pytest.importorskip("nats", reason="nats is not installed (sh .ci/setup dev)")

import json
from types import SimpleNamespace
from typing import Any

from gateway.errors import CenterUnavailable
from gateway.sync.center import Line
from gateway.sync.stream import ATTEMPT, StreamClient
from gateway.units import SystemClock
from tests.sync.rig import record

SEQS = (1, 2)


def lines() -> list[Line]:
    made = [record(seq) for seq in SEQS]
    return [
        Line(r.seq, r.id, json.dumps(r.model_dump(mode="json", by_alias=True)).encode())
        for r in made
    ]


class Half(StreamClient):
    """A broker that takes everything; the centre behind it answers when it is told to."""

    answers = False

    async def _link(self, lane: str) -> Any:
        return None

    async def _deliver(self, line: Any, subject: str, body: bytes, headers: Any) -> None:
        if self.answers:
            said = [{"seq": one.seq, "id": one.id, "verdict": "accepted"} for one in lines()]
            told = json.dumps({"status": 200, "verdicts": said, "highWater": 2})
            marks = {ATTEMPT: headers[ATTEMPT]}
            await self._hear(SimpleNamespace(headers=marks, data=told.encode()))  # type: ignore[arg-type]


async def test_a_record_is_delivered_between_the_brokers_word_and_the_centres() -> None:
    client = Half("http://127.0.0.1:9", [], "", SystemClock(), timeout_s=0.2)
    assert (client.by_broker, client.delivered()) == (True, set())
    with pytest.raises(CenterUnavailable):
        await client.submit("X03", lines())
    assert client.delivered("X03") == {("X03", seq) for seq in SEQS}
    assert client.delivered("X04") == set()
    client.answers = True
    await client.submit("X03", lines())
    assert client.delivered() == set()
