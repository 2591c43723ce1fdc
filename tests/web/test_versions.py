"""The place of versions: what is in force, what comes, what it would change, what was refused."""

from typing import Any

from gateway.web.places import _table
from gateway.web.words import LANGUAGES, speaking

SAY = speaking(LANGUAGES[0])
REPORT = {
    "passages": 5000,
    "dearer": 7,
    "cheaper": 5,
    "lost": 2,
    "difference_fen": 320,
    "worst": [
        {"station_name": "兰州东", "vehicle_type": 1, "before_fen": 3610, "after_fen": None},
        {"station_name": "定西", "vehicle_type": 11, "before_fen": 100, "after_fen": 350},
    ],
}


def table(**changes: Any) -> dict[str, Any]:
    facts = {"name": "minimum_fares", "version": "2", "effective_from_ms": 1_764_518_400_000}
    return {**facts, "age_s": 60, "next": None, "rejected": [], **changes}


def told(**changes: Any) -> str:
    return " ".join(map(str, _table(table(**changes), SAY)["parts"]))


def test_a_coming_table_says_what_it_would_have_changed() -> None:
    coming = {"version": "3", "effective_from_ms": 1_764_604_800_000}
    assert "待生效：3" in told(next={**coming, "rehearsal": None})
    text = told(next={**coming, "rehearsal": REPORT})
    assert "试算最近 5000 笔：12 笔金额不同，合计 +3.20 元；2 笔算不出" in text
    assert "兰州东 1：36.10 → —" in text
    assert "定西 11：1.00 → 3.50" in text


def test_a_big_list_says_how_many_and_whether_it_is_damaged() -> None:
    listed = {"entries": 50_000_000, "is_damaged": False}
    assert "50,000,000 个号码" in told(name="status_list", listed=listed)
    row = _table(table(name="status_list", listed={**listed, "is_damaged": True}), SAY)
    assert row["look"] == "bad"
    assert "正在重新取" in str(row["parts"])


def test_a_refused_table_says_why() -> None:
    assert "✕ 9 签名不对" in told(rejected=[{"version": "9", "reason": "签名不对"}])
