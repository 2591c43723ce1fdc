"""同步 on screen: how far the centre has got, what it refused, and a refused record sent once more.

A record is 未传, 已送达 (a broker has it and the centre has not spoken; by NATS only), 已确认 or
被退回. What is wrong in a refused one is corrected (mending.py); what is right goes again as it is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from gateway.errors import NotFound
from gateway.sync.proof import Proven
from gateway.web import history, ops
from gateway.web.api import SELLERS, require
from gateway.web.blocks import Block, age, day, facts, line, moment
from gateway.web.documents import AGAIN_MS, Document, lane_asked, read_answer
from gateway.web.words import REASONS, Say

RESENT_ROWS = 20_000  # of the journal: some 1 700 vehicles
RESENT_SHOWN = 5
RESENT = """
    SELECT j.at_ms, j.operator, j.body, r.seq, d.verdict, d.reason, d.stub_sent
    FROM journal j JOIN record r ON r.id = json_extract(j.body, '$.record')
      AND r.lane = j.lane
    LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq
    WHERE j.lane = ? AND j.event = 'record_resent'
      AND j.seq > (SELECT max(seq) FROM journal) - ? ORDER BY j.seq DESC LIMIT ?
"""
AGAIN = 2
"""`stub_sent` of a record that is on its way once more."""


async def document(request: web.Request, say: Say) -> Document:
    told, lane = read_answer(await history.sync(request)), lane_asked(request)
    snapshot, parked = lane.snapshot(), told["parked"]
    passages = await _passages_of(request, [record["id"] for record in parked])
    mended = await _mended(request, list(passages.values()), say)
    may_sell = require(request).role in SELLERS
    waiting, settled = (
        [
            _parked(record, passages.get(record["id"], ""), mended, may_sell, say)
            for record in parked
            if (record.get("state") == "corrected") is is_settled
        ]
        for is_settled in (False, True)
    )
    resent = await _resent(request, lane.lane, say)
    is_waiting = bool(told["backlog"]["count"]) or any(
        record.get("state") == "resending" for record in parked
    )
    return {
        "blocks": [
            _standing(told, snapshot, _proven(request), say),
            *(_without_a_line(say) if not (told["online"] and snapshot["sync"]["online"]) else []),
            {"h": say("parked")},
            {"rows": waiting, "empty": say("parked.none")},
            *([line(say("parked.call"))] if waiting else []),
            *([{"h": say("corrected")}, {"rows": settled}] if settled else []),
            *([{"h": say("resent")}, {"rows": resent}] if resent else []),
        ],
        "again_ms": AGAIN_MS if is_waiting else None,
    }


def _without_a_line(say: Say) -> list[Block]:
    return [line(f"✓ {say('sync.can')}", "good"), line(f"✕ {say('sync.cannot')}")]


def _proven(request: web.Request) -> Proven:
    vitals = request.app.get(ops.VITALS)
    return vitals.progress().proof if vitals else Proven()


def _standing(told: dict[str, Any], snapshot: Mapping[str, Any], proof: Proven, say: Say) -> Block:
    backlog, delivered = told["backlog"], told["delivered"]
    standing = snapshot.get("standing", {}).get("state", "open")
    return facts(
        (say("sync.link"), say("sync.up" if told["online"] else "sync.down")),
        (say("lane"), say(f"standing.{standing}")) if standing != "open" else None,
        (say("sync.unsent"), say("records", n=backlog["count"] - delivered)),
        (say("sync.delivered"), say("records", n=delivered)) if told["by_broker"] else None,
        (say("parked"), say("records", n=snapshot["sync"]["parked"])),  # as the bar above says
        (say("sync.first"), day(snapshot["sync"]["oldest_unsent_ms"])),
        (say("sync.eta"), age(backlog["drain_s"], say)),
        (say("sync.proof"), _proof(proof, say)),
    )


def _proof(proof: Proven, say: Say) -> str:
    """The newest row without money: how far it came, or how long ago one came all the way."""
    if proof.stopped_at:
        where = say(f"sync.proof.{proof.stopped_at}")
        return say("sync.proof.stopped", where=where, why=proof.detail)
    if proof.detail or proof.age_s is None:
        return proof.detail or say("sync.proof.none")
    return say("sync.proof.whole", age=age(proof.age_s, say))


def _parked(
    record: dict[str, Any], passage_id: str, mended: dict[str, str], may_sell: bool, say: Say
) -> dict[str, Any]:
    """改正后重传: the correction is a new record, which is sent by itself. 原样重传: as it is."""
    told = [{"b": f"#{record['seq']} {record['reason']}"}, record["id"]]
    if record.get("state") == "resending":
        return {"look": "warn", "parts": [*told, say("resend.waits")]}
    if after := mended.get(passage_id):
        opens = {"label": say("passage"), "go": f"passage/{passage_id}"}
        return {"look": "warn", "parts": [*told, after], "button": opens}
    if not passage_id or not may_sell:
        return {"look": "bad", "parts": told}
    mends = {"label": say("correct.again"), "go": f"correct/{passage_id}"}
    again = {"label": say("resend"), "go": f"resend/{record['id']}"}
    return {"look": "bad", "parts": told, "button": [mends, again]}


async def resend(request: web.Request, say: Say) -> Document:
    """One refused record: why it was refused, and a master's word to send it again as it is.

    Raises: NotFound, if it is not refused (any more).
    """
    id_, reason = request.match_info["id"], request.query.get("reason", "")
    known = await request.app[history.SYNC].parked()
    record = next((one for one in known if one["id"] == id_), None)
    if record is None:
        raise NotFound("这条流水没有被退回，或已经处理", "请返回同步页再看")
    texts = [[text, text] for text in REASONS["resend"].split()]
    send = {
        "label": say("resend"),
        "method": "POST",
        "path": f"/api/parked/{id_}/resend",
        "body": {"reason": reason},
        "needs_credentials": True,
        "leaves": True,
        "off": not reason,
    }
    return {
        "title": say("resend"),
        "blocks": [
            facts(
                (say("seq"), f"#{record['seq']}"),
                (say("resend.words"), record["reason"] or "—"),
            ),
            line(say("resend.hint")),
            {"choices": texts, "name": "reason", "label": say("reason"), "chosen": reason},
            {"credentials": say("master.number")},
        ],
        "primary": send,
    }


async def _resent(request: web.Request, lane: str, say: Say) -> list[dict[str, Any]]:
    """What came of those that were sent again, newest first."""
    store = request.app[history.STORE]
    rows = await store.rows(RESENT, lane, RESENT_ROWS, RESENT_SHOWN)
    return [_outcome(row, say) for row in rows]


def _outcome(row: Any, say: Say) -> dict[str, Any]:
    said = json.loads(row["body"])
    if row["verdict"] != "refused":
        look, fate = "good", say("resend.taken" if row["verdict"] else "resend.waits")
    elif row["stub_sent"] == AGAIN:
        look, fate = "warn", say("resend.waits")
    else:
        look, fate = "bad", say("resend.refused", reason=row["reason"] or "—")
    who = say("resend.by", who=said["by"], at=moment(row["at_ms"]))
    return {"look": look, "parts": [{"b": f"#{row['seq']} {fate}"}, who, said["reason"]]}


async def _passages_of(request: web.Request, ids: Sequence[str]) -> dict[str, str]:
    """Record → the passage it is of."""
    places = ",".join("?" * len(ids))
    sql = f"SELECT id, passage_id FROM record WHERE id IN ({places})"  # noqa: S608 only marks
    rows = await request.app[history.STORE].rows(sql, *ids) if ids else []
    return {row["id"]: row["passage_id"] for row in rows}


async def _mended(request: web.Request, passages: Sequence[str], say: Say) -> dict[str, str]:
    """Passage → its newest correction, and where that is."""
    places = ",".join("?" * len(passages))
    sql = (
        "SELECT r.lane, r.passage_id, r.seq, d.verdict FROM record r"  # noqa: S608 only marks
        " LEFT JOIN delivery d ON d.lane = r.lane AND d.seq = r.seq"
        f" WHERE r.corrects IS NOT NULL AND r.passage_id IN ({places}) ORDER BY r.seq"
    )
    rows = await request.app[history.STORE].rows(sql, *passages) if passages else []
    sync = request.app[history.SYNC]
    return {
        row["passage_id"]: say(
            "correct.since", seq=row["seq"], fate=history.delivery_of(row, sync.delivered)
        )
        for row in rows
    }
