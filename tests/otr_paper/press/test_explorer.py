"""The sliders: every move redraws, the button goes back, and each state can be drawn without
them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_paper.press import explorer, figures
from otr_paper.series.your_case import State


@pytest.fixture(scope="module", autouse=True)
def style():
    """The figures' style, for every test here."""
    figures.use_style()


def parts(box):
    *sliders, reset, picture, numbers = box.children
    return sliders, reset, picture, numbers


def test_moving_a_slider_redraws_and_reset_goes_back():
    box = explorer.explorer(State(gain_usd=10.0))
    sliders, reset, picture, numbers = parts(box)
    before = (bytes(picture.value), numbers.value)
    assert bytes(picture.value).startswith(b"\x89PNG")
    # the least stake at 1 % for a gain of 10 USD, 30 % of a slash back to an own fisherman
    assert "1429 USD" in numbers.value
    sliders[0].value = 10  # per cent
    assert bytes(picture.value) != before[0]
    assert "142.9 USD" in numbers.value
    reset.click()
    assert (bytes(picture.value), numbers.value) == before


def test_every_slider_has_a_unit_and_starts_inside_its_range():
    sliders, *_ = parts(explorer.explorer(State()))
    assert [slider.description for slider in sliders] == [label for _, label, _, _ in explorer.SLIDERS]
    for slider, (field, _, low, high) in zip(sliders, explorer.SLIDERS, strict=True):
        assert 10**low <= slider.value <= 10**high
        assert slider.value == pytest.approx(getattr(State(), field) * explorer.TIMES.get(field, 1), rel=0.1)


@settings(max_examples=10, deadline=None)
@given(
    rho=st.sampled_from([0.0, 1e-5, 0.01, 1.0]),
    stake_usd=st.sampled_from([0.01, 100.0, 1e7]),
    gain_usd=st.sampled_from([-1.0, 0.0, 1e-4, 1e6]),
    slash_fraction=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_extreme_states_are_drawn_too(**values):
    import matplotlib.pyplot as plt

    state = State(**values)
    figure = explorer.draw_case(state)
    assert figures.png_bytes(figure).startswith(b"\x89PNG")
    plt.close(figure)
    assert len(explorer.summary(state)) == 4
