"""What /readyz says of a whole box, built and not running."""

from pathlib import Path

from gateway.app import gateway
from gateway.devices import build
from gateway.units import SystemClock
from tests.sync.test_configured import settings


async def test_the_newest_row_counts_though_no_vehicle_came(tmp_path: Path) -> None:
    """A shift that was opened, a clock that was set: rows of no passage are progress too."""
    async with gateway(settings(tmp_path, lambda _: None), SystemClock(), build.devices) as box:
        await box.shifts.open("X03", "1001", 1)
        (row,) = await box.store.rows("SELECT max(seq) AS seq FROM journal")
        assert box.progress().journal_seq == row["seq"] > 0
