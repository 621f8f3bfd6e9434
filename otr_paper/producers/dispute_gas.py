"""What a whole dispute costs on chain at the sizes of two models, and what is paid once before it:
data/results/dispute_gas.json."""

from __future__ import annotations

from otr_paper.benches.dispute_gas import DisputePlan, measure_dispute
from otr_paper.producers import frame


def main() -> None:
    frame.arguments(__doc__).parse_args()
    libraries = ("numpy", "vyper", "py-evm", "eth-tester")
    frame.store("dispute_gas", measure_dispute(DisputePlan()), seed=None, packages=libraries, cores=1)


if __name__ == "__main__":
    main()
