"""Is this line a record the centre can book? Pure; the lane's own model is not consulted.

Fields the centre does not know are ignored (interfaces.md §7.3). Reasons are Chinese: they come
back to the lane's desk of refused records.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

NO_NUL = r"^[^\x00]*$"  # no text of a database holds one


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel)

    id: str = Field(min_length=37, max_length=37, pattern=NO_NUL)
    seq: int = Field(ge=1, lt=2**63)


class Stub(_Line):
    """Only the slot of a record that was refused (interfaces.md §7.5)."""

    stub: Literal[True]
    refused: str = Field(min_length=1)


class Transaction(_Line):
    """What the centre needs of an exit record (domain.md §8.1) to book it."""

    stub: Literal[False] = False
    lane: str = ""
    outcome: str = "paid"
    means: str = "etc_card"
    card_id: str = ""
    trans_fee: int = Field(default=0, ge=0, lt=2**53)
    tac: str | None = Field(default=None, pattern=r"^[0-9A-F]{8}$")
    pre_balance: int | None = None
    post_balance: int | None = None
    pay_fee: int = Field(ge=0, lt=2**53)
    fee: int = Field(ge=0, lt=2**53)
    discount_fee: int = Field(ge=0, lt=2**53)
    province_discount_fee: int = Field(default=0, gt=-(2**53), lt=2**53)
    is_stub: bool = False
    """The place of a passage that was begun and cancelled: accepted, and no vehicle served."""
    corrects: str | None = Field(default=None, min_length=37, max_length=37, pattern=NO_NUL)
    adjust_fee: int = Field(default=0, gt=-(2**53), lt=2**53)

    @model_validator(mode="after")
    def _sums_agree(self) -> Self:
        """domain.md §6.4"""
        if self.pay_fee != self.fee + self.discount_fee + self.province_discount_fee:
            raise ValueError("应收不等于实收加优惠")
        if self.is_stub != (self.outcome == "cancelled") or (self.is_stub and self.pay_fee):
            raise ValueError("取消的一笔应是没有金额的空流水")
        if self.corrects == self.id or (self.adjust_fee and not self.corrects):
            raise ValueError("更正没有写明更正的是哪一条流水")
        if self.outcome == "paid" and self.means == "etc_card":
            self._check_card()
        return self

    def _check_card(self) -> None:
        if not (len(self.card_id) == 20 and self.card_id.isdecimal()):
            raise ValueError("卡号应为 20 位数字")
        if None not in (before := self.pre_balance, after := self.post_balance):
            assert before is not None
            assert after is not None
            if before - after != self.trans_fee:
                raise ValueError("卡内余额变化与扣款金额不符")


Line = Stub | Transaction


class Slot(BaseModel):
    """The two fields without which no verdict can be given, and which kind of line it is."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    seq: int
    stub: bool = False


def read_line(raw: bytes) -> Line:
    """One NDJSON line. Raises: ValueError with a Chinese reason."""
    try:
        may_be_stub = b'"stub"' in raw  # a look at the bytes is quicker than another reading
        is_stub = may_be_stub and Slot.model_validate_json(raw).stub
        return (Stub if is_stub else Transaction).model_validate_json(raw)
    except ValidationError as bad:
        raise ValueError(_reason(bad)) from bad


def _reason(bad: ValidationError) -> str:
    """The first fault, for people."""
    fault = bad.errors()[0]
    field = ".".join(map(str, fault["loc"]))
    match fault["type"]:
        case "value_error":
            return str(fault["ctx"]["error"])
        case "missing":
            return f"缺少字段 {field}"
        case _:
            return f"字段 {field} 不合要求" if field else "不是一条流水"
