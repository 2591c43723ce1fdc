"""Chinese number plates: shape and colour. Pure; the page has the same rules in plate.js.

Shapes: ui.md §2.9 (GA 36; new-energy letters D A B C E F G H J K). Colours: domain.md §3.1.
"""

import re

from gateway.errors import PlateInvalid

PROVINCES = "京津冀晋蒙辽吉黑沪苏浙皖闽赣鲁豫鄂湘粤桂琼渝川贵云藏陕甘青宁新"
COLOURS = {
    0: "蓝",
    1: "黄",
    2: "黑",
    3: "白",
    4: "渐变绿",
    5: "黄绿双拼",
    6: "蓝白渐变",
    7: "临时",
    9: "未确定",
    11: "绿",
    12: "红",
}
NO_PLATE = re.compile(r"无牌\d{0,8}$|默A00000")

_LETTER = "A-HJ-NP-Z"
_ANY = f"{_LETTER}0-9"
_SHAPES = tuple(
    re.compile(shape)
    for shape in (
        rf"[{PROVINCES}][{_LETTER}O][{_ANY}]{{4}}[{_ANY}挂学警港澳领使试超]",
        rf"[{PROVINCES}][{_LETTER}][DABCEFGHJK][{_ANY}]\d{{4}}",  # small new-energy
        rf"[{PROVINCES}][{_LETTER}]\d{{5}}[DABCEFGHJK]",  # large new-energy
        rf"[{PROVINCES}][{_LETTER}][{_ANY}]{{3,4}}应急",
        rf"WJ[{PROVINCES}]?[{_ANY}]{{5}}",
        rf"[{_LETTER}O]{{2}}[{_ANY}]{{5}}",  # military
        r"使\d{6}",
        r"\d{6}使",
        rf"民航[{_ANY}]{{5}}",
        rf"[{PROVINCES}][{_LETTER}][{_ANY}]{{4,5}}临",
    )
)


def check_plate(plate: str, colour: int) -> str:
    """The plate, as it goes into the record. Raises: PlateInvalid, saying what is wrong."""
    if colour not in COLOURS:
        raise PlateInvalid(f"没有这种车牌颜色：{colour}")
    if NO_PLATE.fullmatch(plate) or any(shape.fullmatch(plate) for shape in _SHAPES):
        return plate
    raise PlateInvalid(f"车牌格式不对：{_fault(plate)}")


def _fault(plate: str) -> str:
    """The first thing a person would correct."""
    if not plate:
        return "没有输入车牌"
    if plate[0] not in PROVINCES + "使WJ民无默" and not plate[0].isascii():
        return f"第 1 位“{plate[0]}”不是省份简称"
    for place, char in enumerate(plate[2:], start=3):
        if char in "IO":
            return f"第 {place} 位不能是 I 或 O"
    if len(plate) not in (7, 8):
        return f"有 {len(plate)} 位，应为 7 位（新能源 8 位）"
    return f"“{plate}”"
