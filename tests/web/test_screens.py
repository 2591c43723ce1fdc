"""A snapshot dressed for a screen: its words, what stands beside it, what a restart left there."""

import json
import re
from typing import Any

import pytest

from gateway.flow.passage import State
from gateway.web import words
from gateway.web.screens import SCREENS, dressed
from gateway.web.words import speaking
from tests.web.ui import fixtures

SAY = speaking("zh-CN")
KINDS = {"p", "h", "facts", "rows", "money", "alert", "options"}


def blocks_of(shown: dict[str, Any]) -> list[dict[str, Any]]:
    screens = [shown[name] for name in ("screen", "after", "survivor") if name in shown]
    return [block for screen in screens for block in screen["blocks"]] + shown["side"]


def test_every_state_of_a_lane_has_a_screen() -> None:
    assert set(SCREENS) == {state.value for state in State if state is not State.SUSPENDED}


@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize("name", fixtures.STATES)
def test_every_state_is_dressed_in_both_languages(name: str, language: str) -> None:
    bare = fixtures.snapshot(name)
    shown = dressed(bare, speaking(language), started_ms=0, has_bench=True)
    assert shown.items() >= bare.items()
    assert shown["screen"]["title"]
    assert {next(iter(block)) for block in blocks_of(shown)} <= KINDS
    said = json.dumps(shown, ensure_ascii=False)
    assert not re.search(r"\{\w+\}", said), "a hole was left open"
    assert len(said.encode()) < 8_000


def test_both_languages_have_every_word_and_the_same_holes() -> None:
    for key, said in words._WORDS.items():
        holes = {tuple(sorted(re.findall(r"\{(\w+)\}", text))) for text in said.values()}
        assert len(said) == 2, key
        assert all(said.values()), key
        assert len(holes) == 1, key


def test_the_entry_stations_hex_is_never_told() -> None:
    shown = dressed(fixtures.snapshot("priced"), SAY)
    assert "62010A12" not in json.dumps(shown)


@pytest.mark.parametrize("name", ["refused_stops", "plate", "vehicle", "classified", "unpriced"])
def test_a_vehicle_from_before_a_restart_says_where_it_stands(name: str) -> None:
    bare = fixtures.snapshot(name)
    started_ms = bare["passage"]["opened_at_ms"] + 1
    survivor = dressed(bare, SAY, started_ms)["survivor"]
    state = SAY(f"state.{bare['state']}")
    assert survivor["primary"] == "goOn"
    assert state in json.dumps(survivor["blocks"], ensure_ascii=False)
    assert "没有扣款" in json.dumps(survivor["blocks"], ensure_ascii=False)
    assert "survivor" not in dressed(bare, SAY, bare["passage"]["opened_at_ms"])


@pytest.mark.parametrize("name", ["doubtful", "debiting", "disputed", "saved"])
def test_where_money_may_have_moved_a_restart_promises_nothing(name: str) -> None:
    bare = fixtures.snapshot(name)
    shown = dressed(bare, SAY, bare["passage"]["opened_at_ms"] + 1)
    assert "survivor" not in shown
    assert "没有扣款" not in json.dumps(shown["screen"], ensure_ascii=False)


def test_an_unknown_result_is_never_called_a_failure() -> None:
    said = json.dumps(dressed(fixtures.snapshot("doubtful"), SAY), ensure_ascii=False)
    assert "扣款结果还不知道" in said
    assert "失败" not in said


def test_a_success_without_its_record_is_still_being_written() -> None:
    bare = fixtures.snapshot("saved")
    bare["passage"] |= {"record": None, "paid": None}
    said = json.dumps(dressed(bare, SAY)["screen"]["blocks"], ensure_ascii=False)
    assert "已保存到本机" not in said
    assert "请不要移动卡" in said


@pytest.mark.parametrize(
    ("name", "title", "look", "words"),
    [
        ("saved", "✓ 缴费成功", "center ok", "收费方式：ETC 卡"),
        ("saved_by_hand", "✓ 移动支付已收", "center ok", "收费方式：移动支付"),
        ("saved_unpaid", "已放行 · 未收费", "center ", "应收 42.80 元，没有收费"),
        ("saved_doubtful", "▲ 存疑已登记", "center warn", "卡上可能已经扣款"),
    ],
)
def test_only_what_was_paid_is_called_so(name: str, title: str, look: str, words: str) -> None:
    shown = dressed(fixtures.snapshot(name), SAY)
    assert (shown["screen"]["title"], shown["screen"]["look"]) == (title, look)
    assert words in json.dumps(shown["screen"]["blocks"], ensure_ascii=False)
    taken = "0.00" if name == "saved_unpaid" else "42.80"
    assert shown["strip"][-1] == ["amount", "金额 元", taken]


def test_a_minimum_fare_is_not_spoken_of_where_there_is_none() -> None:
    bare = fixtures.snapshot("unpriced")
    assert "最小费额" in json.dumps(dressed(bare, SAY)["screen"], ensure_ascii=False)
    bare["allowed"] = [one for one in bare["allowed"] if one != "minimum_fare"]
    said = json.dumps(dressed(bare, SAY)["screen"], ensure_ascii=False)
    assert "最小费额" not in said
    assert "先输入或按站名找到入口站" in said


def test_only_steps_that_were_taken_are_ticked() -> None:
    """特情 leaves some out; what was done before it stays done."""
    past = {
        name: dressed(fixtures.snapshot(name), SAY)["screen"].get("past")
        for name in ("saved", "saved_by_hand", "held", "disputed")
    }
    assert past == {
        "saved": None,  # all before the last
        "saved_by_hand": [True, True, True, False, False],
        "held": [True, False, False, False, False],
        "disputed": [True, True, True, False, False],
    }


def test_a_refused_record_is_never_called_confirmed() -> None:
    bare = fixtures.snapshot("saved")
    bare["sync"] |= {"parked": 1, "newest_refused": fixtures.RECORD["seq"]}
    said = json.dumps(dressed(bare, SAY)["screen"]["blocks"], ensure_ascii=False)
    assert "中心退回了这一笔" in said
    assert "中心已确认" not in said
    bare["sync"]["newest_refused"] -= 1  # another record's
    said = json.dumps(dressed(bare, SAY)["screen"]["blocks"], ensure_ascii=False)
    assert "中心已确认" in said


def test_nothing_of_the_last_car_stays_beside_the_idle_screen() -> None:
    shown = dressed(fixtures.snapshot("saved"), SAY)
    beside = json.dumps(shown["after"]["beside"], ensure_ascii=False)
    assert beside == json.dumps(dressed(fixtures.snapshot("idle"), SAY)["side"], ensure_ascii=False)
    assert fixtures.RECORD["tac"] in json.dumps(shown["side"])
    assert fixtures.RECORD["tac"] not in beside


def test_the_balance_is_what_is_left_in_the_purse() -> None:
    def balance(name: str) -> list[Any]:
        side = dressed(fixtures.snapshot(name), SAY)["side"]
        (found,) = (
            block["facts"] for block in side if "facts" in block and len(block["facts"]) == 4
        )
        return list(found[-1])

    assert balance("agreed") == ["余额 元", "500.00"]
    assert balance("saved") == ["余额 元", "457.20"]
    assert balance("saved_by_hand") == ["余额 元", "500.00"]
    for name in ("doubtful", "disputed", "saved_doubtful"):
        assert balance(name) == ["扣款前余额 元", "500.00"], "nobody knows what is left"


def test_a_credit_cards_purse_is_never_shown_as_money() -> None:
    said = json.dumps(dressed(fixtures.snapshot("vehicle_truck"), SAY), ensure_ascii=False)
    assert "记账卡" in said


def test_lamps_that_nobody_foresaw_are_drawn_by_their_own_name() -> None:
    bare = fixtures.snapshot("idle")
    bare["devices"]["gate"] = {"name": "栏杆", "state": "degraded", "text": "抬得慢"}
    assert dressed(bare, SAY)["top"]["lamps"][0] == ["warn", "▲ 栏杆 不稳定"]


def test_the_boxs_own_lamps_have_words_of_their_own() -> None:
    bare = fixtures.snapshot("idle")
    bare["devices"]["disk"] = {"name": "磁盘", "state": "missing", "text": "读写出错"}
    assert dressed(bare, SAY)["top"]["lamps"][0] == ["bad", "▲ 磁盘 不能写"]


def test_a_card_that_will_refuse_is_not_offered_the_debit_first() -> None:
    bare = fixtures.snapshot("agreed")
    bare["passage"]["card"] = {**bare["passage"]["card"], "kind": "stored", "balance_fen": 1}
    screen = dressed(bare, SAY)["screen"]
    assert screen["primary"] == "handOver"
    assert "save" in screen["bar"]
    alerts = [block for block in screen["blocks"] if "alert" in block]
    assert len(alerts) == 1
    bare["problem"] = {"code": "E-215", "detail": "余额不够，没有扣款", "action": ""}
    assert not [b for b in dressed(bare, SAY)["screen"]["blocks"] if "alert" in b]


def test_a_lane_that_takes_no_vehicle_says_so_and_by_whose_word() -> None:
    shown = dressed(fixtures.snapshot("idle_closed"), SAY)
    assert shown["screen"]["title"] == "车道已关闭"
    assert shown["screen"]["primary"] == "openLane"
    assert "1001" in json.dumps(shown["screen"]["blocks"], ensure_ascii=False)
    assert shown["top"]["lamps"][0] == ["bad", "▲ 车道 已关闭"]
    working = dressed(fixtures.snapshot("priced_pausing"), SAY)
    assert working["screen"]["primary"] == "entry", "the vehicle in work goes on"
    assert "办完这一辆后" in json.dumps(working["side"], ensure_ascii=False)


def test_what_should_be_known_is_said_on_every_screen() -> None:
    full = {"code": "E-304", "detail": "磁盘快满了", "action": "请通知站长"}
    for name in ("idle", "priced"):
        shown = dressed({**fixtures.snapshot(name), "notices": [full]}, SAY)
        assert "磁盘快满了" in json.dumps(blocks_of(shown), ensure_ascii=False)


def test_presets_are_offered_only_where_nothing_is_real() -> None:
    bare = fixtures.snapshot("idle")
    training = {**bare, "is_training": True}
    assert "/bench/vehicle" in json.dumps(dressed(training, SAY, has_bench=True))
    assert "/bench/vehicle" not in json.dumps(dressed(training, SAY, has_bench=False))
    assert "/bench/vehicle" not in json.dumps(dressed(bare, SAY, has_bench=True))


def test_the_worst_word_of_the_chip_comes_first() -> None:
    """A handheld has room for one."""
    bare = fixtures.snapshot("idle")
    bare["sync"] |= {"parked": 2}
    assert dressed(bare, SAY)["top"]["sync"] == ["bad", "退回 2 笔", "已同步"]


def test_no_key_stands_for_two_options() -> None:
    shown = dressed(fixtures.snapshot("idle_suspended") | {"is_training": True}, SAY, 0, True)
    counts = [(b.get("from", 1), len(b["options"])) for b in blocks_of(shown) if "options" in b]
    assert counts == [(1, 1), (2, 9)]


@pytest.mark.parametrize("lamp", ["reader", "disk"])
def test_no_card_is_asked_for_where_none_can_be_taken(lamp: str) -> None:
    bare = fixtures.snapshot("idle")
    assert SAY("idle.card") in json.dumps(dressed(bare, SAY)["screen"], ensure_ascii=False)
    bare["devices"][lamp] = {"name": "读卡器", "state": "missing", "text": "读卡器没有连接"}
    said = json.dumps(dressed(bare, SAY)["screen"], ensure_ascii=False)
    assert SAY("idle.card") not in said
    assert "读卡器 读卡器" not in said


def test_no_debit_is_asked_for_where_none_can_be_made() -> None:
    bare = fixtures.snapshot("agreed")
    assert SAY("fare.save") in json.dumps(dressed(bare, SAY)["screen"], ensure_ascii=False)
    bare["devices"]["psam"]["state"] = "missing"
    assert SAY("fare.save") not in json.dumps(dressed(bare, SAY)["screen"], ensure_ascii=False)
    refused = fixtures.snapshot("agreed_refused")
    assert SAY("fare.save") not in json.dumps(dressed(refused, SAY)["screen"], ensure_ascii=False)
