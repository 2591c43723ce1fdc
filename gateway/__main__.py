"""lane-gateway: demo, run, check, center, journal, support-bundle.

Each command imports only what it needs, so that the quick ones are quick.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigInvalid, GatewayError

EX_CONFIG = 78  # sysexits.h; the unit's RestartPreventExitStatus
EX_LATER = 2


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns: 0 done; 78 wrong configuration; else as the command says."""
    given = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except GatewayError as fault:
        return _end(fault)
    except ExceptionGroup as several:
        return _end(_fault_in(several))
    except KeyboardInterrupt:
        return 130


def _end(fault: GatewayError) -> int:
    _tell(fault)
    return EX_CONFIG if isinstance(fault, ConfigInvalid) else 1


def _fault_in(several: ExceptionGroup[Exception]) -> GatewayError:
    """What ended the services that ran side by side; the first, if they agree on a time to die.

    Raises: the group as it is, if a bug is in it: that needs its trace.
    """
    expected, bugs = several.split(GatewayError)
    if bugs or expected is None:
        raise several
    first: Exception = expected
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, GatewayError)
    return first


def _tell(fault: GatewayError) -> None:
    """Plain text for a person; one JSON line where journald listens."""
    if sys.stderr.isatty():
        print(f"{fault.detail}\n{fault.action}", file=sys.stderr)
        return
    from gateway.runtime import log_to

    log_to()
    facts = {"code": fault.code, "detail": fault.detail, "action": fault.action}
    logging.getLogger("gateway").error("refused", extra=facts)


# ---- commands ----


def _demo(given: argparse.Namespace) -> int:
    from gateway.demo import main as demo

    return demo(given.port, given.data, given.center_port, given.center_url)


def _run(given: argparse.Namespace) -> int:
    from gateway.config import load
    from gateway.runtime import log_to

    os.umask(0o077)  # plates, photos and keys are for this user alone, also when run by hand
    log_to()
    settings = load(given.file)
    from gateway.app import run

    return run(settings)


def _check(given: argparse.Namespace) -> int:
    from gateway.check import run

    return run(given.file)


def _center(given: argparse.Namespace) -> int:
    from gateway.center.main import run

    if given.db is None:
        print("须写明 --db FILE：中心自己的数据库", file=sys.stderr)
        return EX_LATER
    token = os.environ.get("CENTER_TOKEN", "") if given.token is None else given.token
    dsn = os.environ.get("CENTER_DSN", "") if given.dsn is None else given.dsn
    nats = os.environ.get("CENTER_NATS", "") if given.nats is None else given.nats
    return run(
        given.port, given.db, given.parameters, token, given.allow_faults, dsn=dsn, nats=nats
    )


def _center_import(given: argparse.Namespace) -> int:
    from gateway import courier

    dsn = os.environ.get("CENTER_DSN", "")
    return courier.book(given.file, given.db, given.key, given.out, dsn)


def _verify(given: argparse.Namespace) -> int:
    if given.folder.is_file():
        from gateway import courier

        return courier.verify(given.folder, given.key)
    from gateway.flow.journal import verify

    # What runs beside the selling was made nice, and stays on one processor.
    processes = 1 if os.nice(0) > 0 else len(os.sched_getaffinity(0))
    damages = verify(given.folder, processes)
    for damage in damages:
        print(f"{damage.file} 第 {damage.row} 行：{damage.what}")
    print(f"发现 {len(damages)} 处损坏，请停用车道并通知维护人员" if damages else "流水完好")
    return 1 if damages else 0


def _show(given: argparse.Namespace) -> int:
    from gateway.flow.journal import story
    from gateway.runtime import mask
    from gateway.units import iso

    for row in story(given.folder, given.passage):
        body = json.dumps(json.loads(row["body"]), ensure_ascii=False)
        head = f"{row['seq']:>8} {iso(row['at_ms'])} {row['operator']:<6}"
        print(mask(f"{head} {row['event']} → {row['state'] or '（记事）'} {body}"))
    return 0


def _new_log(given: argparse.Namespace) -> int:
    from gateway.disk.identity import expect_new

    expect_new(given.folder)
    print(
        "下次启动会在新的分区里用数据库补齐流水日志；旧分区上最后几秒的流水如果还读得出，请先拷出"
    )
    return 0


def _export(given: argparse.Namespace) -> int:
    from gateway import courier

    return courier.export(
        given.folder,
        given.out,
        given.from_,
        given.to,
        with_photos=given.photos,
        is_forced=given.force_damaged,
    )


def _import_receipt(given: argparse.Namespace) -> int:
    from gateway import courier

    return courier.take_back(given.folder, given.file, given.center_key)


def _support_bundle(given: argparse.Namespace) -> int:
    from gateway.support import bundle
    from gateway.units import SystemClock

    try:
        names = bundle(given.folder, given.out, given.config, SystemClock())
    except OSError as broken:
        print(f"{given.out} 写不了：{broken.strerror}", file=sys.stderr)
        return 1
    print(f"{given.out}：{'、'.join(names)}（不含车牌、卡号和工号）")
    return 0


# ---- arguments ----


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lane-gateway", description="出口车道网关：ETC 单卡交易，先记流水，只扣一次"
    )
    commands = parser.add_subparsers(title="命令", required=True, metavar="命令")
    _add_demo(commands.add_parser("demo", help="在本机演示：模拟设备和内置中心，浏览器里走一辆车"))

    run = commands.add_parser("run", help="按配置文件正式运行（systemd 或手工）")
    run.add_argument("file", type=Path, metavar="gateway.toml")
    run.set_defaults(command=_run)

    check = commands.add_parser(
        "check", help="逐项检查，一项一行；退出码 0 全过，1 有提醒，2 有问题"
    )
    check.add_argument("file", type=Path, metavar="gateway.toml")
    check.set_defaults(command=_check)

    _add_center(commands.add_parser("center", help="参考中心：演示、培训和联调用"))
    _add_journal(commands.add_parser("journal", help="查流水：verify、show、export"))

    support = commands.add_parser("support-bundle", help="打包给维护人员：不含个人信息")
    support.add_argument("folder", type=Path, metavar="DIR", help="数据文件夹")
    support.add_argument("--out", type=Path, required=True, metavar="FILE", help="写到这个 tar.gz")
    support.add_argument("--config", type=Path, metavar="gateway.toml", help="一并放入（口令打码）")
    support.set_defaults(command=_support_bundle)
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.add_argument("--port", type=_port, default=8080, help="页面端口，默认 8080")
    demo.add_argument("--data", type=Path, metavar="DIR", help="保留数据的文件夹；不写 = 临时")
    demo.add_argument("--center-port", type=_port, default=9090, help="内置中心端口，默认 9090")
    demo.add_argument("--center-url", metavar="URL", help="用外部中心，不启动内置中心")
    demo.set_defaults(command=_demo)


def _add_center(center: argparse.ArgumentParser) -> None:
    center.add_argument("--port", type=_port, default=9090, help="端口，默认 9090，只在本机")
    center.add_argument("--db", type=Path, metavar="FILE", help="中心自己的数据库")
    center.add_argument(
        "--dsn", help="流水改放 PostgreSQL（密钥和图片仍在 --db 旁）；不写 = 环境变量 CENTER_DSN"
    )
    center.add_argument(
        "--nats", metavar="URL", help="也从 NATS 队列取流水，逗号分隔；不写 = 环境变量 CENTER_NATS"
    )
    center.add_argument("--parameters", type=Path, metavar="DIR", help="要下发的参数文件夹")
    center.add_argument("--token", help="车道须出示的令牌；不写 = 环境变量 CENTER_TOKEN")
    center.add_argument(
        "--allow-faults", action="store_true", help="允许 POST /test/faults（测试用）"
    )
    center.set_defaults(command=_center)
    carried = center.add_subparsers(metavar="操作").add_parser(
        "import", help="收下人工带来的离线导出，写出回执"
    )
    carried.add_argument("file", type=Path, metavar="EXPORT")
    carried.add_argument("--db", type=Path, required=True, metavar="FILE")
    carried.add_argument("--key", required=True, metavar="PUB", help="车道网关的公钥：文件或 64 位")
    carried.add_argument("--out", type=Path, required=True, metavar="RECEIPT", help="回执写到这里")
    carried.set_defaults(command=_center_import)


def _add_journal(journal: argparse.ArgumentParser) -> None:
    kinds = journal.add_subparsers(required=True, metavar="操作", dest="what")
    verify = kinds.add_parser("verify", help="核对哈希链：0 完好，1 损坏并列出位置")
    verify.set_defaults(command=_verify)
    show = kinds.add_parser("show", help="一笔过车的全部经过")
    show.set_defaults(command=_show)
    export = kinds.add_parser("export", help="离线导出：签名文件，交给中心或审计")
    export.set_defaults(command=_export)
    receipt = kinds.add_parser("import-receipt", help="导入中心的离线回执")
    receipt.set_defaults(command=_import_receipt)
    new_log = kinds.add_parser("new-log", help="流水日志换了新分区：允许下次启动在空分区上重建")
    new_log.set_defaults(command=_new_log)
    for kind in (verify, show, export, receipt, new_log):
        kind.add_argument("folder", type=Path, metavar="DIR", help="数据文件夹")
    verify.add_argument("--key", metavar="PUB", help="DIR 是导出文件时：车道网关的公钥")
    show.add_argument("passage", metavar="PASSAGE", help="过车编号")
    export.add_argument("--from", dest="from_", metavar="日期", help="从这天起；不写 = 全部")
    export.add_argument("--to", metavar="日期", help="到这天为止（含）；也可写到分：…T08:00")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="写到这个文件")
    export.add_argument("--photos", action="store_true", help="连照片一起")
    export.add_argument("--force-damaged", action="store_true", help="损坏也按现状导出并注明")
    receipt.add_argument("file", type=Path, metavar="RECEIPT")
    receipt.add_argument("--center-key", required=True, metavar="PUB", help="中心的公钥")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"端口应为整数 0 到 65535，写的是 {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
