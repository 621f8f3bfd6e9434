"""Pay and detection, drawn: each case has its own look, also where two cases are one."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from otr_paper.pictures import quality
from otr_paper.press import figures

PAY = pd.DataFrame([{"formula": name, "ratio": 0.9, "ratio_low": 0.8, "ratio_high": 1.0} for name in quality.FORMULAS])


@pytest.mark.parametrize(
    "cases", [["PoQ", "a tenth", "ρ", "re-executed", "TEE"], ["PoQ", "ρ = 0 %", "re-executed", "TEE"]]
)
def test_each_case_has_its_look_where_no_answer_is_proved_too(cases):
    lines = pd.DataFrame([{"case": case, "answers": n, "undetected": 1 / n} for case in cases for n in (1, 2, 3)])
    right = quality.draw_pay_and_detection(PAY, lines, cases, 0.02).axes[1]
    shades = {line.get_label(): to_hex(line.get_color()) for line in right.lines if line.get_label() in cases}
    assert list(shades) == cases
    assert len(set(shades.values())) == len(cases)
    assert shades["PoQ"] == figures.SCHEME_COLOURS["PoQ"].lower()
    assert shades["TEE"] == figures.SCHEME_COLOURS["OTR"].lower()
