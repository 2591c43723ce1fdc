"""The plate rules of the page against more than 400 plates, and against the gateway's own."""

import json

import pytest

from gateway.errors import PlateInvalid
from gateway.plate import PROVINCES, check_plate
from tests.web.ui.conftest import Screen

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
NEW_ENERGY = "DABCEFGHJK"
TOKENS = ("应急", "民航", "无牌")


def table() -> list[tuple[str, str, int]]:
    """(plate, kind, colour it suggests): every shape in every province, numbers invented."""
    rows: list[tuple[str, str, int]] = []
    for n, province in enumerate(PROVINCES):
        city, digits = LETTERS[n % 24], f"{(n * 7919 + 10243) % 100000:05d}"
        two, mark = LETTERS[(n * 5 + 3) % 24], NEW_ENERGY[n % 10]
        rows += [
            (f"{province}{city}{digits}", "civil", 0),
            (f"{province}{city}{two}{digits[1:]}", "civil", 0),
            (f"{province}{city}{digits[:3]}{two}{digits[4]}", "civil", 0),
            (f"{province}{city}{digits[:3]}{two}{city}", "civil", 0),
            (f"{province}O{digits}", "civil", 0),
            (f"{province}{city}{mark}{digits}", "energy", 4),
            (f"{province}{city}{mark}{two}{digits[1:]}", "energy", 4),
            (f"{province}{city}{digits}{mark}", "energyLarge", 5),
            (f"{province}{city}{digits[1:]}挂", "towed", 1),
            (f"{province}{city}{digits[1:]}学", "towed", 1),
            (f"{province}{city}{digits[1:]}警", "police", 3),
            (f"{province}{city}{digits[1:]}领", "border", 2),
            (f"{province}{city}{digits[:3]}应急", "emergency", 12),
            (f"{province}{city}{digits[1:]}应急", "emergency", 12),
            (f"{province}{city}{digits[1:]}临", "temporary", 7),
            (f"{province}{city}{digits}临", "temporary", 7),
            (f"WJ{province}{digits}", "armed", 3),
        ]
    rows += [(f"粤Z{n}234{tail}", "border", 2) for n in range(5) for tail in "港澳"]
    rows += [
        (f"{a}{b}{n}1234", "military", 3)
        for n, (a, b) in enumerate(zip("VKBS", "ACDE", strict=True))
    ]
    rows += [(f"WJ1234{n}", "armed", 3) for n in range(3)]
    rows += [(plate, "embassy", 2) for plate in ("使123456", "123456使", "使987654")]
    rows += [("民航A1234", "aviation", 11), ("民航12345", "aviation", 11)]
    rows += [("无牌", "none", 9)]
    rows += [(f"京A1234{tail}", "civil", 0) for tail in "试超"]
    return rows


WRONG = [
    *("", "甘", "甘A", "甘A1234", "甘A123456", "甘AI2345", "甘A1O345", "A甘12345", "甘112345"),
    *("甘A12345I", "甘A1234挂5", "澳A12345", "甘A应急123", "使12345", "12345使", "WJ甘1234"),
    *("民航1234", "甘A12345Z", "甘AZ1234Z6", "甘I12345", "甘A1234应急急", "无牌车", "甘a12345"),
    "甘A1234 5",
]
TYPE = """async plates => {
  const rules = await import('/plate.js');
  return plates.map(({ plate, keys }) => {
    let editor = rules.blank();
    for (const key of keys) {
      const isNew = editor.at === 7 && !editor.wide && key !== '临' && editor.chars[0] !== 'W';
      if (isNew) editor = rules.pick(editor, 7);
      const next = rules.press(editor, key);
      if (next === editor) return [plate, `stuck at ${editor.at} with ${key}`];
      editor = next;
    }
    const typed = editor.chars.join('');
    return [plate, typed === plate && rules.faultyPlace(editor) < 0 ? 'ok' : typed];
  });
}"""


def keys(plate: str) -> list[str]:
    """As the pad is pressed: some keys carry two characters."""
    for token in TOKENS:
        plate = plate.replace(token, f"|{token}|")
    return [k for part in plate.split("|") for k in ([part] if part in TOKENS else list(part))]


async def test_the_table_is_as_long_as_promised() -> None:
    assert len({plate for plate, _, _ in table()}) >= 400


async def test_kind_and_colour_of_every_plate(booth: Screen) -> None:
    ask = """async plates => {
      const { kind, guessColour } = await import('/plate.js');
      return plates.map(plate => [plate, kind(plate), guessColour(plate)]);
    }"""
    found = await booth.page.evaluate(ask, [plate for plate, _, _ in table()])
    assert [row for row in zip(map(tuple, found), table(), strict=True) if row[0] != row[1]] == []


async def test_every_plate_can_be_typed_key_by_key(booth: Screen) -> None:
    asked = [{"plate": plate, "keys": keys(plate)} for plate, _, _ in table()]
    found = await booth.page.evaluate(TYPE, asked)
    assert [row for row in found if row[1] != "ok"] == []


async def test_page_and_gateway_agree_on_what_a_plate_is(booth: Screen) -> None:
    for plate, _, colour in table():
        assert check_plate(plate, colour) == plate
    for plate in WRONG:
        with pytest.raises(PlateInvalid):
            check_plate(plate, 0)
    ask = """async plates => {
      const { kind } = await import('/plate.js');
      return plates.filter(kind);
    }"""
    assert await booth.page.evaluate(ask, WRONG) == []


async def test_a_stray_letter_never_makes_a_new_energy_plate(booth: Screen) -> None:
    """The eighth place opens only by +新."""
    ask = """async () => {
      const { blank, press } = await import('/plate.js');
      const full = [...'甘A12345'].reduce(press, blank());
      return [...'DABCEFGHJK0123456789'].map(key => press(full, key) === full);
    }"""
    assert all(await booth.page.evaluate(ask))


async def test_numbers_on_a_keypad_are_provinces_and_letters(booth: Screen) -> None:
    ask = """async () => {
      const { byCode, codeOf, LETTERS, PROVINCES } = await import('/plate.js');
      const codes = Array.from({ length: 100 }, (_, n) => String(n).padStart(2, '0'));
      const provinces = codes.map(code => byCode(0, code)).filter(Boolean).sort().join('');
      return {
        provinces: provinces === [...PROVINCES].sort().join(''),
        letters: LETTERS.every(letter => byCode(1, codeOf(letter)) === letter),
        own: byCode(0, '62'), edge: [byCode(1, '46'), byCode(1, '47')],
      };
    }"""
    found = await booth.page.evaluate(ask)
    assert found == {"provinces": True, "letters": True, "own": "甘", "edge": ["Z", None]}


async def test_a_changed_place_keeps_the_rest(booth: Screen) -> None:
    ask = """async () => {
      const { editorOf, pick, press } = await import('/plate.js');
      return press(pick(editorOf('甘A12B45'), 4), '8').chars.join('');
    }"""
    assert await booth.page.evaluate(ask) == "甘A12845"


async def test_look_alikes_may_stand_where_they_are_offered(booth: Screen) -> None:
    ask = """async () => {
      const { editorOf, lookAlikes, allowed } = await import('/plate.js');
      const editor = editorOf('津D0B2518');
      return editor.chars.map((_, i) => {
        const open = allowed(i, editor.chars, true);
        const alike = lookAlikes(editor, i);
        return [alike.length, alike.every(char => open.has(char))];
      });
    }"""
    found = await booth.page.evaluate(ask)
    assert all(fits for _, fits in found), json.dumps(found)
    assert found[0][0] == 2
