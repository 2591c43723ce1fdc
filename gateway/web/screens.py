"""A lane's snapshot, dressed for a screen: which screen, its words, what stands beside it.

The page adds what people key and choose. Pure: the same snapshot is dressed the same, years later.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.web.blocks import Block, age, clock, facts, freshness, line, money, plate
from gateway.web.words import Say

Snapshot = Mapping[str, Any]

LAST_SHOWN_MS = 60_000  # other people may look at this screen
LATE_MS, VERY_LATE_MS, MANY = 1_800_000, 4 * 3_600_000, 500
MEDIA_DIFFER = range(41, 48)  # findings about card, tag and plate (domain.md §4)
PRESETS = (
    "car", "truck", "minimum_fare", "new_energy", "zero_fare", "no_entry", "listed", "mismatch",
    "low_balance",
)  # fmt: skip
STEPS = ("read", "plate", "vehicle", "fare", "save")
OPEN = ("cancel", "back", "suspend")

SCREENS = {
    "idle": ("idle", "read", ("history", "menu", "lock"), "read"),
    "reading": ("reading", "read", (), None),
    "refused": ("refused", "read", ("cancel", "suspend"), "handOver"),
    "held": ("held", "save", ("cancel", "suspend", "prove"), None),
    "disputed": ("held", "save", ("prove",), None),
    "checked": ("plate", "plate", OPEN, None),
    "evidenced": ("vehicle", "vehicle", OPEN, None),
    "classified": ("fare", "fare", OPEN, "quote"),
    "priced": ("fare", "fare", OPEN, "entry"),
    "unpriced": ("fare", "fare", OPEN, "entry"),
    "agreed": ("fare", "save", OPEN, "save"),
    "preparing": ("saving", "save", (), None),
    "debiting": ("saving", "save", (), None),
    "doubtful": ("doubtful", "save", ("cardGone",), "prove"),
    "saved": ("saved", "save", ("stay",), "next"),
}
"""State → screen, its step, the deeds in its bar, its primary deed."""

OWN_WORDS = ("disk", "clock")
"""Lamps of the box itself, which nobody unplugs."""
SHORT = "E-215"

UNPROVED = ("debiting", "doubtful", "disputed")
"""States in which the card may have been debited."""
UNHURT = ("idle", "reading", "preparing", "debiting", "doubtful", "disputed", "saved")
"""States that a restart leaves with words of their own."""


def dressed(s: Snapshot, say: Say, started_ms: int = 0, has_bench: bool = False) -> dict[str, Any]:
    """The snapshot with `top`, `strip`, `screen`, `side`; `after` a success that was looked at;
    and `survivor` when the passage stood here before the gateway started."""
    passage, state = s["passage"], s["state"]
    more: dict[str, Any] = {
        "busy_word": say(f"busy.{s['busy']}") if s["busy"] else "",
        "top": _top(s, say),
        "screen": _screen(s, state, say, has_bench),
        "steps": [say(f"step.{step}") for step in STEPS],
        "titles": {"plate": say("screen.checked"), "vehicle": say("screen.evidenced")},
    }
    more["side"] = list(_shift(s, say) if passage is None else _beside(passage, state, say))
    if passage is not None:  # between vehicles they stand in the middle of the screen
        more["side"] += [line(f"▲ {n['detail']}", "warn") for n in s.get("notices", ())]
        if not _is_open(s):
            more["side"].append(line(f"▲ {say('standing.after')} {_stands(s, say)}", "warn"))
    if state == "saved":  # once the success was looked at, nothing of that car stays beside
        beside = list(_shift(s, say))
        more["after"] = {**_screen(s, "idle", say, has_bench), "beside": beside}
    if passage is not None:
        more["strip"] = list(_strip(passage, say))
        more["held_by"] = say("owner.booth" if passage["owner"] == "booth" else "owner.hand")
        if passage["opened_at_ms"] < started_ms and state not in UNHURT:
            more["survivor"] = _survivor(s, say)
    return {**s, **more}


# ---- what stays on sight ----


def _top(s: Snapshot, say: Say) -> dict[str, Any]:
    lamps = sorted(s["devices"].items(), key=lambda lamp: lamp[1]["state"] == "ok")
    shift = s["shift"]
    return {
        "shift": say(f"shift.{shift['shift']}") if shift else "",
        "lamps": [_lamp(key, lamp, say) for key, lamp in lamps],
        "sync": _sync(s, say),
    }


def _lamp(key: str, lamp: Mapping[str, Any], say: Say) -> list[str]:
    if lamp["state"] == "ok":
        return ["", f"● {lamp['name']}"]
    look = "bad" if lamp["state"] in ("missing", "closed") else "warn"
    whose = key if key in OWN_WORDS else "device"
    return [look, f"▲ {lamp['name']} {say(whose + '.' + lamp['state'])}"]


def _sync(s: Snapshot, say: Say) -> list[str]:
    sync = s["sync"]
    unsent, oldest_ms = sync["unsent"], sync["oldest_unsent_ms"]
    waited_ms = s["at_ms"] - oldest_ms if oldest_ms else 0
    if not sync["online"]:
        words = [say("chip.offline", n=unsent)]
    else:
        words = [say("chip.sending", n=unsent) if unsent else say("chip.done")]
    if not sync["online"] and waited_ms > LATE_MS:
        words.append(say("chip.oldest", at=clock(oldest_ms)))
    if sync["parked"]:  # a handheld has room for the first word only: the worst
        words.insert(0, say("chip.parked", n=sync["parked"]))
    is_bad = sync["parked"] or unsent > MANY or waited_ms > VERY_LATE_MS
    return ["bad" if is_bad else "" if sync["online"] else "warn", *words]


def _strip(passage: Mapping[str, Any], say: Say) -> Iterable[list[str]]:
    entry, verdict = passage["entry"] or {}, _verdict(passage)
    yield ["", say("entry"), entry.get("station_name") or "—"]
    yield ["booth", say("entry.time"), clock(entry.get("at_ms"))]
    look = "booth bad" if verdict == "differs" else "booth"
    yield [look, say("media"), say(f"media.{verdict}")]
    taken = passage["paid"] or passage["quote"]
    yield ["amount", say("amount"), money(taken and taken["amount_fen"])]


def _verdict(passage: Mapping[str, Any]) -> str:
    """Whether card and tag belong to one vehicle."""
    if not passage["card"]:
        return "none"
    if any(found["code"] in MEDIA_DIFFER for found in passage["findings"]):
        return "differs"
    return "agrees" if passage["tag"] else "only"


# ---- the screen itself ----


def _screen(s: Snapshot, state: str, say: Say, has_bench: bool) -> dict[str, Any]:
    name, step, bar, primary = SCREENS[state]
    if state == "classified" and s["passage"]["needs_weight"]:
        name, step = "vehicle", "vehicle"
    if name == "idle" and not _is_open(s):
        primary = "openLane"
    if state == "agreed" and _is_short(s["passage"]):
        bar, primary = (*bar, "save"), "handOver"
    if state == "refused" and "override" in s["allowed"]:
        bar, primary = (*bar, "handOver"), "override"
    title, look = say(f"screen.{state}"), _LOOKS.get(name, "")
    if primary == "openLane":
        title, look = _stands(s, say), "center bad"
    if state == "saved" and (end := _ending(s["passage"])) != "paid":
        means = say(f"means.{s['passage']['paid']['means']}")
        title, look = say(f"saved.{end}", means=means), f"center {_ENDING_LOOKS[end]}"
    return {
        "name": name,
        "step": STEPS.index(step),
        "title": title,
        "look": look,
        **({"past": _done(s["passage"])} if _is_by_people(s, name) else {}),
        "blocks": [*_BLOCKS[name](s, say), *_practice(s, name, say, has_bench)],
        "bar": bar,
        "primary": primary,
    }


_LOOKS = {
    "idle": "center",
    "reading": "center",
    "refused": "refusal bad",
    "saving": "center",
    "doubtful": "doubt center bad",
    "saved": "center ok",
}


def _is_by_people(s: Snapshot, screen: str) -> bool:
    """Steps were left out on the way: what is ticked cannot be told from the step."""
    return screen == "held" or (screen == "saved" and _ending(s["passage"]) != "paid")


def _done(passage: Mapping[str, Any]) -> list[bool]:
    """Of STEPS, those that this vehicle went through."""
    has_plate, has_type = bool(passage["plate"]), passage["vehicle"]["type"] is not None
    return [passage["card"] is not None, has_plate, has_type, passage["entry_confirmed"], False]


_ENDING_LOOKS = {"by_hand": "ok", "unpaid": "", "doubtful": "warn"}


def _ending(passage: Mapping[str, Any]) -> str:
    """paid, by_hand, unpaid or doubtful: as the record calls its outcome. Only money is green."""
    paid = passage["paid"]
    if paid is None or paid["means"] == "etc_card":
        return "paid"
    if paid["is_doubtful"]:
        return "doubtful"
    return "unpaid" if paid["means"] == "none" else "by_hand"


def _is_open(s: Snapshot) -> bool:
    return bool(s.get("standing", {}).get("state", "open") == "open")


def _works(s: Snapshot, *lamps: str) -> bool:
    """Nobody is told to do what one of these cannot do now."""
    return all(s["devices"].get(lamp, {}).get("state") != "missing" for lamp in lamps)


def _stands(s: Snapshot, say: Say) -> str:
    return say(f"standing.{s['standing']['state']}")


def _idle(s: Snapshot, say: Say) -> Iterable[Block]:
    if _is_open(s):
        if _works(s, "reader", "disk"):
            yield line(say("idle.card"), "big")
    else:
        said = s["standing"]
        yield line(said["reason"], "big")
        yield line(say("standing.since", who=said["operator"], at=clock(said["at_ms"])))
    reader = s["devices"].get("reader", {"state": "ok"})
    if reader["state"] == "missing":
        name, text = reader["name"], reader["text"] or say("device.missing")
        detail = text if text.startswith(name) else f"{name} {text}"
        yield {"alert": detail, "action": say("idle.reader"), "code": "E-112", "level": "bad"}
    for notice in s.get("notices", ()):
        words = {"alert": notice["detail"], "action": notice["action"]}
        yield {**words, "code": notice["code"], "level": "warn"}
    if waiting := len(s["suspended"]):
        label = say("idle.suspended", n=waiting)
        yield {"options": [{"label": label, "go": "suspended"}]}
    if last := s["last"]:
        told = say("idle.last", amount=money(last["amount_fen"]), seq=last["seq"])
        rows = [{"parts": [plate(last), told]}]
        yield {"rows": rows, "until_ms": last["saved_at_ms"] + LAST_SHOWN_MS}
    elif not (s["shift"] and s["shift"]["count"]):
        yield line(say("idle.first"))


def _reading(_: Snapshot, say: Say) -> Iterable[Block]:
    yield line(say("reading.flat"), "big")


def _refused(s: Snapshot, say: Say) -> Iterable[Block]:
    yield line(say("refused.master" if "override" in s["allowed"] else "refused.stops"))
    yield {
        "rows": [
            {
                "look": found["level"],
                "parts": [
                    {"b": found["text"]},
                    f"{say('level.' + found['level'])} · {found['code']}",
                ],
            }
            for found in s["passage"]["findings"]
        ]
    }


def _held(s: Snapshot, say: Say) -> Iterable[Block]:
    if s["state"] == "disputed":
        yield line(f"▲ {say('disputed')}", "warn")


def _nothing(_: Snapshot, __: Say) -> Iterable[Block]:
    return ()


def _fare(s: Snapshot, say: Say) -> Iterable[Block]:
    passage, state = s["passage"], s["state"]
    quote, card = passage["quote"], passage["card"]
    if quote is None:
        yield line(say(_no_fare(s)), "big")
    else:
        yield {"money": money(quote["amount_fen"]), "unit": say("yuan")}
        way = {"from_": quote["station_name"], "to": s["station"]["name"]}
        yield line(say("fare.way", kind=quote["kind_name"], **way))
        if _is_short(passage) and (s["problem"] or {}).get("code") != SHORT:
            yield _short(card["balance_fen"], say)
    if state == "agreed":
        master = passage["approval"]
        name = quote["station_name"] if quote else ""
        who = master and (master["name"] or master["operator"])
        yield line(say("fare.master", who=who) if master else say("fare.agreed", name=name), "big")
        if not (_is_short(passage) or s["problem"]) and _works(s, "reader", "psam", "disk"):
            yield line(say("fare.save"), "big")
    elif "confirm_entry" in s["allowed"]:
        known = quote["station_name"] if quote else ""
        yield line(say("fare.hex", name=known) if known else say("fare.hex.other"))


def _no_fare(s: Snapshot) -> str:
    """What is to be done where there is no fare; without an entry there is no minimum either."""
    if s["state"] != "unpriced":
        return "fare.ask"
    is_lost = "confirm_entry" in s["allowed"] and "minimum_fare" not in s["allowed"]
    return "fare.no_entry" if is_lost else "fare.unpriced"


def _is_short(passage: Mapping[str, Any]) -> bool:
    """The card will refuse: known before it is asked."""
    quote, card = passage["quote"], passage["card"]
    if not quote or not card or card["kind"] != "stored":
        return False
    return bool(card["balance_fen"] < quote["amount_fen"])


def _short(balance_fen: int, say: Say) -> Block:
    told = say("fare.short", balance=money(balance_fen))
    return {"alert": told, "action": say("fare.short.do"), "code": SHORT, "level": "warn"}


def _saving(s: Snapshot, say: Say) -> Iterable[Block]:
    yield line(say("saving.wait"), "big")
    quote = s["passage"]["quote"]
    yield {"money": money(quote and quote["amount_fen"]), "unit": say("yuan")}


def _doubtful(s: Snapshot, say: Say) -> Iterable[Block]:
    """Never 失败: nobody knows yet, and the card itself can tell."""
    passage = s["passage"]
    yield line(say("doubt"), "big")
    amount = money(passage["quote"] and passage["quote"]["amount_fen"])
    number = passage["card"]["number"] if passage["card"] else "—"
    yield line(f"{say('card.number')} {number} · {amount} {say('yuan')}", "big")


def _saved(s: Snapshot, say: Say) -> Iterable[Block]:
    """Only with the number the journal gave; what was taken, and by which means."""
    passage = s["passage"]
    record, paid, quote = passage["record"], passage["paid"], passage["quote"]
    if record is None or paid is None:
        yield from _saving(s, say)
        return
    if paid["means"] != "none":
        yield {"money": money(paid["amount_fen"]), "unit": say("yuan")}
        yield line(say("saved.means", means=say(f"means.{paid['means']}")), "big")
    else:
        yield line(say("saved.nothing", due=money(quote and quote["amount_fen"])), "big")
    if paid["is_doubtful"]:
        yield line(f"▲ {say('saved.doubt')}", "warn")
    shown = passage if passage["plate"] else passage["card"] or passage
    yield {"rows": [{"parts": [plate(shown)]}]}
    yield line(say("saved.disk", seq=record["seq"], chain=record["chain"][:4].upper()), "big")
    fate = _fate(record["seq"], s["sync"])
    yield line(say(f"saved.{fate}"), "bad" if fate == "refused" else "")


def _fate(seq: int, sync: Mapping[str, Any]) -> str:
    """Of this record; that nothing waits does not say that it was taken."""
    if sync.get("newest_refused", 0) >= seq:
        return "refused"
    return "offline" if not sync["online"] else "sending" if sync["unsent"] else "sent"


_BLOCKS = {
    "idle": _idle,
    "reading": _reading,
    "refused": _refused,
    "held": _held,
    "plate": _nothing,
    "vehicle": _nothing,
    "fare": _fare,
    "saving": _saving,
    "doubtful": _doubtful,
    "saved": _saved,
}


def _survivor(s: Snapshot, say: Say) -> dict[str, Any]:
    """Nobody goes on with a half-done vehicle before having read where it stands."""
    passage = s["passage"]
    card, quote = passage["card"] or {}, passage["quote"]
    shown = passage if passage["plate"] else card
    return {
        "name": "survivor",
        "step": STEPS.index(SCREENS[s["state"]][1]),
        "title": say("survivor"),
        "look": "center",
        "blocks": [
            {"rows": [{"parts": [plate(shown), money(quote and quote["amount_fen"])]}]},
            line(say("survivor.at", state=say(f"state.{s['state']}")), "big"),
            line(say("survivor.money"), "good"),
            line(say("survivor.card", number=card.get("number") or "—"), "big"),
        ],
        "bar": ("cancel", "suspend"),
        "primary": "goOn",
    }


def _practice(s: Snapshot, screen: str, say: Say, has_bench: bool) -> list[Block]:
    """Twins only: a vehicle drives up."""
    if not has_bench or not s.get("is_training") or screen != "idle":
        return []
    put = {"method": "POST", "path": "/bench/vehicle", "tell": say("practice.told")}
    tiles = [{"label": say(name), **put, "body": {"preset": name}} for name in PRESETS]
    first = 2 if s["suspended"] else 1
    return [line(say("practice")), {"options": tiles, "from": first}]


# ---- beside it ----


def _shift(s: Snapshot, say: Say) -> Iterable[Block]:
    """What this shift took so far, and how old the list is: a stale one lets cards pass."""
    shift, listed = s["shift"], s["parameters"].get("status_list")
    if shift is None:
        yield line(say("shift.auto"))
        return
    yield facts(
        (say("shift"), say(f"shift.{shift['shift']}")),
        (say("shift.count"), shift["count"]),
        (say("amount"), money(shift["sum_fen"])),
        (say("sync.unsent"), say("records", n=s["sync"]["unsent"])),
    )
    if listed:
        seconds = listed["age_s"]
        yield line(f"{say('list_age')} {age(seconds, say)}", freshness(seconds))


def _beside(passage: Mapping[str, Any], state: str, say: Say) -> Iterable[Block]:
    record = passage["record"]
    if record:
        yield facts((say("seq"), f"#{record['seq']}"), (say("tac"), record["tac"] or "—"))
        yield line(record["id"])
    yield from _explained(passage, say)
    if state != "refused":
        for found in passage["findings"]:
            yield line(f"▲ {found['text']} ({found['code']})", found["level"])
    yield _media(passage, state, say)


def _explained(passage: Mapping[str, Any], say: Say) -> Iterable[Block]:
    """这笔费怎么来的"""
    quote, entry = passage["quote"], passage["entry"]
    if quote is None:
        return
    yield {"h": say("explain")}
    yield facts(
        (say("explain.kind"), quote["kind_name"]),
        (say("mileage"), say("km", n=f"{quote['mileage_m'] / 1000:.1f}")),
        (say("due"), money(quote["pay_fee_fen"])),
        (say("discount"), money(-quote["discount_fen"])),
        (say("entry"), say(f"source.{entry['source']}") if entry else "—"),
        (say("versions"), quote["table_version"]),
    )
    yield from (line(text) for text in quote["explained"])


def _media(passage: Mapping[str, Any], state: str, say: Say) -> Block:
    card, tag = passage["card"] or {}, passage["tag"] or {}
    name, balance = _balance(passage, state)
    return facts(
        (say("card"), card.get("plate") or "—"),
        (say("tag"), tag.get("plate") or passage["tag_fault"] or "—"),
        (say("card.number"), card.get("number") or "—"),
        (say(name), say("card.credit") if card.get("kind") == "credit" else balance),
    )


def _balance(passage: Mapping[str, Any], state: str) -> tuple[str, str]:
    """What is in the purse now; of an unknown debit only what was in it before."""
    card, paid = passage["card"] or {}, passage["paid"]
    left_fen = card.get("balance_fen")
    if left_fen is not None and paid and paid["means"] == "etc_card":
        left_fen -= paid["amount_fen"]
    is_unknown = state in UNPROVED or (paid and paid["is_doubtful"])
    return "balance.before" if is_unknown else "balance", money(left_fen)
