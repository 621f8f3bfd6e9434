"""Which optional parts of the installation a command needs, and what to say when one is missing.

The base install verifies; pyproject.toml names the extras that add to it. The table here says by which import each
extra is recognised, and a test holds it against pyproject.toml.
"""

from __future__ import annotations

from importlib.util import find_spec

from otr_core.errors import MissingExtraError

#: Extra → the third-party packages, by the name they are imported under, that it adds to the base install.
EXTRAS = {
    "node": ("torch", "transformers", "safetensors", "gguf", "accelerate", "pooch"),
    "proofs": ("ezkl", "onnx"),
    "chain": ("vyper", "eth_tester", "eth_abi"),
    "paper": (
        *("jupyterlab", "papermill", "IPython", "ipykernel", "ipywidgets", "pandas", "matplotlib", "seaborn"),
        *("cycler", "scipy", "joblib", "distributed", "tokenizers", "PIL"),
    ),
}


def need_extras(*names: str) -> None:
    """Refuse to start what would fail later for want of a package. Looks the packages up without importing them.

    Raises:
        MissingExtraError: names all extras of ``names`` of which something is missing, and the first such package.
    """
    missing = {name: [root for root in EXTRAS[name] if find_spec(root) is None] for name in names}
    short = tuple(name for name in names if missing[name])
    if short:
        raise MissingExtraError(missing[short[0]][0], short)


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The extra that would have brought the module ``error`` is about; None when it belongs to no extra."""
    root = (error.name or "").partition(".")[0]
    for name, roots in EXTRAS.items():
        if root in roots:
            return MissingExtraError(root, (name,))
    return None
