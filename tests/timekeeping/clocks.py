"""A machine's clock whose wall part can be moved about; time passes when a test says so."""

from gateway.units import Quality

T0_MS = 1_790_000_000_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
YEARS_10_MS = 10 * 365 * DAY_MS
FREE, KEPT = Quality("rtc", is_synchronised=False), Quality("ntp", is_synchronised=True, error_ms=3)


class Machine:
    def __init__(self, wall_ms: int = T0_MS, boot_id: str = "boot-1", mono_ms: int = 5_000) -> None:
        self.wall_ms, self.mono_ms, self.boot_id = wall_ms, mono_ms, boot_id
        self.quality = FREE

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.mono_ms

    async def sleep(self, seconds: float) -> None:
        self.pass_ms(round(seconds * 1000))

    def pass_ms(self, ms: int) -> None:
        self.wall_ms += ms
        self.mono_ms += ms

    def jump(self, ms: int) -> None:
        self.wall_ms += ms

    def reboot(self, boot_id: str, wall_ms: int) -> None:
        self.boot_id, self.wall_ms, self.mono_ms = boot_id, wall_ms, 4_000
