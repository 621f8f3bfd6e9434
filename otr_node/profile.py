"""Where profiles of deployments are read: the one that ships with the data, and one's own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from otr_core.dispute.profile import DeploymentProfile, ProfileError, parse_profile
from otr_core.errors import DataError
from otr_core.files import data_folder, read_input

FILE = "deployment.toml"
"""Name of the profile in a folder ``data``."""
_MOST_BYTES = 2**16


def read_profile(path: Path) -> DeploymentProfile:
    """The profile in a file.

    Raises:
        ProfileError: as ``parse_profile``. InputError: there is no such file, or it is too large.
    """
    raw = read_input(path, what="a profile of a deployment (TOML, as data/deployment.toml)", limit_bytes=_MOST_BYTES)
    try:
        return parse_profile(raw.decode())
    except UnicodeDecodeError as error:
        raise ProfileError("document", str(error), "text in UTF-8") from error


def profile_numbers(profile: DeploymentProfile) -> dict[str, int]:
    """Every number of a profile, by section and name, as ``court.window_s``."""
    parts = {"court": profile.court, "parties": profile.parties}
    return {f"{part}.{name}": value for part, own in parts.items() for name, value in vars(own).items()}


def check_made_with(name: str, stored: Mapping[str, int], profile: DeploymentProfile, again: str) -> None:
    """Refuse a stored result of another deployment than the profile's.

    Args:
        name: of the result. stored: the numbers it was made with. again: what makes it again.

    Raises:
        DataError: one of them is another in the profile.
    """
    own = profile_numbers(profile)
    for number, value in stored.items():
        if own.get(number) != value:
            raise DataError(
                f"{name}: made with {number} {value}, the profile says {own.get(number)}; make it again: {again}"
            )


@functools.cache
def own_profile() -> DeploymentProfile:
    """The profile that ships with the data of this installation."""
    return read_profile(data_folder() / FILE)
