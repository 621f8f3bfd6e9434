"""The adversary who knows the bounds and stays inside all of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from otr_node.native import load_native
from otr_paper.labs.tolerance import bound_aware, native_operators
from otr_paper.labs.tolerance.native_operators import OPERATORS, Referee
from tests.otr_paper.labs.tolerance import IDS


@pytest.mark.parametrize("envelope", [1.0, 0.25])
def test_the_pushed_run_passes_everywhere_and_moves_the_gap(folder, lane, envelope):
    model = load_native(folder["plain"])
    referee = replace(Referee.of(load_native(folder["plain"], lane=lane)))
    # A rounded output must fit: operators that round once keep the whole bound, all of them do in
    # bf16.
    once = (
        {"residual", "rotary", "norm", "swiglu"} if lane == "native-float32" else {o.kind for o in OPERATORS.values()}
    )
    limits = {name: 1.0 if operator.kind in once else envelope for name, operator in OPERATORS.items()}
    found, run = bound_aware.attack(model, referee, IDS, limits)
    on_edge = 0
    for layer, state in enumerate(run):
        for operator in referee.operators(layer):
            reference, limit = referee.reference(operator, layer, state), limits[operator.name]
            assert reference.accepts(state[operator.output], limit), operator.name
            assert (referee.fmt.round(state[operator.output]) == state[operator.output]).all()
            on_edge += reference.ratios(state[operator.output]).max() > 0.9 * limit
    assert on_edge > 10
    assert found.drift > 0
    assert found.gap >= 0
    logits = run[-1]["logits"][-1]
    assert found.flipped == (logits.argmax() != found.first)


def test_the_adversary_s_gradient_is_the_slope_of_the_gap(folder):
    model = load_native(folder["plain"])
    referee = Referee.of(model)
    slope = bound_aware.gradient(model, IDS, 4, 9)
    everything = {(layer, o.output) for layer in range(4) for o in referee.operators(layer)}
    assert {(layer, name) for layer in range(4) for name in slope[layer]} >= everything

    def gap(layer, name, step):
        hidden, run = referee.tensors["model.embed_tokens.weight"][IDS], []
        for at in range(4):
            state = {"in": hidden}
            for operator in referee.operators(at):
                value = referee.reference(operator, at, state).value.copy()
                if (at, operator.output) == (layer, name):
                    value[6, 3] += step
                state[operator.output] = value
            hidden = state.get("out", hidden)
            run.append(state)
        logits = run[-1]["logits"][-1]
        return logits[9] - logits[4]

    for layer, name in ((0, "k rotated"), (0, "v"), (1, "activated"), (0, "mixed"), (1, "middle"), (0, "normed")):
        numeric = (gap(layer, name, 1e-5) - gap(layer, name, -1e-5)) / 2e-5
        assert slope[layer][name][6, 3] == pytest.approx(numeric, rel=2e-3, abs=1e-5), name


def test_importing_the_rule_loads_no_heavy_library():
    code = "import sys, otr_paper.labs.tolerance.tolerance, otr_paper.series.tolerance; "
    code += "print(*sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
    assert native_operators.LAYER_OPERATORS[0].name == "attention norm"
