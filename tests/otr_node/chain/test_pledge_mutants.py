"""Every check of the contract of pledges, deleted one at a time, is noticed by its tests: tried anew, not stored."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from otr_node.chain.pledges import SOURCE
from otr_paper.benches.contract_mutants import vyper_mutants

PROGRAM = """
import json, sys
from pathlib import Path
from otr_paper.producers.court_mutants import Kept, contract_rows
folder, test, kept = map(Path, sys.argv[1:])
rows, refused = contract_rows(folder, [test], Kept(kept))
print(json.dumps([rows, refused]))
"""


@pytest.mark.slow
def test_each_check_of_the_contract_is_noticed(tmp_path, project):
    test = project.root / "tests/otr_node/chain/test_pledges.py"
    words = [sys.executable, "-c", PROGRAM, str(SOURCE.parent), str(test), str(tmp_path / "kept.json")]
    run = subprocess.run(words, cwd=project.root, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    rows, refused = json.loads(run.stdout.splitlines()[-1])
    assert {each["check"] for each in rows} == {mutant.text for mutant in vyper_mutants(SOURCE)[1]}
    assert refused > 50
    assert [each["check"] for each in rows if each["state"] != "killed"] == []
