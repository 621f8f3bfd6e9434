"""What is known of tensor-core blocks, computed: data/results/NAME.json for each part of
``python -m otr_paper.producers.blocks``.

* ``block_recordings``: the definition, and rules beside it, against what an H100 recorded (needs
  OTR_DATA_MIRROR). The recordings are others'; which of them a rule gives is computed here.
"""

from __future__ import annotations

from typing import Any

from otr_node import outside
from otr_paper.benches.blocks import RECORDINGS, agree_with_recordings
from otr_paper.producers import frame


def _recordings() -> dict[str, Any]:
    return agree_with_recordings(outside.get(frame.checkout(), *RECORDINGS, mirror=outside.mirror_folder()))


PARTS = {"block_recordings": _recordings}


def main() -> None:
    frame.store_parts(__doc__, PARTS, seed=1, packages=("numpy",))


if __name__ == "__main__":
    main()
