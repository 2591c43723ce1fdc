"""Checks of what comes from elsewhere: the centre's answer, and the parameter tables at hand."""

import http.client
import socket
import sqlite3
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from gateway import trust
from gateway.access import demo_operators
from gateway.check.box import reading
from gateway.check.finding import Finding, fail, in_thread, ok, warn
from gateway.config import Settings
from gateway.errors import ParameterInvalid
from gateway.faretable.compiled import FareTable
from gateway.params import TABLES, Package, Parameters, Ready, read_package
from gateway.statuslist.form import BLOCK_BYTES, read_head
from gateway.units import Clock

CENTER_S_MAX = 3.0
OFFSET_S_MAX = 60
_LATER = "车道可以照常收费；请检查网络和地址，联网后自动上传"


async def center(settings: Settings, clock: Clock) -> Sequence[Finding]:
    """A centre that cannot be reached is a warning: the lane still sells (interfaces.md §7.16)."""
    return [await in_thread(lambda: _center(settings, clock))]


async def parameters(settings: Settings, clock: Clock) -> Sequence[Finding]:
    """The tables the lane would start with now: whole, for this station, and fresh."""
    return await in_thread(lambda: list(_parameters(settings, clock.now_ms())))


def _center(settings: Settings, clock: Clock) -> Finding:
    name = "中心"
    try:
        status, date = _ask(settings)
    except (OSError, http.client.HTTPException) as dead:
        return warn(name, f"连不上：{_why(dead)}", _LATER)
    if settings.center.token is None:
        return warn(name, "连得上，但没有配置令牌", "请提供凭据 center.token，否则不能上传")
    if status in (401, 403):
        return warn(name, f"令牌不被接受（{status}）", "请核对凭据 center.token")
    if status not in (200, 304):
        return warn(name, f"应答异常（{status}）", _LATER)
    if date is not None and abs(offset_s := clock.now_ms() / 1000 - date) > OFFSET_S_MAX:
        return warn(name, f"本机时钟与中心差 {offset_s:+.0f} 秒", "请校准时钟")
    return ok(name, "连得上，令牌有效")


def _why(dead: Exception) -> str:
    known: tuple[tuple[type[Exception], str], ...] = (
        (ssl.SSLError, "证书不受信任或已过期"),
        (socket.gaierror, "找不到这个主机名"),
        (ConnectionRefusedError, "对方没有开这个端口"),
        (TimeoutError, f"{CENTER_S_MAX:.0f} 秒没有应答"),
    )
    return next((words for kind, words in known if isinstance(dead, kind)), str(dead))


def _ask(settings: Settings) -> tuple[int, float | None]:
    """GET {centre}/v1/parameters → status, and the centre's clock if it says so."""
    url = urlsplit(settings.center.url)
    host, port = url.hostname or "", url.port
    line = http.client.HTTPConnection(host, port, timeout=CENTER_S_MAX)
    if url.scheme == "https":
        believed = trust.context(settings.center.ca, settings.center.certificate)
        line = http.client.HTTPSConnection(host, port, timeout=CENTER_S_MAX, context=believed)
    token = settings.center.token
    headers = {} if token is None else {"Authorization": f"Bearer {token.get_secret_value()}"}
    try:
        line.request("GET", f"{url.path}/v1/parameters", headers=headers)
        answer = line.getresponse()
        return answer.status, _seconds(answer.headers.get("Date"))
    finally:
        line.close()


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def _parameters(settings: Settings, now_ms: int) -> Iterator[Finding]:
    name, broken = "参数", list[str]()
    newest: dict[str, Package] = {}
    for package in _packages(settings, broken):
        held = newest.get(package.name)
        if package.name in TABLES and package.effective_from_ms <= now_ms:
            newest[package.name] = package if held is None else max(held, package, key=_rank)
    for what in broken:
        yield warn(name, what, "坏的参数不会被使用；请更换这个文件")
    try:
        now = Parameters.of(newest)
    except ParameterInvalid as missing:
        action = "请放入参数文件，或等中心下发后再开车道"
        yield fail(name, missing.detail, action)
        return
    yield from _fit(settings, now)
    yield _fresh(now, now_ms, _listed_from_ms(settings, now_ms))


def _packages(settings: Settings, broken: list[str]) -> Iterator[Package]:
    for raw, origin in _raw(settings, broken):
        try:
            yield read_package(raw)
        except ParameterInvalid as bad:
            broken.append(f"{origin}：{bad.detail}")
    for path in sorted((settings.data / "fares").glob("*.db")):
        try:
            table = FareTable.open(path)
        except ParameterInvalid as bad:
            broken.append(bad.detail)
        else:
            about = table.about
            yield Ready(
                name=about.name,
                version=about.version,
                effective_from=about.effective_from,
                ready=table,
            )


def _listed_from_ms(settings: Settings, now_ms: int) -> tuple[str, int]:
    """The newest big status list here: version and since when it serves; 0 if there is none."""
    newest = ("", 0)
    for path in (settings.data / "statuslist").glob("*.list"):
        with suppress(OSError, ParameterInvalid), path.open("rb") as file:
            head = read_head(file.read(BLOCK_BYTES))
            if newest[1] < head.effective_from_ms <= now_ms:
                newest = (head.version, head.effective_from_ms)
    return newest


def _raw(settings: Settings, broken: list[str]) -> Iterable[tuple[bytes, str]]:
    folder = settings.parameters.folder
    if folder is not None and not folder.is_dir():
        broken.append(f"没有参数文件夹 {folder}")
    elif folder is not None:
        yield from ((file.read_bytes(), file.name) for file in sorted(folder.glob("*.json")))
    if settings.database.exists():
        query = "SELECT body, name || ' ' || version FROM parameter WHERE state = 'staged'"
        try:
            with reading(settings.database) as db:
                yield from db.execute(query).fetchall()
        except sqlite3.Error as bad:
            broken.append(f"流水库里的参数读不出：{bad}")


def _fit(settings: Settings, now: Parameters) -> Iterator[Finding]:
    ours = settings.station
    if now.stations.by_hex(ours.hex) is None:
        yield fail("参数", f"站点表里没有本站 {ours.hex}", "请核对 station.hex 和站点表")
    if now.minimum_fares.exit_hex != ours.hex:
        told = f"最小费额表是 {now.minimum_fares.exit_hex} 站的，不是本站 {ours.hex} 的"
        yield fail("参数", told, "请更换最小费额表")
    if weak := demo_operators(now.operators):
        told = f"工号 {'、'.join(weak)} 用的是演示密码"
        yield fail("工号", told, "请更换工号表；正式运行不接受演示密码")


def _fresh(now: Parameters, now_ms: int, big: tuple[str, int]) -> Finding:
    small = (now.versions["status_list"], now.effective_from_ms["status_list"])
    version, from_ms = max(small, big, key=lambda listed: listed[1])
    hours = (now_ms - from_ms) / 3_600_000
    others = "，".join(
        f"{name} {now.versions[name]}（{(now_ms - since_ms) // 86_400_000} 天）"
        for name, since_ms in sorted(now.effective_from_ms.items())
        if name != "status_list"
    )
    told = f"齐全；状态名单 {version}，{hours:.0f} 小时前生效；其他表的版本和生效天数：{others}"
    if hours > now.policy.status_list_stale_hours:
        return warn("参数", told, "状态名单过旧，请检查与中心的连接")
    return ok("参数", told)


def _rank(package: Package) -> tuple[int, str]:
    return package.effective_from_ms, package.version
