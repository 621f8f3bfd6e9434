"""A trace of the ordered shape from a model that runs only some of its layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otr_core.poea.trace import Recorder


class Stretched:
    """Hands over what a model of few layers leaves behind as if it were one of more.

    Each kept layer's states stand where the ordered model has that layer. A layer left out stands
    there too, with the states of the kept one below it: what enters it leaves it unchanged. So
    every unit of a kept layer follows from what is below, and only the units of layers that were
    left out are false. No cheaper lie breaks fewer.

    Args:
        recorder: gets the stretched states. kept: numbers, in the ordered model, of the layers that
            run; ascending from 0. layers: of the ordered model.
    """

    def __init__(self, recorder: Recorder, kept: Sequence[int], layers: int) -> None:
        self._recorder, self._ends = recorder, (*kept, layers)

    def absorb(self, layer: int, position: int, output: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
        """As ``Recorder.absorb``."""
        for i in range(len(output)):
            first, end = self._ends[layer + i], self._ends[layer + i + 1]
            rows = (np.repeat(array[i : i + 1], end - first, axis=0) for array in (output, key, value))
            self._recorder.absorb(first, position, *rows)
