"""What a person at a screen may ask of a lane: the bodies of POST …/commands (interfaces.md §2)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter

REASON_MAX = 200


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Reason = Annotated[str, Field(min_length=1, max_length=REASON_MAX, pattern=r"\S")]
StationHex = Annotated[str, Field(pattern=r"^[0-9A-Fa-f]{8}$")]


class _Approved(_Command):
    """A station master's number and password, or the id of an approval from a paired device."""

    operator: str | None = None
    password: SecretStr | None = None
    approval: str | None = None


class Read(_Command):
    """读卡"""

    command: Literal["read"]


class SubmitPlate(_Command):
    """车牌号 颜色 拍照 提交图片数据"""

    command: Literal["submit_plate"]
    plate: str = Field(min_length=1, max_length=12)
    colour: int
    photo: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    source: Literal["lpr", "lpr_edited", "typed"] = "typed"
    no_photo_reason: str = Field(default="", max_length=REASON_MAX)


class Classify(_Command):
    """车型 车种"""

    command: Literal["classify"]
    vehicle_type: int
    vehicle_class: int = 0


class Weigh(_Command):
    """计重信息. `limit_kg` left out: the axle table decides; another value needs a reason."""

    command: Literal["weigh"]
    axle_count: int = Field(ge=2, le=40)
    weight_kg: int = Field(ge=0, le=500_000)
    limit_kg: int | None = Field(default=None, gt=0, le=500_000)
    source: Literal["scale", "typed"] = "scale"
    reason: str = Field(default="", max_length=REASON_MAX)


class Ask(_Command):
    """算费"""

    command: Literal["quote"]


class ConfirmEntry(_Command):
    """站Hex码"""

    command: Literal["confirm_entry"]
    station_hex: StationHex
    source: Literal["typed", "searched", "card"] = "typed"


class UseMinimumFare(_Approved):
    """最小费额计费 + 站长权限"""

    command: Literal["minimum_fare"]


class Override(_Approved):
    """站长同意放过检查发现"""

    command: Literal["override"]
    reason: Reason


class Save(_Command):
    """数据保存"""

    command: Literal["save"]


class Prove(_Command):
    """结果未知 → 查清"""

    command: Literal["prove"]


class HandOver(_Command):
    """特情"""

    command: Literal["hand_over"]
    reason: Reason


class SettleByHand(_Approved):
    """特情 → 按现金、移动支付收费, 或不收费放行; 站长授权"""

    command: Literal["settle_by_hand"]
    means: Literal["cash", "mobile", "unpaid"]
    amount_fen: int = Field(default=0, ge=0, le=100_000_000)
    reason: Reason


class Suspend(_Command):
    """挂起"""

    command: Literal["suspend"]


class Resume(_Command):
    """续办"""

    command: Literal["resume"]
    passage: str = Field(min_length=1, max_length=64)


class Cancel(_Command):
    """取消本笔"""

    command: Literal["cancel"]
    reason: Reason


class PauseLane(_Command):
    """暂停收费: the vehicle in work is finished, no other is begun."""

    command: Literal["pause_lane"]
    reason: Reason


class CloseLane(_Command):
    """关闭车道: as 暂停, for longer."""

    command: Literal["close_lane"]
    reason: Reason


class OpenLane(_Command):
    """恢复收费"""

    command: Literal["open_lane"]
    reason: str = Field(default="", max_length=REASON_MAX)


Command = Annotated[
    Read
    | SubmitPlate
    | Classify
    | Weigh
    | Ask
    | ConfirmEntry
    | UseMinimumFare
    | Override
    | Save
    | Prove
    | HandOver
    | SettleByHand
    | Suspend
    | Resume
    | Cancel
    | PauseLane
    | CloseLane
    | OpenLane,
    Field(discriminator="command"),
]
COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
