"""What a whole dispute about one block of the lane h100-bf16 costs on chain, at the sizes of two models:
data/results/block_gas.json. Values are made up; a real answer is disputed in ``block_disputes``."""

from __future__ import annotations

from otr_paper.benches.dispute_gas import DisputePlan, measure_block_dispute
from otr_paper.producers import frame


def main() -> None:
    frame.arguments(__doc__).parse_args()
    libraries = ("numpy", "vyper", "py-evm", "eth-tester")
    frame.store("block_gas", measure_block_dispute(DisputePlan()), seed=None, packages=libraries, cores=1)


if __name__ == "__main__":
    main()
