"""What this lane says to the outside, as values. Wire names are the centre's, given as aliases.

The exit record follows the official exit ETC record (domain.md §8.1; order kept). A record is
frozen once written: its line is stored and sent byte for byte (interfaces.md §7.3).
"""

from typing import Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from gateway.units import FEN_MAX

VERSION_MAX = 64  # characters
SHARES_MAX = 64
"""Provinces in one fare; there are 34. Without a bound it would not fit into a journal row."""
PROVINCE_MAX = 16  # characters


class Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel
    )


class ProvinceSplit(Wire):
    prov: str
    p_fee: int = Field(ge=0)
    p_pay_fee: int = Field(ge=0)
    p_m: int = Field(ge=0)


class ClockReading(Wire):
    """When it was, by every clock at hand (reliability.md rule 8)."""

    wall_ms: int
    """What the machine's clock said."""
    monotonic_ms: int
    boot_id: str
    assumed_ms: int | None = None
    """What was taken for the time: the record's own times are by this one."""
    source: str = ""
    """ntp, rtc, manual, unset; empty where nobody asked."""
    is_synchronised: bool | None = None
    error_ms: int | None = None
    offset_ms: int | None = None
    """The centre's clock minus ours, as of its last answer."""


class Approval(Wire):
    """Who authorised what the rules leave to people (MONITOR…)."""

    operator: str
    name: str
    how: str
    at_ms: int


class ExitRecord(Wire):
    """One vehicle that left by this lane (出口交易流水)."""

    id: str = Field(min_length=37, max_length=37)
    seq: int = Field(ge=1)
    """Per lane, without holes."""
    lane: str
    passage_id: str
    outcome: Literal["paid", "doubtful", "by_hand", "unpaid", "cancelled"]
    means: Literal["etc_card", "cash", "mobile", "none"]
    media_type: int = 1
    media_no: str = ""
    trans_pay_type: int
    exit_fee_type: int
    obu_sign: int
    identification: int = 2
    terminal_trans_no: str = ""
    card_id: str
    etc_card_type: int
    card_trans_no: str = ""
    """卡片脱机交易序号 (PAYCARDTRANSN), 4 hex digits: the number of INITIALIZE."""
    ex_time: str
    vehicle_id: str
    identify_vehicle_id: str
    vehicle_type: int
    vehicle_class: int
    tac: str | None = Field(default=None, pattern=r"^[0-9A-F]{8}$")
    trans_fee: int = Field(ge=0)
    trans_type: str = "09"
    terminal_no: str = ""
    pre_balance: int | None = None
    post_balance: int | None = None
    ex_weight: int
    axle_count: int
    limit_weight: int
    overweight_rate: float
    description: str = ""
    special_type: str
    """特情 codes joined by |."""
    en_toll_station_hex: str
    en_toll_lane_hex: str
    en_time: str
    en_weight: int
    en_axle_count: int
    en_toll_station_name: str
    ex_toll_station_name: str
    ex_toll_station_hex: str
    pass_id: str
    vehicle_sign: str
    pay_fee: int = Field(ge=0)
    fee: int = Field(ge=0)
    discount_fee: int = Field(ge=0)
    province_discount_fee: int = 0
    no_card_count: int = 0
    fee_mileage: int
    short_fee: int = 0
    short_fee_mileage: int = 0
    fee_rate: float = 0
    spc_rate_version: str = ""
    card_total_amount: int = 0
    obu_total_amount: int = 0
    obu_total_discount_amount: int = 0
    total_count: int = 0
    province_count: int = 0
    split_province: tuple[ProvinceSplit, ...] = ()
    algorithm_identifier: int = 0
    key_version: int = 0
    card_version: int = 0
    mac2: str = ""
    """verified, refused or unchecked: what the PSAM said of the card's answer."""
    tac_source: str = ""
    """answered (by the debit) or proved (by GET TRANSACTION PROOF)."""
    photo: str | None = None
    plate_source: str = ""
    entry_source: str = ""
    weight_source: str = ""
    reason: str = ""
    approval: Approval | None = None
    operator: str
    operator_name: str = ""
    shift: int
    shift_date: str
    param_versions: dict[str, str]
    clock: ClockReading
    prev_chain: str = ""
    """Chain value of this lane's record before this one; the first stands on nothing."""
    lane_app_ver: str
    is_training: bool = False
    is_stub: bool = False
    """Only holds the place of a passage that was begun and cancelled: no vehicle left, no money."""
    corrects: str | None = Field(default=None, min_length=37, max_length=37)
    """Id of the record that this one corrects; both stand, this one counts."""
    adjust_fee: int = 0
    """Of a correction: its fee minus the corrected record's."""

    @model_validator(mode="after")
    def _the_sums_agree(self) -> Self:
        """domain.md §6.4: payFee = fee + discounts, and the purse fell by what was taken."""
        if self.pay_fee != self.fee + self.discount_fee + self.province_discount_fee:
            raise ValueError("payFee is not fee + discountFee + provinceDiscountFee")
        if self.is_stub != (self.outcome == "cancelled") or (self.is_stub and self.pay_fee):
            raise ValueError("a stub is what a cancelled passage leaves, and has no money")
        if self.adjust_fee and not self.corrects:
            raise ValueError("only a correction adjusts a fee")
        if self.outcome == "paid" and self.means == "etc_card":
            if self.pre_balance is None or self.post_balance is None:
                raise ValueError("a debited record needs both balances")
            if self.pre_balance - self.post_balance != self.trans_fee:
                raise ValueError("the purse did not fall by transFee")
        return self


class FareRequest(Wire):
    """POST {centre}/v1/fares: what the online services need to find the path."""

    passage_id: str
    pass_id: str
    entry_hex: str
    exit_hex: str
    vehicle_type: int
    vehicle_class: int
    axle_count: int
    entry_time: str
    plate: str
    plate_colour: int
    kind: Literal[4, 5]
    """Which service is asked: 4 province, 5 ministry."""


class FareAnswer(BaseModel):
    """The centre's answer to a `FareRequest`; unknown fields are ignored, money is fen.

    Example: {"amount_fen": 3800, "fee95_fen": 3610, "kind": 4, "mileage_m": 95000, "split": []}.
    `fee95_fen` is the ETC price from the centre's table; without it there is no discount.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    amount_fen: int = Field(
        ge=0,
        le=FEN_MAX,
        validation_alias=AliasChoices("amount_fen", "amountFen", "amount"),
        serialization_alias="amount_fen",
    )
    fee95_fen: int | None = Field(
        default=None,
        ge=0,
        le=FEN_MAX,
        validation_alias=AliasChoices("fee95_fen", "fee95Fen", "fee95"),
        serialization_alias="fee95_fen",
    )
    kind: Literal[4, 5] = 4
    mileage_m: int = Field(default=0, ge=0, le=FEN_MAX)
    version: str = Field(default="", max_length=VERSION_MAX)
    split: tuple[ProvinceSplit, ...] = ()

    @field_validator("split", mode="wrap")
    @classmethod
    def _a_split_we_cannot_read_costs_no_fare(
        cls, given: Any, read: ValidatorFunctionWrapHandler
    ) -> Any:
        try:
            split: tuple[ProvinceSplit, ...] = read(given)
        except ValidationError:
            return ()
        is_readable = len(split) <= SHARES_MAX and all(len(s.prov) <= PROVINCE_MAX for s in split)
        return split if is_readable else ()
