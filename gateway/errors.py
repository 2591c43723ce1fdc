"""What can go wrong, sorted by what the caller should do about it.

GatewayError(code, http_status, retryable; says detail and action in Chinese)
├─ ConfigInvalid            fix the file; exit 78, systemd does not restart
├─ PortTaken                another program listens there
├─ DeviceUnavailable   (r)  reconnect, lane degraded
│  ├─ DeviceBusy       (r)  another program holds it: ours, perhaps
│  ├─ CardAbsent       (r)  nobody on the reader: ask for the card
│  ├─ PsamUnavailable(reason) (r)  no debit without it: close the lane
│  └─ NoAnswer         (r)  it may have been obeyed
├─ DeviceGarbled            bytes break the protocol; keep the trace
├─ CardRefused(sw)          the card said no; tell the collector
├─ CardMismatch             another card than the one this passage is about
├─ OutcomeUnknown           irreversible command, no answer: prove, never repeat
├─ FareUnknown(reason)      no path, no table, no service
├─ RequestInvalid           the request is malformed; nothing changed (422)
│  ├─ ParcelRefused         a carried file that was changed, or is another's (422)
│  └─ EntryMismatch, …      a well-formed request that the facts contradict (422)
├─ AccessRefused            wrong password, not a master, locked (401/403)
├─ TlsUnavailable           no certificate for handhelds; the booth sells on
├─ NotFound                 no such thing (404)
├─ UnexpectedEvent          the table has no row; nothing changed (409)
├─ StaleRevision            the page looked at an older snapshot (409)
├─ JournalMismatch          stop the lane, call a human
├─ StoreUnavailable         close the lane
├─ ParameterInvalid         a parameter package is broken; the old one stays
├─ CenterUnavailable   (r)  wait
└─ CenterRefused(reason)    park the record
"""

from typing import ClassVar, Literal


class GatewayError(Exception):
    """Base of every expected fault.

    `code` is stable (tests and logs read it); `detail` (what happened, what is safe) and
    `action` (what to do) are Chinese, for the person at the screen.
    """

    code: ClassVar[str] = "gateway"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    default_action: ClassVar[str] = "请通知维护人员"

    def __init__(self, detail: str, action: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.action = self.default_action if action is None else action


class ConfigInvalid(GatewayError):
    """The configuration file is wrong; nothing was started."""

    code = "config.invalid"
    default_action = "请改正配置文件后重新启动"


class FolderHeld(ConfigInvalid):
    """Another gateway runs on this data folder."""


class PortTaken(GatewayError):
    """A port cannot be listened on: another program has it."""

    code = "port.taken"
    default_action = "请换一个端口，或停掉占用它的程序"


class DeviceUnavailable(GatewayError):
    """The device cannot be reached now; reconnecting may help. The command never left."""

    code = "device.unavailable"
    http_status = 503
    retryable = True
    default_action = "系统会自动重连；仍不行请通知维护人员"


class DeviceBusy(DeviceUnavailable):
    """Another program holds the device for itself."""

    code = "device.busy"
    default_action = "请关闭占用它的程序"


class CardAbsent(DeviceUnavailable):
    """There is no card in the reader's field."""

    code = "card.absent"
    default_action = "请把卡平放在读卡区中间，再读一次"


PsamReason = Literal["absent", "mute", "unauthorised", "locked", "exhausted", "foreign"]
"""No PSAM · no answer · 97 not authorised · too many wrong MAC2 · trade numbers used up · not a
PSAM, or none that has the key."""


class PsamUnavailable(DeviceUnavailable):
    """The PSAM cannot do its part: this lane cannot debit. `reason` is a stable word."""

    code = "psam.unavailable"
    default_action = "本车道不能扣款，请换车道并通知维护人员"

    def __init__(self, reason: PsamReason, detail: str, action: str | None = None) -> None:
        super().__init__(detail, action)
        self.reason = reason


class NoAnswer(DeviceUnavailable):
    """A command may have arrived and been obeyed, but nothing came back."""

    code = "device.no_answer"


class DeviceGarbled(GatewayError):
    """The device answered with bytes that break its protocol or its file format."""

    code = "device.garbled"
    http_status = 502
    default_action = "请再试一次；仍不行请按特情处理"


class CardRefused(GatewayError):
    """The chip answered, and the answer is no. `sw` is its status word."""

    code = "card.refused"
    http_status = 502
    default_action = "没有扣款。请再试一次，或按特情处理"

    def __init__(self, sw: int, command: str, detail: str | None = None) -> None:
        super().__init__(detail or f"卡片拒绝了{command}（SW={sw:04X}）")
        self.sw, self.command = sw, command


class CardMismatch(GatewayError):
    """Another card lies on the reader than the one this passage is about."""

    code = "card.mismatch"
    http_status = 409
    default_action = "请放回同一张卡"


class OutcomeUnknown(GatewayError):
    """An irreversible command was sent and no answer came. Prove it; never repeat it."""

    code = "card.outcome_unknown"
    default_action = "请放回同一张卡，系统查清后再放行，不会重复扣；卡已拿走请登记"


class FareUnknown(GatewayError):
    """No fare can be had from this source. `reason` is a stable word for the journal."""

    code = "fare.unknown"
    http_status = 422
    default_action = "请核对入口站，或按最小费额计费"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class RequestInvalid(GatewayError):
    """The request is malformed or contradicts the facts; nothing changed."""

    code = "request.invalid"
    http_status = 422
    default_action = "请改正后再提交"


class EntryMismatch(RequestInvalid):
    """The station Hex the collector keyed is not the quoted entry station's."""

    code = "entry.mismatch"
    default_action = "请重新输入，或按站名查找"


class StationUnknown(RequestInvalid):
    """The station Hex is not in the station table."""

    code = "station.unknown"
    default_action = "请重新输入，或按站名查找"


class PlateInvalid(RequestInvalid):
    """The plate has no legal shape."""

    code = "plate.invalid"
    default_action = "请对照实车改正车牌"


class PhotoInvalid(RequestInvalid):
    """The photo is not a JPEG, is too large, or is not the one its name says."""

    code = "photo.invalid"
    default_action = "请重新拍照"


class ReasonMissing(RequestInvalid):
    """A correction by hand needs its reason."""

    code = "request.reason_missing"
    default_action = "请选择原因后再提交"


class WeightDiffers(RequestInvalid):
    """Weight claimed to be the scale's is not what the scale says."""

    code = "weight.differs"
    default_action = "请重新取数，或选择人工填写并说明原因"


class WeightMissing(RequestInvalid):
    """A truck is to be priced before it was weighed."""

    code = "weight.missing"
    default_action = "请先取计重数据，或人工填写并说明原因"


class KeyReused(RequestInvalid):
    """The same Idempotency-Key came with another command."""

    code = "request.key_reused"
    default_action = "请刷新页面后重试"


class ParcelRefused(RequestInvalid):
    """A carried file is not whole, not signed as it must be, or not what is asked for."""

    code = "parcel.refused"
    default_action = "请用原来的文件重新拷贝；仍不行请通知维护人员"


class KeyMissing(GatewayError):
    """A signing key is not there or cannot be read."""

    code = "key.missing"
    http_status = 422
    default_action = "请核对密钥文件；本机的密钥在网关第一次启动时生成"


class HeaderMissing(GatewayError):
    """A command came without its Idempotency-Key or If-Match."""

    code = "request.header_missing"
    http_status = 428
    default_action = "请刷新页面后重试"


class AccessRefused(GatewayError):
    """Not this person, not this password, or not now."""

    code = "access.refused"
    http_status = 403
    default_action = "请核对工号和密码"


class NotSignedIn(AccessRefused):
    """No valid session came with the request."""

    code = "session.missing"
    http_status = 401
    default_action = "请先登录"


class PasswordWrong(AccessRefused):
    """Unknown operator or wrong password at sign-in."""

    code = "session.refused"
    http_status = 401


class MasterRefused(AccessRefused):
    """The authority asked for was not given: wrong number, password or rank."""

    code = "master.refused"
    default_action = "请重新输入站长工号和密码"


class OperatorLocked(AccessRefused):
    """Too many wrong passwords; locked for a while."""

    code = "access.locked"
    http_status = 423
    default_action = "请稍后再试，或换一位站长"


class NotPaired(AccessRefused):
    """A device on the lane network without a valid credential of its own."""

    code = "device.not_paired"
    http_status = 401
    default_action = "请站长在收费亭屏幕上打开配对，再用手持终端扫码"


class PairingRefused(AccessRefused):
    """The pairing secret is wrong, used, or too old; nothing was paired."""

    code = "pairing.refused"
    default_action = "请站长在收费亭屏幕上重新打开配对"


class TlsUnavailable(GatewayError):
    """No certificate can be made or read: handhelds stay out, the booth sells on."""

    code = "tls.unavailable"
    http_status = 503
    default_action = "收费亭照常收费；请维护人员检查数据文件夹的 tls 目录"


class NotFound(GatewayError):
    """There is no such thing here."""

    code = "not_found"
    http_status = 404
    default_action = "请核对后再试"


class UnexpectedEvent(GatewayError):
    """The table has no row for this event in this state; nothing changed."""

    code = "flow.unexpected"
    http_status = 409
    default_action = "请按屏幕上的步骤操作"


class StaleRevision(GatewayError):
    """The command was made for an older snapshot; nothing changed."""

    code = "flow.stale"
    http_status = 409
    default_action = "屏幕已更新，请看清后再按"


class NotOwner(GatewayError):
    """Another screen owns this passage; this one may only look."""

    code = "flow.not_owner"
    http_status = 409
    default_action = "请在正在处理的设备上操作"


class ShiftOpen(GatewayError):
    """A shift is open on this lane already."""

    code = "shift.open"
    http_status = 409
    default_action = "请先下班交接，或继续本班"


class ShiftElsewhere(GatewayError):
    """This person has a shift open on another lane."""

    code = "shift.elsewhere"
    http_status = 409
    default_action = "那边下班后再来，或请站长把那一班下班"


class JournalMismatch(GatewayError):
    """Replaying the journal gives another state than it recorded. Stop the lane."""

    code = "journal.mismatch"
    default_action = "车道已停用，请通知维护人员核对流水"


class StoreUnavailable(GatewayError):
    """The store cannot be opened, read or written. The lane closes; nothing was done."""

    code = "store.unavailable"
    http_status = 503
    default_action = "没有扣款，请不要放行；关闭车道并通知维护人员"


class ParameterInvalid(GatewayError):
    """A parameter package is broken, wrong or missing; what was in force stays in force."""

    code = "parameter.invalid"
    http_status = 422


class CenterUnavailable(GatewayError):
    """The provincial centre does not answer or asks us to wait.

    `retry_after_s` is the centre's own wish, if it named one.
    """

    code = "center.unavailable"
    http_status = 503
    retryable = True
    default_action = "照常收费，联网后自动上传"

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class CenterRefused(GatewayError):
    """The centre read the request and will never take it as it is."""

    code = "center.refused"
    http_status = 502


def fault_of(code: str) -> type[GatewayError]:
    """The class a stored answer's code belongs to, so that a repeat is refused alike."""
    todo: list[type[GatewayError]] = [GatewayError]
    while todo:
        kind = todo.pop()
        if kind.code == code:
            return kind
        todo += kind.__subclasses__()
    return GatewayError
