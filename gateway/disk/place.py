"""Where the log of money lies: beside the tables, or on a partition of its own ([spool] folder)."""

import os
from contextlib import suppress
from pathlib import Path

from gateway.disk import identity
from gateway.durable import sync_folder
from gateway.errors import ConfigInvalid
from gateway.store import SPOOL


def prepare(data: Path, folder: Path | None) -> None:
    """Make `data/spool` a link to `folder`, once. Nothing is ever moved.

    Raises: ConfigInvalid, if there is a log elsewhere already, or the partition is not mounted
    (identity.py): a log begun anew on the wrong disk would be a second truth.
    """
    link = data / SPOOL
    try:
        if folder and (link.is_symlink() or link.exists()):
            _check(link, folder)
        elif folder:
            _make(folder)
            link.symlink_to(folder, target_is_directory=True)
            sync_folder(data)
        identity.settle(data)
    except OSError as no:
        raise ConfigInvalid(
            f"流水日志的文件夹 {folder or link} 不能用：{no.strerror}",
            "请建立它，并交给运行网关的用户",
        ) from no


def _make(folder: Path) -> None:
    """It is on disk before the link is, or a power cut leaves one to nowhere."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for made in missing:
        sync_folder(made.parent)


def _check(link: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigInvalid(
            f"[spool] folder = {folder} 不在，流水日志所在的分区可能没有挂上",
            "请先挂上分区，不要删除文件",
        )
    if link.resolve() != folder.resolve():
        raise ConfigInvalid(
            f"流水日志已经在 {link.resolve()}，和 [spool] folder = {folder} 不一致",
            f"请停机后把整个文件夹移过去，再删掉 {link} 后启动；不要直接改配置",
        )


def block_of(folder: Path, wanted: int | None) -> int:
    """How much one write of the log takes at least, in bytes: 512 or 4096. `folder` exists."""
    if wanted is not None:
        return wanted
    return 512 if (physical_block(folder) or 512) <= 512 else 4096


def physical_block(folder: Path) -> int | None:
    """Bytes that the disk writes at least, as the kernel knows it; None if it does not."""
    device = folder.stat().st_dev
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    for place_ in (node, node.parent):  # a partition's is its disk's
        with suppress(OSError, ValueError):
            return int((place_ / "queue" / "physical_block_size").read_text())
    return None
