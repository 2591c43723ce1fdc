"""Receipts that a station master carries in: the file itself as the body, bounded, then checked."""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from gateway.errors import ParcelRefused, StoreUnavailable
from gateway.spool.health import words
from gateway.sync.receipts import Receipts, Taken
from gateway.web.api import Api, Media, Needs, require
from gateway.web.faults import answer

SIZE_MAX = 64 * 1024 * 1024  # some 600 000 verdicts
PIECE = 64 * 1024
NOT_TAKEN = "流水不受影响；请通知维护人员检查磁盘，以后再导入一次"

routes = Api()


class ReceiptTooLarge(ParcelRefused):
    """More bytes than a receipt may have; reading stopped there."""

    http_status = 413


@dataclass(slots=True)
class Tray:
    """Where receipts are laid down while they are looked at, who looks, and what became of the
    newest since the start."""

    receipts: Receipts
    folder: Path
    newest: dict[str, Any] | None = None


RECEIPTS = web.AppKey("receipts", Tray)


class ReceiptTaken(BaseModel):
    """`settled`: records whose fate is new; `was_known`: this very receipt was taken before."""

    number: int
    settled: int
    said: dict[str, int]
    was_known: bool


def _sweep(folder: Path) -> None:
    """Make the folder; take away what a power cut left of an earlier one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for left in folder.glob("receipt-*"):
        with suppress(FileNotFoundError):
            left.unlink()


@routes.api(
    "POST",
    "/api/receipts",
    summary="导入中心的离线回执（文件本身作为请求体）；须站长登录",
    needs=Needs.SELL,
    body=Media("application/x-tar"),
    answers={200: ReceiptTaken},
    faults=(403, 413, 422),
)
async def take_receipt(request: web.Request) -> web.Response:
    """422 if it is not the centre's, not ours, changed, or older than what is known."""
    who, tray = require(request, "master"), request.app[RECEIPTS]
    try:
        taken = await _take(request, tray, who.operator)
    except OSError as no:
        raise StoreUnavailable(f"回执没有导入：{words(no)}", NOT_TAKEN) from no
    tray.newest = taken._asdict()
    return answer(tray.newest)


async def _take(request: web.Request, tray: Tray, operator: str) -> Taken:
    """Raises: OSError, ParcelRefused and its kinds, StoreUnavailable."""
    await asyncio.to_thread(_sweep, tray.folder)
    with tempfile.NamedTemporaryFile(dir=tray.folder, prefix="receipt-") as file:
        size = 0
        async for piece in request.content.iter_chunked(PIECE):
            size += file.write(piece)
            if size > SIZE_MAX:
                raise ReceiptTooLarge(f"回执超过 {SIZE_MAX // 1024 // 1024} MB")
        file.flush()
        return await tray.receipts.take(Path(file.name), operator)
