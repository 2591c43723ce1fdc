"""The benchmark of the lists runs and gives figures. What they are is the machine's business."""

from pathlib import Path

from tests.bench import statuslist


def test_a_small_list_is_measured_beside_sqlite(tmp_path: Path) -> None:
    figures = statuslist.measure(tmp_path, 20_000, ["ours", "sqlite"])
    seen = {figure.name.split(": ", 1)[1].strip(): figure for figure in figures}
    assert len(seen) == 12
    assert all(figure.seen > 0 for figure in figures)
    assert seen["disk per entry"].verdict == "met"
    assert "sqlite" in seen["full load"].note
