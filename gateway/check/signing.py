"""The key that exports are signed with: is it there, and what is its public half?"""

from collections.abc import Sequence

from gateway import keys
from gateway.check.finding import Finding, fail, in_thread, ok, warn
from gateway.config import Settings
from gateway.errors import KeyMissing


async def key(settings: Settings) -> Sequence[Finding]:
    return [await in_thread(lambda: _key(settings))]


def _key(settings: Settings) -> Finding:
    name, path = "签名密钥", settings.data / keys.FOLDER / keys.PRIVATE
    try:
        if not path.exists():
            return ok(name, "会在首次启动时生成")
        mode = path.stat().st_mode
        signer = keys.of_box(settings.data)
    except (KeyMissing, OSError) as bad:
        detail = bad.detail if isinstance(bad, KeyMissing) else f"{path} 读不出：{bad.strerror}"
        action = "启动时会移开坏文件并重新生成；请把新公钥告诉中心"
        return warn(name, detail, action)
    if mode & 0o077:
        return fail(name, "其他用户能读私钥", f"请执行 chmod 600 {path}")
    return ok(name, f"公钥 {signer.public_hex}")
