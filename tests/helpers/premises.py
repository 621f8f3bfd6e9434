"""What each theorem of the guarantee is asked: to name the premise that fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otr_core.economics.premises import HYPOTHESES, NEEDS
from otr_core.errors import ParameterError, PremiseError


def name_what_fails(theorem: str, call: Callable[[frozenset[str]], object]) -> None:
    """``call`` a theorem with each hypothesis failing: it refuses by the name of what it needs, and takes
    no harm from the others."""
    for name in HYPOTHESES:
        if name in NEEDS[theorem]:
            with pytest.raises(PremiseError) as error:
                call(frozenset({name}))
            assert error.value.check == name
        else:
            call(frozenset({name}))
    with pytest.raises(ParameterError, match="failing"):
        call(frozenset({"H99"}))
