"""One command, a whole network of processes: the cheat is slashed, the honest operator is paid, and
nothing is left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otr_core.dispute.profile import FILE
from otr_core.errors import InputError
from otr_core.files import data_folder
from otr_paper.devnet.attacks import SILENT, WITHHELD, attack_named, lie_named
from tests.helpers.nodes import needs_anvil


def running() -> set[int]:
    """Processes of a devnet on this machine."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"otr-devnet-" in words:
            found.add(int(folder.name))
    return found


@pytest.mark.slow
@needs_anvil
@pytest.mark.parametrize("attack", ["another token than the model's", ""])
def test_a_devnet_ends_as_it_should_and_leaves_nothing(attack):
    before = running()
    words = [sys.executable, "-m", "otr_core.cli", "devnet", "--seconds", "600", "--json", "--attack", attack]
    done = subprocess.run(words, capture_output=True, text=True, timeout=700, env=dict(os.environ))
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (events[-5:], done.stderr[-500:])
    end = events[-1]
    assert end["event"] == "ended"
    assert (end["slashed_s"] is not None, end["honest_slashed"], end["finalised"], end["left"]) == (
        bool(attack),
        False,
        True,
        0,
    )
    assert len(end["paid"]) == (2 if attack else 0)
    said = {(each["process"], each["event"]) for each in events}
    assert ("operator-1", "finalise") in said
    assert (("fisherman-1", "challenge") in said) is bool(attack)
    assert running() <= before


def test_an_attack_is_a_row_of_the_table():
    assert lie_named("another token than the model's").name == "tokensRoot: another token than the model's"
    for name in ("no such lie", "a wrong value", "an ordered token beyond the vocabulary"):
        with pytest.raises(InputError, match="--attack"):
            lie_named(name)
    assert attack_named("").lie is None
    assert attack_named(WITHHELD).withholds
    silent = attack_named(f"{SILENT}another token than the model's")
    assert silent.silent
    assert silent.lie is not None


def test_a_profile_that_is_none_is_unusable_input_before_anything_starts(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text((data_folder() / FILE).read_text().replace('unit = "s"', 'unit = "h"', 1))
    words = [sys.executable, "-m", "otr_core.cli", "devnet", "--profile", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "profile court.window_s: found 'h', expected the unit s" in done.stderr
    assert done.stderr.count("\n") == 1
