from __future__ import annotations

from pathlib import Path

from benchmarks.checkpoint_sync import measure, report


def test_every_checkpoint_is_preceded_by_one_flush_and_a_flush_costs_little_cpu(tmp_path: Path) -> None:
    session, wall, cpu = measure(tmp_path, 2, steps_per_epoch=1)
    written = session.folder.events.read_text().count('"event":"checkpoint"')
    assert written == len(session.flushes) >= 3  # before the first step, after each epoch, and every ten seconds
    assert sum(seconds for _, seconds in session.flushes) < 0.05 * cpu  # 0.01 % with steps of a usual number
    assert f"2 steps, {written} checkpoints" in report(session, wall, cpu)
