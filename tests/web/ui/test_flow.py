"""A vehicle through the page: what each press sends, by touch and by keys alone."""

import hashlib
from typing import Any

import pytest

from tests.web.ui import fixtures
from tests.web.ui.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
DIGITS = "62010A12"


async def at(screen: Screen, heading: str) -> None:
    await screen.page.wait_for_selector(f".work h1:has-text('{heading}')")
    await screen.settle()


async def sent(screen: Screen) -> list[str]:
    return [command["command"] for command in screen.script.commands]


class Taps:
    """Counts what a finger does."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.count = screen, 0

    async def primary(self) -> None:
        self.count += 1
        await self.screen.page.locator("[data-primary]").last.tap()

    async def key(self, key: str) -> None:
        self.count += 1
        await self.screen.page.locator(f".work .key:text-is('{key}')").tap()

    async def button(self, name: str) -> None:
        self.count += 1
        await self.screen.page.get_by_role("button", name=name).tap()


async def test_a_common_car_takes_five_taps_when_the_hex_may_come_from_the_card(
    booth: Screen,
) -> None:
    booth.script.obey["quote"] = "priced_from_card"
    await booth.show("idle")
    taps = Taps(booth)
    for heading in ("等待来车", "核对实际车牌", "核对车型"):
        await at(booth, heading)
        await taps.primary()
    await at(booth, "核对金额")
    await taps.button("采用卡内入口站")
    await at(booth, "请确认金额")
    await taps.primary()
    await at(booth, "缴费成功")
    assert taps.count == 5
    assert await sent(booth) == [
        "read",
        "submit_plate",
        "classify",
        "quote",
        "confirm_entry",
        "save",
    ]
    plate, classify, _, entry, _ = booth.script.commands[1:]
    assert plate == {
        "command": "submit_plate",
        "plate": "甘A12345",
        "colour": 0,
        "photo": None,
        "source": "lpr",
    }
    assert classify == {"command": "classify", "vehicle_type": 1, "vehicle_class": 0}
    assert entry == {"command": "confirm_entry", "station_hex": DIGITS, "source": "card"}


async def test_everything_typed_takes_nineteen_taps(booth: Screen) -> None:
    booth.script.obey["read"] = "plate_no_lpr"
    await booth.show("idle")
    taps = Taps(booth)
    await at(booth, "等待来车")
    await taps.primary()
    await at(booth, "核对实际车牌")
    for char in "甘A12345":
        await taps.key(char)
    await taps.primary()
    await at(booth, "核对车型")
    await taps.primary()
    await at(booth, "核对金额")
    for char in DIGITS:
        await taps.key(char)
    await at(booth, "请确认金额")
    await taps.primary()
    await at(booth, "缴费成功")
    assert taps.count == 19
    assert booth.script.commands[1]["source"] == "typed"
    assert booth.script.commands[-2]["station_hex"] == DIGITS


async def test_a_common_car_with_its_hex_typed_takes_twelve_taps(booth: Screen) -> None:
    await booth.show("idle")
    taps = Taps(booth)
    for heading in ("等待来车", "核对实际车牌", "核对车型"):
        await at(booth, heading)
        await taps.primary()
    await at(booth, "核对金额")
    for char in DIGITS:
        await taps.key(char)
    await at(booth, "请确认金额")
    await taps.primary()
    await at(booth, "缴费成功")
    assert taps.count == 12


async def test_a_common_car_takes_as_many_keys_as_taps(booth: Screen) -> None:
    await booth.show("idle")
    pressed = 0
    for heading in ("等待来车", "核对实际车牌", "核对车型"):
        await at(booth, heading)
        await booth.page.keyboard.press("Enter")
        pressed += 1
    await at(booth, "核对金额")
    for char in DIGITS:
        await booth.page.keyboard.press(char)
        pressed += 1
    await at(booth, "请确认金额")
    await booth.page.keyboard.press("Enter")
    await at(booth, "缴费成功")
    assert pressed + 1 == 12


async def test_a_car_by_keys_alone(booth: Screen) -> None:
    booth.script.obey["read"] = "plate_no_lpr"
    await booth.show("idle")
    press = booth.page.keyboard.press
    await at(booth, "等待来车")
    await press("F2")
    await at(booth, "核对实际车牌")
    for key in ("Digit6", "Digit2", "KeyA", "Digit1", "Numpad2", "Digit3", "Digit4", "Digit5"):
        await press(key)
    assert await booth.plate() == "甘A12345"
    await press("Enter")
    await at(booth, "核对车型")
    await press("NumpadEnter")
    await at(booth, "核对金额")
    for char in DIGITS:
        await press(char)
    await at(booth, "请确认金额")
    await press("F10")
    await at(booth, "缴费成功")
    assert (await sent(booth))[-2:] == ["confirm_entry", "save"]


async def test_an_early_enter_on_a_button_that_would_have_worked_is_nothing(
    booth: Screen,
) -> None:
    await booth.show("idle")
    await at(booth, "等待来车")
    early = """() => new Promise(done => {
      const watch = new MutationObserver(() => {
        if (!document.querySelector('.cells')) return;
        watch.disconnect();
        const button = document.querySelector('[data-primary]');
        setTimeout(() => {
          const isEnabled = !button.disabled;
          dispatchEvent(new KeyboardEvent('keydown', { code: 'Enter', key: 'Enter' }));
          done(isEnabled);
        }, 150);
      });
      watch.observe(document.body, { childList: true, subtree: true });
      document.querySelector('[data-primary]').click();
    })"""
    assert await booth.page.evaluate(early), "the button was enabled: Enter would have worked"
    await booth.settle()
    assert await sent(booth) == ["read"]
    await booth.page.keyboard.press("Enter")
    await at(booth, "核对车型")
    assert await sent(booth) == ["read", "submit_plate"]


async def test_a_held_enter_moves_one_step_only(booth: Screen) -> None:
    await booth.show("idle")
    await at(booth, "等待来车")
    for _ in range(12):
        await booth.page.keyboard.down("Enter")
    await at(booth, "核对实际车牌")
    for _ in range(5):
        await booth.page.keyboard.down("Enter")
    await booth.page.keyboard.up("Enter")
    assert await sent(booth) == ["read"]


async def test_a_double_tap_saves_once(booth: Screen) -> None:
    booth.script.delay_s = 0.1
    await booth.show("agreed")
    await at(booth, "请确认金额")
    await booth.page.locator("[data-primary]").dblclick()
    await booth.page.keyboard.press("F10")
    await at(booth, "缴费成功")
    assert await sent(booth) == ["save"]


async def test_the_plate_is_never_taken_from_card_or_tag(booth: Screen) -> None:
    await booth.show("plate_no_lpr")
    assert booth.script.snapshot["passage"]["card"]["plate"] == "甘A12345"
    assert await booth.plate() == ""


async def test_an_edited_reading_says_so(booth: Screen) -> None:
    await booth.show("plate_unsure")
    await at(booth, "核对实际车牌")
    assert await booth.page.locator(".cell.low").count() == 2
    await booth.page.locator(".cell").nth(4).click()
    await booth.page.locator(".alike .key:text-is('8')").click()
    assert await booth.plate() == "甘A12845"
    await booth.primary()
    await at(booth, "核对车型")
    assert booth.script.commands[0]["source"] == "lpr"  # the gateway sees that it was edited


async def test_keys_of_a_full_plate_do_not_look_dead_and_say_what_to_do(booth: Screen) -> None:
    await booth.show("plate")
    assert await booth.page.locator(".letters .key:disabled").count() == 0
    await booth.key("K")
    await booth.page.wait_for_selector(".say:has-text('位数已满')")
    assert await booth.plate() == "甘A12345"


async def test_new_energy_needs_its_own_place(booth: Screen) -> None:
    await booth.show("plate_no_lpr")
    for char in "甘AD1234":
        await booth.key(char)
    await booth.page.locator(".cell.wider").click()
    await booth.key("5")
    checked = booth.page.locator(".colour[aria-checked=true]")
    assert await checked.inner_text() == "渐变绿"
    assert await booth.page.locator("[data-primary]").is_enabled()


async def test_a_chosen_colour_is_not_guessed_again(booth: Screen) -> None:
    await booth.show("plate_no_lpr")
    await booth.page.locator(".colour:text-is('黄')").click()
    for char in "甘A12345":
        await booth.key(char)
    assert await booth.page.locator(".colour[aria-checked=true]").inner_text() == "黄"


async def test_a_lorry_is_classified_weighed_and_priced_by_one_press(booth: Screen) -> None:
    booth.script.obey["classify"] = "classified_truck"
    await booth.show("vehicle_truck")
    await at(booth, "核对车型")
    await booth.primary()
    await at(booth, "核对金额")
    assert await sent(booth) == ["classify", "weigh", "quote"]
    assert booth.script.commands[1] == {
        "command": "weigh",
        "axle_count": 2,
        "weight_kg": 16420,
        "source": "scale",
    }


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ({"state": "ok", "weight_kg": 0, "is_stable": True}, "称台上没有车"),
        ({"state": "missing", "weight_kg": None, "is_stable": False}, "称台未连接"),
        ({"state": "ok", "weight_kg": None, "is_stable": False}, "没有稳定读数"),
    ],
)
async def test_a_lorry_is_not_weighed_where_the_scale_says_nothing(
    booth: Screen, scale: dict[str, Any], words: str
) -> None:
    devices = fixtures.snapshot("vehicle_truck")["devices"]
    devices["scale"] |= scale
    await booth.show("vehicle_truck", devices=devices)
    await at(booth, "核对车型")
    assert words in await booth.page.locator(".work").inner_text()
    assert await booth.page.locator("[data-primary]").is_disabled()


async def test_weight_by_hand_carries_its_reason(booth: Screen) -> None:
    booth.script.obey["classify"] = "classified_truck"
    await booth.show("vehicle_truck")
    await at(booth, "核对车型")
    await booth.page.keyboard.press("F7")
    await booth.page.wait_for_selector(".dialog.weigh")
    await booth.settle()
    for digit in "17250":
        await booth.page.keyboard.press(digit)
    await booth.page.get_by_role("radio", name="称台故障").click()
    await booth.page.keyboard.press("Enter")
    await booth.page.wait_for_selector(".dialog", state="detached")
    await booth.settle()
    await booth.primary()
    await at(booth, "核对金额")
    weigh = booth.script.commands[1]
    assert (weigh["weight_kg"], weigh["source"], weigh["reason"]) == (17250, "typed", "称台故障")


async def sign_as_master(screen: Screen) -> None:
    await screen.page.locator(".work input[name=operator]").fill("9001")
    await screen.page.locator(".work input[name=password]").fill("9001")
    await screen.settle()
    await screen.page.keyboard.press("Enter")


async def test_minimum_fare_with_the_masters_word_which_is_kept_nowhere(booth: Screen) -> None:
    await booth.show("unpriced")
    await at(booth, "核对金额")
    await booth.page.keyboard.press("F9")
    await sign_as_master(booth)
    await at(booth, "请确认金额")
    assert booth.script.commands == [
        {"command": "minimum_fare", "operator": "9001", "password": "9001"}
    ]
    kept = await booth.page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert "9001" not in kept


async def test_a_wrong_master_is_told_at_the_place(booth: Screen) -> None:
    refusal = {"code": "master.refused", "detail": "还可以试 2 次", "action": "请重新输入"}
    booth.script.obey["minimum_fare"] = (403, refusal)
    await booth.show("unpriced")
    await at(booth, "核对金额")
    await booth.page.keyboard.press("F9")
    await sign_as_master(booth)
    await booth.page.wait_for_selector(".work .alert:has-text('还可以试 2 次')")
    assert await booth.page.locator(".work input[name=password]").input_value() == ""


async def test_an_entry_station_by_its_name(booth: Screen) -> None:
    await booth.show("unpriced")
    await at(booth, "核对金额")
    await booth.page.get_by_role("button", name="按站名找").click()
    await booth.page.locator(".work .key:text-is('D')").click()
    await booth.page.locator(".work .key:text-is('X')").click()
    await booth.page.locator(".work .option:has-text('定西'):nth-child(1)").click()
    await at(booth, "请确认金额")
    assert booth.script.commands == [
        {"command": "confirm_entry", "station_hex": "62010C07", "source": "searched"}
    ]


async def test_a_wrong_hex_names_both_stations_where_it_was_typed(booth: Screen) -> None:
    detail = "输入的是 定西（62010C07），算费的入口站是 兰州东"
    booth.script.obey["confirm_entry"] = (
        422,
        {"code": "entry.mismatch", "detail": detail, "action": "请重新输入"},
    )
    await booth.show("priced")
    await at(booth, "核对金额")
    for char in "62010C07":
        await booth.key(char)
    alert = booth.page.locator(".fares .alert")
    await alert.wait_for()
    text = await alert.inner_text()
    assert detail in text
    assert "entry.mismatch" in text
    await booth.key("清")
    assert await booth.page.locator(".hexbox").inner_text() == "········"


async def test_findings_a_master_may_pass(booth: Screen) -> None:
    await booth.show("refused_master")
    await at(booth, "不能按正常收费")
    await booth.primary()
    await booth.page.get_by_role("radio", name="证件齐全").click()
    await sign_as_master(booth)
    await at(booth, "核对实际车牌")
    assert booth.script.commands[0]["reason"] == "证件齐全"


async def test_findings_that_stop_go_to_people(booth: Screen) -> None:
    await booth.show("refused_stops")
    await at(booth, "不能按正常收费")
    assert await booth.page.locator(".refusal li").count() == 3
    await booth.primary()
    await at(booth, "为什么")
    await booth.page.keyboard.press("2")
    await at(booth, "特情处理")
    await booth.page.get_by_role("radio", name="移动支付").click()
    for digit in "4280":
        await booth.key(digit)
    await booth.settle()
    await booth.primary()
    await sign_as_master(booth)
    await at(booth, "移动支付已收")
    hand_over, settle = booth.script.commands
    assert hand_over == {"command": "hand_over", "reason": "卡与标签车牌不一致"}
    assert (settle["means"], settle["amount_fen"], settle["operator"]) == ("mobile", 4280, "9001")
    assert settle["reason"] == "卡与标签车牌不一致", "a reason is asked for once"


async def test_what_is_due_and_why_stand_there_until_somebody_says_otherwise(
    booth: Screen,
) -> None:
    await booth.show("disputed")
    await at(booth, "存疑")
    figure = booth.page.locator(".figure")
    assert await figure.inner_text() == "42.80"
    await booth.key("5")
    assert await figure.inner_text() == "0.05"
    await booth.key("清")
    assert await figure.inner_text() == "42.80"
    await booth.page.get_by_role("button", name="司机拿走卡").click()
    await booth.page.locator(".dialog .option:has-text('卡损坏')").click()
    await booth.page.wait_for_selector(".work button:has-text('卡损坏')")
    await booth.settle()
    await booth.primary()
    await sign_as_master(booth)
    await at(booth, "已收")
    (settle,) = booth.script.commands
    assert (settle["amount_fen"], settle["reason"]) == (4280, "卡损坏")


async def test_the_lowest_screen_says_whose_money_is_settled_by_hand(hand: Screen) -> None:
    await hand.page.set_viewport_size({"width": 360, "height": 640})
    await hand.show("disputed")
    assert await hand.page.locator(".strip .plate").is_visible()
    assert "42.80" in await hand.page.locator(".strip .amount").inner_text()
    assert await hand.page.locator(".work h1").evaluate(
        "e => getComputedStyle(e).clipPath === 'none'"
    )


async def test_an_unknown_result_is_never_called_a_failure(booth: Screen) -> None:
    await booth.show("doubtful")
    text = await booth.page.locator(".work").inner_text()
    assert "扣款结果还不知道" in text
    assert "失败" not in text
    await booth.settle()
    await booth.primary()
    await at(booth, "请确认金额")
    assert await sent(booth) == ["prove"]


async def test_cancel_is_two_keys_and_a_reason(booth: Screen) -> None:
    await booth.show("priced")
    await at(booth, "核对金额")
    await booth.page.keyboard.press("Escape")
    await at(booth, "为什么")
    await booth.page.keyboard.press("1")
    await at(booth, "等待来车")
    assert booth.script.commands == [{"command": "cancel", "reason": "车倒走了"}]


async def test_a_vehicle_put_aside_is_taken_up_again(booth: Screen) -> None:
    await booth.show("priced")
    await at(booth, "核对金额")
    await booth.page.keyboard.press("F11")
    await at(booth, "等待来车")
    await booth.page.get_by_role("button", name="2 辆车挂起").click()
    await booth.page.get_by_role("button", name="续办").first.click()
    await at(booth, "核对金额")
    assert booth.script.commands == [
        {"command": "suspend"},
        {"command": "resume", "passage": "X03-0"},
    ]


async def test_success_carries_number_and_chain_and_goes_by_itself(booth: Screen) -> None:
    await booth.show("agreed")
    await at(booth, "请确认金额")
    await booth.primary()
    await booth.page.wait_for_selector(".work:has-text('#1042 · 7F3A')")
    assert await booth.page.evaluate("sessionStorage.getItem('draft')") is not None
    await booth.page.wait_for_selector(".work h1:has-text('等待来车')")
    assert await booth.page.evaluate("sessionStorage.getItem('draft')") is None


async def test_a_touch_stops_the_countdown(booth: Screen) -> None:
    await booth.show("agreed")
    await at(booth, "请确认金额")
    await booth.primary()
    await at(booth, "缴费成功")
    await booth.page.locator(".work .money").tap()
    await booth.page.wait_for_selector(".countdown.still", state="attached")
    await booth.page.evaluate("new Promise(done => setTimeout(done, 3300))")
    assert await booth.page.locator(".work h1:has-text('缴费成功')").count() == 1
    await booth.page.keyboard.press("Enter")
    await at(booth, "等待来车")


async def test_going_back_corrects_an_earlier_step(booth: Screen) -> None:
    await booth.show("priced")
    await at(booth, "核对金额")
    await booth.page.get_by_role("button", name="上一步").click()
    await at(booth, "核对车型")
    await booth.page.get_by_role("radio", name="客二").click()
    await booth.primary()
    await at(booth, "核对金额")
    assert booth.script.commands[0] == {
        "command": "classify",
        "vehicle_type": 2,
        "vehicle_class": 0,
    }


async def test_without_a_photo_one_goes_on_with_a_reason(booth: Screen) -> None:
    await booth.show("plate_no_photo")
    await at(booth, "核对实际车牌")
    await booth.page.get_by_role("button", name="无照片继续").click()
    await booth.page.locator(".work .option:has-text('相机故障')").click()
    await at(booth, "核对车型")
    assert booth.script.commands[0]["no_photo_reason"] == "相机故障"


async def test_a_photo_that_failed_is_taken_anew(booth: Screen) -> None:
    await booth.show("plate_no_photo")
    await at(booth, "核对实际车牌")
    await booth.page.locator(".say").get_by_role("button", name="拍照").click()
    await at(booth, "核对车型")
    (submit,) = booth.script.commands
    assert (submit["command"], submit["plate"], submit["photo"]) == (
        "submit_plate",
        "甘A12345",
        None,
    )


async def test_another_screens_vehicle_may_only_be_looked_at(booth: Screen) -> None:
    await booth.show("plate_other_screen")
    await at(booth, "核对实际车牌")
    await booth.page.wait_for_selector(".side .alert:has-text('正在手持机上处理')")
    assert await booth.page.locator("[data-primary]").is_disabled()
    await booth.page.keyboard.press("Enter")
    assert booth.script.commands == []


async def test_a_picture_from_the_handheld_is_named_by_its_own_hash(hand: Screen) -> None:
    await hand.show("plate")
    assert await hand.page.locator("label.button:has-text('本机拍照')").is_visible()
    png = await hand.page.screenshot()
    await hand.page.locator("input[type=file]").set_input_files(
        {"name": "p.png", "mimeType": "image/png", "buffer": png}
    )
    await hand.page.wait_for_selector(".work .cells")
    await hand.page.wait_for_selector("label.button:has-text('已拍照')")
    (name, body), *_ = hand.script.photos.items()
    assert body.startswith(b"\xff\xd8\xff")
    assert hashlib.sha256(body).hexdigest() == name
    await hand.settle()
    await hand.primary()
    await at(hand, "核对车型")
    assert hand.script.commands[0]["photo"] == name


async def test_signing_in_opens_a_shift_and_a_lane(booth: Screen) -> None:
    booth.script.session = fixtures.signed_out()
    booth.script.answers["POST session"] = (200, {**fixtures.session(), "shift": None})
    await booth.open()
    await booth.page.locator("input[name=operator]").fill("1001")
    await booth.page.locator("input[name=password]").fill("1001")
    await at(booth, "登录")
    await booth.page.keyboard.press("Enter")
    await at(booth, "上班")
    await booth.page.get_by_role("radio", name="中班").click()
    await booth.page.wait_for_selector("[aria-checked=true]:text-is('中班')")
    await booth.primary()
    await at(booth, "等待来车")


async def test_a_wrong_password_is_told(booth: Screen) -> None:
    booth.script.session = fixtures.signed_out()
    refusal = {
        "code": "session.refused",
        "detail": "工号或密码不对，还可以试 4 次",
        "action": "请核对",
    }
    booth.script.answers["POST session"] = (401, refusal)
    await booth.open()
    await booth.page.locator("input[name=operator]").fill("1001")
    await booth.page.locator("input[name=password]").fill("2")
    await at(booth, "登录")
    await booth.primary()
    await booth.page.wait_for_selector(".alert:has-text('还可以试 4 次')")
