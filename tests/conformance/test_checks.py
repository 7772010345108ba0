"""The reliability checks in a chain of real processes, from the command line to the run log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from engine.attack.badge import Finding, badge
from engine.attack.checks import CHECKS
from engine.log import RunLog
from tests.engine.run.processes import processes_of


def test_a_chain_ends_with_findings_and_a_badge(tmp_path: Path) -> None:
    """Every registered check leaves a row in the run log, from which the badge follows."""
    with processes_of(tmp_path / "runs") as runs:
        words = [sys.executable, "-m", "engine", "retrain", "--genotype", "ARNAS", "--preset", "smoke", "--threads", "1",
                 "--then", "attack", "--attack.checks", "--runs", str(runs), "--json", "--wait"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        attack = json.loads(done.stdout)["ids"][-1]
        log = RunLog.open(runs)
        log.ingest()
        rows = log.checks(attack).drop(columns="run").to_dict("records")
        log.close()
    findings = [Finding(**row) for row in rows]
    assert [finding.check_name for finding in findings] == list(CHECKS)
    # Two steps of training hardly make a network, but they make a sound evaluation.
    assert not [finding for finding in findings if finding.finding == "failed" and finding.check_name != "planted"], findings
    assert badge(findings).reasons
