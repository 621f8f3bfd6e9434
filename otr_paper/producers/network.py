"""A network under attack, once: the events of a run of ``otr devnet`` in data/results/network_run.json.
A minute; needs anvil."""

from __future__ import annotations

from otr_core.dispute.profile import FILE, read_profile
from otr_core.errors import OtrError
from otr_paper.benches.network import ATTACK, NETWORK_RUN, network_run
from otr_paper.producers import frame

SECONDS = 600.0


def main() -> None:
    frame.arguments(__doc__).parse_args()
    project = frame.checkout()
    found = network_run(project, attack=ATTACK, seconds=SECONDS, profile=read_profile(project.data / FILE))
    if found["broken"]:
        raise OtrError(f"the run did not end as promised: {'; '.join(found['broken'])}")
    frame.store(NETWORK_RUN, found, seed=None, packages=("web3", "vyper"), cores=2)


if __name__ == "__main__":
    main()
