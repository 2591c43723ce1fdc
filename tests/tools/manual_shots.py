"""Draw the manual's pictures from the page itself, small PNGs of few colours, and list them.

python -m tests.tools.manual_shots [NAME …]

The gateway behind it is the tests' own of cardboard: every state can be had, and no picture holds a
real plate. Each is drawn with the fonts of Debian's fonts-noto-cjk.
"""

import asyncio
import struct
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy
from aiohttp import web
from playwright.async_api import Browser, async_playwright

from tests.web.ui import around
from tests.web.ui.conftest import DRAWN_AT, Screen
from tests.web.ui.fake_gateway import SCRIPT, create_fake

REPO = Path(__file__).parents[2]
FOLDER = REPO / "tests" / "shots" / "manual"
LIST = REPO / "docs" / "screens.md"
BYTES_MAX = 40_000
COLOURS = 32
BOOTH, HAND = (1024, 768), (360, 740)


class Shot(NamedTuple):
    """One picture: how to come there, on which size, and what the manual says of it."""

    name: str
    title: str
    way: str
    """state:…, place:…, ask:…, dialog:… or other:…"""
    size: tuple[int, int] = BOOTH
    is_night: bool = False


SHOTS = (
    Shot("s01-login", "登录", "other:signed_out"),
    Shot("s02-shift", "上班：选车道、班次，设备自检", "place:shift"),
    Shot("s03-idle", "等待来车", "state:idle"),
    Shot("s03-idle-offline", "等待来车，离线", "state:idle_offline"),
    Shot("s03-idle-reader", "等待来车，读卡器未连接", "state:idle_reader_missing"),
    Shot("s03-idle-paused", "暂停收费：谁、什么时候、为什么", "state:idle_paused"),
    Shot("s03-idle-closed", "车道已关闭", "state:idle_closed"),
    Shot("s03-standing", "暂停、关闭车道", "place:standing"),
    Shot("s04-reading", "正在读卡", "state:reading"),
    Shot("s04-refused", "检查没有通过，逐条列出", "state:refused_stops"),
    Shot("s05-plate", "核对车牌，识别有把握", "state:plate"),
    Shot("s05-plate-unsure", "核对车牌，标黄的字要看照片", "state:plate_unsure"),
    Shot("s05-plate-empty", "核对车牌，没有识别结果", "state:plate_no_lpr"),
    Shot("s05-plate-other", "这一笔在手持机上，岗亭只看或接管", "state:plate_other_screen"),
    Shot("s05-hand", "手持机上核对车牌", "state:plate_unsure", HAND),
    Shot("s06-vehicle", "核对车型、车种", "state:vehicle_differs"),
    Shot("s06-truck", "货车：计重", "state:vehicle_truck"),
    Shot("s06-weigh", "人工填写重量，要有原因", "dialog:weigh"),
    Shot("s07-fare", "核对金额与入口站，这笔费怎么来的", "state:priced"),
    Shot("s07-fare-pausing", "办完这一辆后暂停", "state:priced_pausing"),
    Shot("s07-fare-short", "余额不够、超限", "state:priced_short"),
    Shot("s07-unpriced", "算不出路径", "state:unpriced"),
    Shot("s07-stations", "按站名找入口站", "place:stations"),
    Shot("s07-hand", "手持机上核对金额", "state:priced", HAND),
    Shot("s08-master", "站长授权：在本机，或远程", "ask:master"),
    Shot("s08-approvals", "站长在自己的屏幕上答复", "place:approvals", HAND),
    Shot("s09-agreed", "数据保存之前", "state:agreed"),
    Shot("s09-saving", "正在写卡", "state:debiting"),
    Shot("s09-unknown", "扣款结果还不知道", "state:doubtful"),
    Shot("s09-saved", "缴费成功，带流水号和链", "state:saved"),
    Shot("s09-unpaid", "放行了，没有收费", "state:saved_unpaid"),
    Shot("s09-doubtful", "存疑已登记：收了现金，卡上可能已经扣款", "state:saved_doubtful"),
    Shot("s09-night", "夜间", "state:priced", BOOTH, True),
    Shot("s10-held", "特情收费", "state:held"),
    Shot("s11-survivor", "停机之前的车：停在哪一步、扣没扣款", "other:survivor"),
    Shot("s11-suspended", "挂起的车，续办", "place:suspended"),
    Shot("s11-cancel", "取消本笔，要有原因", "ask:why"),
    Shot("s12-history", "历史", "place:history"),
    Shot("s12-passage", "一笔的经过：时光轴，更正", "place:passage/X03-4"),
    Shot("s12-correct", "更正：另记一条，站长授权", "place:correct/X03-4"),
    Shot("s13-devices", "设备", "place:devices"),
    Shot("s14-sync", "同步：未传、已送达、被退回；改正后重传或原样重传，结果", "place:sync"),
    Shot("s14-resend", "原样重传被退回的流水，站长授权", "place:resend/R1"),
    Shot("s14-carry", "离线搬运：导出，写到 U 盘，导入回执", "place:carry"),
    Shot("s15-versions", "参数与界面的版本", "place:versions"),
    Shot("s16-pairing", "配对手持机", "place:pairing"),
    Shot("s17-hand-over", "下班交接", "place:shiftEnd"),
    Shot("s18-settings", "设置，按键学习", "place:settings"),
    Shot("s18-help", "现在哪些键有用", "dialog:help"),
    Shot("s19-locked", "锁屏", "other:locked"),
    Shot("menu", "功能", "place:menu"),
)


async def arrive(screen: Screen, way: str) -> None:
    kind, _, name = way.partition(":")
    if kind == "state":
        await screen.show(name)
    elif kind == "other":
        await around.OTHERS[name](screen)
    else:
        reach = {"place": around.go, "ask": around.ask, "dialog": around.open_dialog}[kind]
        await reach(screen, name)


async def draw(browser: Browser, shot: Shot) -> bytes:
    """A fresh page and gateway: nothing of another picture is left."""
    app = create_fake()
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    context = await browser.new_context(
        viewport={"width": shot.size[0], "height": shot.size[1]},
        has_touch=True,
        locale="zh-CN",
        color_scheme="dark" if shot.is_night else "light",
        reduced_motion="reduce",
    )
    try:
        page = await context.new_page()
        screen = Screen(page, context, app[SCRIPT], f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await page.add_init_script(DRAWN_AT)
        await screen.open()
        await arrive(screen, shot.way)
        await page.wait_for_load_state("networkidle")
        return await page.screenshot()
    finally:
        await context.close()
        await runner.cleanup()


def small(png: bytes) -> bytes:
    """The same picture in at most 32 colours: k-means over those that are there, no dither."""
    picture = cv2.imdecode(numpy.frombuffer(png, numpy.uint8), cv2.IMREAD_COLOR).astype(
        numpy.uint32
    )
    packed = picture[..., 0] << 16 | picture[..., 1] << 8 | picture[..., 2]
    seen, where, counts = numpy.unique(packed, return_inverse=True, return_counts=True)
    colours = numpy.stack([seen >> 16, seen >> 8 & 255, seen & 255], 1).astype(numpy.float32)
    most = colours[numpy.argsort(-counts)][:2000]
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1.0)
    cv2.setRNGSeed(1)
    _, _, centres = cv2.kmeans(most, min(COLOURS, len(most)), None, stop, 2, cv2.KMEANS_PP_CENTERS)
    nearest = ((colours[:, None] - centres[None]) ** 2).sum(2).argmin(1)
    return indexed(nearest[where].reshape(packed.shape), centres[:, ::-1])


def indexed(places: Any, colours: Any) -> bytes:
    """A PNG with a palette; OpenCV writes none."""
    height, width = places.shape
    rows = b"".join(b"\0" + row.astype(numpy.uint8).tobytes() for row in places)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = colours.round().clip(0, 255).astype(numpy.uint8).tobytes()
    parts = {b"IHDR": head, b"PLTE": palette, b"IDAT": zlib.compress(rows, 9), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts.items())


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def listed() -> str:
    """docs/screens.md"""
    head = "# 收费屏\n\n由 `python -m tests.tools.manual_shots` 画出；车牌、卡号是编造的。\n"
    lines = [head]
    for shot in SHOTS:
        lines.append(f"## {shot.title}\n\n![{shot.title}](../tests/shots/manual/{shot.name}.png)\n")
    return "\n".join(lines)


async def main() -> None:
    wanted = set(sys.argv[1:]) or {shot.name for shot in SHOTS}
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        for shot in SHOTS:
            if shot.name in wanted:
                png = small(await draw(browser, shot))
                (FOLDER / f"{shot.name}.png").write_bytes(png)
                print(shot.name, len(png))
        await browser.close()
    LIST.parent.mkdir(exist_ok=True)
    LIST.write_text(listed(), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
