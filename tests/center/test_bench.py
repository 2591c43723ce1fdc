"""The benchmark of a province runs and gives figures. What they are is the machine's business."""

import os
from pathlib import Path

import pytest

from gateway.center.app import BOOK, serve_center
from tests.bench import province
from tests.bench.sync import TOKEN


async def test_a_small_province_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(province, "STEP_S", 0.2)
    monkeypatch.setattr(province, "BODY", 12)
    async with serve_center(tmp_path / "c.db", 0, None, TOKEN) as serving:
        lanes = province.Province(serving.url, 4, province.Meter(os.getpid(), ""))
        live = await lanes.live(100)
        beaten = await lanes.lanes[0].post(province._beat("L00001"))
        caught_up = await lanes.catch_up()
        held = await serving.app[BOOK].lanes()
        for lane in lanes.lanes:
            lane.close()
    assert live["answered"] > 0 < caught_up["answered"]
    assert live["p50_ms"] <= live["p99_ms"]
    assert b'"high_water"' in beaten
    assert sum(lane["stored"] for lane in held) == 20 + 4 * 12
    assert all(lane["missing"] == 0 for lane in held)
    figures = province._figures("SQLite", [{"what": "live", **live}])
    assert "p99" in figures[0].note
