"""The interactive view of notebook 05: sliders over one operator's case; also as a still picture.

All numbers come from ``series.your_case.render``, a pure function of the sliders' state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from otr_paper.press import figures
from otr_paper.series.your_case import State, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: One slider a line: field of State, label with unit, lowest and highest power of ten.
SLIDERS = (
    ("rho", "spot-check rate ρ (%)", -3, 2),
    ("stake_usd", "stake (USD)", -2, 7),
    ("gain_usd", "gain of a cheat (USD)", -4, 6),
    ("slash_fraction", "slashed share", -2, 0),
)

#: By how much a slider's number is larger than the field of State behind it; 1 where nothing is said.
TIMES = {"rho": 100}


def draw_case(state: State) -> Figure:
    """What ``state`` means, as two plots.

    Left: the least rate ρ that deters, against the stake, with the state marked. Right: how likely
    a repeated cheat has been caught, against the number of cheated answers.
    """
    shown = render(state)
    fig, (left, right) = figures.subplots(figures.PAGE_IN, 2.6, ncols=2)
    boundary = [(p["stake_usd"], p["rho"]) for p in shown["boundary"] if np.isfinite(p["rho"]) and p["rho"] > 0]
    if boundary:
        stakes, rates = np.array(boundary).T
        rates = rates * 100
        left.plot(stakes, rates, color=figures.SCHEME_COLOURS["OTR"])
        left.fill_between(stakes, rates, 100, color=figures.SCHEME_COLOURS["OTR"], alpha=0.12, linewidth=0)
        left.annotate("honesty pays", (0.96, 0.92), xycoords="axes fraction", ha="right", va="top")
    percent = max(state.rho, 1e-7) * 100  # a logarithmic axis has no zero: the mark sits at its lower end
    left.plot(state.stake_usd, percent, "o", color=figures.PAPER_COLOUR)
    left.annotate("your case", (state.stake_usd, percent), xytext=(5, 4), textcoords="offset points")
    left.set(
        xscale="log", yscale="log", xlabel="stake per answer (USD)", ylabel="spot-check rate ρ (%)", ylim=(None, 150)
    )
    curve = np.array([(p["cheats"], p["detection"]) for p in shown["detection"]]).T
    right.plot(*curve, color=figures.SEQUENCE[3])
    right.set(xscale="log", xlabel="cheated answers (count)", ylabel="probability of a catch", ylim=(-0.02, 1.05))
    figures.headline(fig, shown["sentence"])
    return fig


def summary(state: State) -> list[str]:
    """The numbers behind the picture, one line each."""
    numbers = render(state)["numbers"]

    def text(name: str, unit: str, times: float = 1) -> str:
        value = numbers[name] * times
        return f"{value:.4g}{unit}" if np.isfinite(value) else "none suffices"

    return [
        f"least ρ at this stake: {text('least_rho', ' %', 100)}",
        f"least stake at this ρ: {text('least_stake_usd', ' USD')}",
        f"honest minus cheating pay per answer: {text('surplus_usd', ' USD')}",
        f"cheats undetected on average: {text('undetected_count', '')}",
    ]


def explorer(start: State) -> Any:
    """Sliders, picture and numbers in one widget; a button goes back to ``start``.

    Without a live kernel nothing moves, and the notebook shows the still picture instead.
    """
    import ipywidgets as widgets
    import matplotlib.pyplot as plt

    # The view is drawn once, when a slider is let go.
    looks: dict[str, Any] = {"readout_format": ".3g", "step": 0.05, "continuous_update": False}
    looks |= {"style": {"description_width": "11em"}, "layout": {"width": "34em"}}
    sliders = {
        field: widgets.FloatLogSlider(
            value=getattr(start, field) * TIMES.get(field, 1), min=low, max=high, description=label, **looks
        )
        for field, label, low, high in SLIDERS
    }
    picture, numbers = widgets.Image(format="png"), widgets.HTML()
    reset = widgets.Button(description="back to the start", tooltip="the values of the parameters cell")

    def show(_: object = None) -> None:
        changed = {field: slider.value / TIMES.get(field, 1) for field, slider in sliders.items()}
        state = State(**{**vars(start), **changed})
        figure = draw_case(state)
        picture.value = figures.png_bytes(figure)
        plt.close(figure)
        numbers.value = "<br>".join(summary(state))

    def go_back(_: object) -> None:
        for field, slider in sliders.items():
            slider.value = getattr(start, field) * TIMES.get(field, 1)

    for slider in sliders.values():
        slider.observe(show, names="value")
    reset.on_click(go_back)
    show()
    return widgets.VBox([*sliders.values(), reset, picture, numbers])
