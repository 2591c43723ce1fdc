"""What can be wrong with a PSAM, by name, in words for the collector. Asks nobody."""

from collections.abc import Mapping

from gateway.devices.apdu import StatusWord
from gateway.errors import (
    CardAbsent,
    CardRefused,
    DeviceGarbled,
    DeviceUnavailable,
    PsamReason,
    PsamUnavailable,
)

REASONS: Mapping[int, PsamReason] = {
    StatusWord.SECURITY: "unauthorised",
    StatusWord.CONDITIONS: "unauthorised",
    StatusWord.UNSUPPORTED: "unauthorised",
    StatusWord.BLOCKED: "locked",
    StatusWord.LOCKED_FOREVER: "locked",
    StatusWord.COUNTER_FULL: "exhausted",
}
"""What a refusal to open a purchase means; any other word: not a PSAM that can serve this card.

How an unauthorised PSAM refuses differs between makes (special event 97, domain.md §2).
"""
WORDS: Mapping[PsamReason, tuple[str, str]] = {
    "absent": ("卡座里没有 PSAM", "本车道不能扣款，请换车道；维护人员请插好 PSAM 卡"),
    "mute": ("PSAM 没有应答", "本车道不能扣款，请换车道；维护人员请检查 PSAM 卡座和接线"),
    "unauthorised": ("PSAM 没有授权", "本车道不能扣款，请换车道，并请站里给 PSAM 做在线授权"),
    "locked": ("PSAM 已锁定", "本车道不能扣款，请换车道；维护人员请更换 PSAM"),
    "exhausted": ("PSAM 交易序号已用完", "本车道不能扣款，请换车道；维护人员请更换 PSAM"),
    "foreign": ("PSAM 不适用", "本车道不能扣这张卡，请按特情处理，并通知维护人员"),
}
"""What is wrong, what to do: for the collector."""


def named(fault: DeviceUnavailable | CardRefused | DeviceGarbled, foreign: str) -> PsamUnavailable:
    """The same fault as a state of the lane, with its words.

    Args:   foreign: what it means if nothing else is known of it.
    """
    match fault:
        case CardAbsent():
            reason: PsamReason = "absent"
        case DeviceUnavailable():
            reason = "mute"
        case CardRefused():
            reason = REASONS.get(fault.sw, "foreign")
        case _:
            reason = "foreign"
    what, action = WORDS[reason]
    what = foreign if reason == "foreign" else what
    seen = f"SW={fault.sw:04X}" if isinstance(fault, CardRefused) else fault.detail
    detail = what if reason == "absent" else f"{what}（{seen}）"
    named = PsamUnavailable(reason, detail, action)
    named.__cause__ = fault
    return named
