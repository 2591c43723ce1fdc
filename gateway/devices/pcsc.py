"""Chips behind PC/SC readers. The only door to pyscard; knows no card, no file, no rule.

pyscard's monitors and connection objects are left alone: their threads die silently when pcscd
restarts, and transmit() may block for ever. Here each reader has one thread of its own that
makes the raw calls; every call has a deadline on our side, and a thread that misses it is
abandoned together with its handles. Sources: platform.md §1, reliability.md §2-11.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from smartcard import scard

from gateway.devices.apdu import T0_STEPS_MAX, t0_form, t0_next
from gateway.devices.ports import Answer
from gateway.errors import CardAbsent, DeviceBusy, DeviceUnavailable, GatewayError, NoAnswer
from gateway.units import Clock

log = logging.getLogger(__name__)
T = TypeVar("T")

DEADLINE_S = 2.0
"""For any one call; an exchange with its GET RESPONSEs is one call."""
WEDGED_MAX = 3
"""Threads that may hang in a driver at once; then the reader is given up until one comes back."""

_SERVICE_LOST = frozenset(
    (
        scard.SCARD_E_NO_SERVICE,
        scard.SCARD_E_SERVICE_STOPPED,
        scard.SCARD_E_INVALID_HANDLE,
        scard.SCARD_F_COMM_ERROR,
        scard.SCARD_F_INTERNAL_ERROR,
    )
)
"""The context is worth nothing any more: pcscd went away, or came back as another process."""
_NO_CARD = frozenset((scard.SCARD_E_NO_SMARTCARD, scard.SCARD_W_REMOVED_CARD))
_REASONS: dict[int, str] = {
    scard.SCARD_E_NO_SERVICE: "读卡服务没有运行",
    scard.SCARD_E_SERVICE_STOPPED: "读卡服务已停止",
    scard.SCARD_E_UNKNOWN_READER: "没有找到读卡器",
    scard.SCARD_E_READER_UNAVAILABLE: "读卡器已拔出",
    scard.SCARD_E_NO_READERS_AVAILABLE: "没有接读卡器",
    scard.SCARD_E_SHARING_VIOLATION: "读卡器被别的程序占用",
    scard.SCARD_E_PROTO_MISMATCH: "卡片不支持所需的通信协议",
    scard.SCARD_W_UNRESPONSIVE_CARD: "卡片没有反应，请检查卡片方向",
    scard.SCARD_W_UNPOWERED_CARD: "卡片没有上电",
    scard.SCARD_E_NOT_TRANSACTED: "通信中断",
    scard.SCARD_W_SECURITY_VIOLATION: "没有使用读卡服务的权限",
    scard.SCARD_W_REMOVED_CARD: "卡片已拿开",
    scard.SCARD_W_RESET_CARD: "卡片被别的程序复位",
}


class PcscLink:
    """A `CardLink` to the chip in one PC/SC reader.

    Args: name: for people and logs. reader: PC/SC name, whole or the unique beginning of it
        (the digits at its end depend on the order of plugging).
    """

    def __init__(self, name: str, reader: str, clock: Clock) -> None:
        self.name = name
        self._reader_name, self._clock = reader, clock
        self._worker: _Worker | None = None
        self._wedged: list[_Worker] = []
        self._is_connected = False
        self.alive_at_ms: int | None = None
        """Monotonic time of the reader's last proof of life."""

    @property
    def wedged(self) -> int:
        """Threads that hang in the driver now."""
        self._wedged = [worker for worker in self._wedged if worker.is_alive()]
        return len(self._wedged)

    async def connect(self) -> bytes:
        self._is_connected = False
        atr = await self._call(_Reader.connect)
        self._is_connected = True
        return atr

    async def send(self, command: bytes) -> Answer:
        if not self._is_connected:
            raise DeviceUnavailable(f"{self.name}的连接已断开，指令没有发出")
        self._is_connected = False  # until an answer says otherwise, cancellation included
        answer = await self._call(lambda reader: reader.exchange(command), NoAnswer)
        self._is_connected = True
        return answer

    async def is_present(self) -> bool:
        return await self._call(_Reader.is_present)

    async def close(self) -> None:
        self._is_connected = False
        if self._worker is not None:
            with suppress(GatewayError):
                await self._call(_Reader.close)
            self._stop()

    async def _call(
        self, job: "Callable[[_Reader], T]", silence: type[DeviceUnavailable] = DeviceUnavailable
    ) -> T:
        """Run `job` in the reader's thread, within the deadline; `silence` is raised after it."""
        worker = self._working()
        future = worker.submit(job)
        try:
            async with asyncio.timeout(DEADLINE_S):
                result = await asyncio.wrap_future(future)
        except TimeoutError:
            self._abandon(worker)
            if future.cancelled():  # it was still waiting its turn, and now never gets it
                raise DeviceUnavailable(f"{self.name}没有反应，指令没有发出") from None
            raise silence(f"{self.name}没有应答（等了 {DEADLINE_S:.0f} 秒）") from None
        self.alive_at_ms = self._clock.monotonic_ms()
        return result

    def _working(self) -> "_Worker":
        if self._worker is None:
            if self.wedged >= WEDGED_MAX:
                raise DeviceUnavailable(
                    f"{self.name}的驱动卡死", "请重新插拔读卡器；仍不行请通知维护人员"
                )
            self._worker = _Worker(_Reader(self.name, self._reader_name))
            self._worker.start()
        return self._worker

    def _abandon(self, worker: "_Worker") -> None:
        """Its thread cannot be stopped; it gives its handles back when the driver lets it go."""
        if self._worker is worker:
            self._is_connected = False
            self._stop()
        if worker not in self._wedged:  # two calls may have waited for the same thread
            self._wedged.append(worker)
        log.error("reader does not answer", extra={"device": self.name, "wedged": self.wedged})

    def _stop(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()


class _Worker(threading.Thread):
    """The thread that owns one reader's handles. What was cancelled before its turn never runs."""

    def __init__(self, reader: "_Reader") -> None:
        super().__init__(name=f"pcsc-{reader.name}", daemon=True)
        self._reader = reader
        self._jobs: queue.SimpleQueue[tuple[Callable[[_Reader], Any], Future[Any]] | None]
        self._jobs = queue.SimpleQueue()

    def submit(self, job: "Callable[[_Reader], T]") -> "Future[T]":
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def stop(self) -> None:
        """Let the card go and end, after the job at hand."""
        self._jobs.put(None)

    def run(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job(self._reader)
            except BaseException as fault:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(fault)
            else:
                future.set_result(result)
        self._reader.close()


class _Context:
    """One SCARDCONTEXT, established when needed, thrown away when its service is lost."""

    def __init__(self) -> None:
        self._handle: Any = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
        """`function(context, …)` → (hresult, …); once more with a new context if pcscd changed."""
        answer: tuple[Any, ...] = (scard.SCARD_E_NO_SERVICE,)
        for _ in range(2):
            if self._handle is None:
                hresult, self._handle = scard.SCardEstablishContext(scard.SCARD_SCOPE_SYSTEM)
                if hresult != scard.SCARD_S_SUCCESS:
                    self._handle = None
                    return (hresult,)
            answer = tuple(function(self._handle, *arguments))
            if answer[0] not in _SERVICE_LOST:
                return answer
            self.drop()
        return answer

    def drop(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            scard.SCardReleaseContext(handle)


class _Reader:
    """The raw calls of one reader, all from one thread. Faults are ours, never pyscard's."""

    def __init__(self, name: str, reader: str) -> None:
        self.name, self._wanted = name, reader
        self._cards, self._watch = _Context(), _Context()
        self._card: Any = None
        self._protocol = scard.SCARD_PROTOCOL_T0
        self._is_fresh = False

    def connect(self) -> bytes:
        """Power the chip up and hold it exclusively: nobody comes between INIT and DEBIT."""
        self._let_go()
        reader = self._find(self._cards)
        self._card, self._protocol = self._open(reader)
        if not self._is_fresh:  # another process may have left it powered
            again = scard.SCardReconnect(
                self._card, scard.SCARD_SHARE_EXCLUSIVE, self._protocol, scard.SCARD_UNPOWER_CARD
            )
            self._check(again[0])
            self._is_fresh = True
        hresult, *status = scard.SCardStatus(self._card)
        self._check(hresult)
        return bytes(status[3])

    def exchange(self, command: bytes) -> Answer:
        """One APDU, T=0 steps included. After any fault the card is let go."""
        if self._card is None:
            raise DeviceUnavailable(f"{self.name}的连接已断开，指令没有发出")
        is_t0 = self._protocol == scard.SCARD_PROTOCOL_T0
        data, step = b"", t0_form(command) if is_t0 else command
        for _ in range(T0_STEPS_MAX):
            raw = self._transmit(step, scard.SCARD_PCI_T0 if is_t0 else scard.SCARD_PCI_T1)
            data, sw = data + raw[:-2], int.from_bytes(raw[-2:])
            following = t0_next(step, sw)
            if following is None:
                return Answer(data, sw)
            step = following
        self._let_go()
        raise NoAnswer(f"{self.name}的应答没有结束")

    def is_present(self) -> bool:
        """By the service's own view, at once, without touching the card."""
        reader = self._find(self._watch)
        wanted = [(reader, scard.SCARD_STATE_UNAWARE)]
        hresult, *rest = self._watch.call(scard.SCardGetStatusChange, 0, wanted)
        self._check(hresult)
        state: int = rest[0][0][1]
        return bool(state & scard.SCARD_STATE_PRESENT)

    def close(self) -> None:
        self._let_go()
        self._cards.drop()
        self._watch.drop()

    def _open(self, reader: str) -> tuple[Any, int]:
        """T=0 if the chip speaks it, as contact cards do; T=1 for contactless readers."""
        for protocol in (scard.SCARD_PROTOCOL_T0, scard.SCARD_PROTOCOL_T1):
            hresult, *card = self._cards.call(
                scard.SCardConnect, reader, scard.SCARD_SHARE_EXCLUSIVE, protocol
            )
            if hresult != scard.SCARD_E_PROTO_MISMATCH:
                break
        if hresult in _NO_CARD:
            raise CardAbsent(f"{self.name}上没有卡")
        self._check(hresult)
        return card[0], card[1]

    def _find(self, context: _Context) -> str:
        """The whole name of our reader."""
        hresult, *rest = context.call(scard.SCardListReaders, [])
        self._check(hresult)
        readers: list[str] = rest[0]
        found = [name for name in readers if name.startswith(self._wanted)]
        if self._wanted in found:
            return self._wanted
        if len(found) != 1:
            listed = "、".join(readers) or "一个也没有"
            raise DeviceUnavailable(
                f"{self.name}：没有找到读卡器“{self._wanted}”（现有：{listed}）"
            )
        return found[0]

    def _transmit(self, command: bytes, pci: int) -> bytes:
        """Whatever goes wrong here, the chip may have obeyed. An empty success is no answer."""
        hresult, response = scard.SCardTransmit(self._card, pci, list(command))
        if hresult == scard.SCARD_S_SUCCESS and len(response) >= 2:
            return bytes(byte & 0xFF for byte in response)
        self._let_go()
        if hresult in _SERVICE_LOST:
            self._cards.drop()
        raise NoAnswer(f"{self.name}没有应答（{_reason(hresult)}）")

    def _let_go(self) -> None:
        """Take the power from the chip, so that the next connection starts afresh."""
        card, self._card = self._card, None
        if card is not None:
            scard.SCardDisconnect(card, scard.SCARD_UNPOWER_CARD)

    def _check(self, hresult: int) -> None:
        if hresult in _NO_CARD:
            self._let_go()
            raise CardAbsent(f"{self.name}上没有卡")
        if hresult != scard.SCARD_S_SUCCESS:
            self._let_go()
            is_busy = hresult == scard.SCARD_E_SHARING_VIOLATION
            kind = DeviceBusy if is_busy else DeviceUnavailable
            raise kind(f"{self.name}不可用：{_reason(hresult)}")


def _reason(hresult: int) -> str:
    if hresult == scard.SCARD_S_SUCCESS:  # pulled during the APDU: success, and nothing said
        return "通信中断"
    code = hresult & 0xFFFFFFFF
    return _REASONS.get(hresult, f"PC/SC {code:08X}")
