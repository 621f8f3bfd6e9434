"""Which optional parts of the installation a command needs, and what to say when one is missing.

The base install verifies; pyproject.toml names the extras that add to it. The table here says by
which imports an extra is recognised, and a test compares it with pyproject.toml.
"""

from __future__ import annotations

from importlib.util import find_spec

from otr_core.errors import MissingExtraError

#: Extra → the third-party packages that it adds to the base install, by the names they are imported
#: under.
EXTRAS = {
    "node": (
        "torch",
        "transformers",
        "tokenizers",
        "jinja2",
        "safetensors",
        "gguf",
        "accelerate",
        "llvmlite",
        "numba",
        "pooch",
    ),
    "cuda": ("triton",),
    "proofs": ("ezkl", "onnx"),
    "chain": ("vyper", "eth_tester", "eth_abi", "web3", "eth_account", "rlp", "trie"),
    "serve": ("starlette", "uvicorn", "prometheus_client"),
    "paper": (
        *("jupyterlab", "papermill", "IPython", "ipykernel", "ipywidgets", "pandas", "matplotlib", "seaborn"),
        *("cycler", "PIL", "scipy", "joblib", "distributed", "eth_keys"),
    ),
    "site": ("sphinx", "myst_nb", "furo", "docutils"),
}


def need_extras(*names: str) -> None:
    """Refuse at once what would fail later for want of a package.

    The packages are looked up without being imported.

    Raises:
        MissingExtraError: it names every extra among ``names`` of which something is missing, and
            the first package that is.
    """
    missing = {name: [root for root in EXTRAS[name] if find_spec(root) is None] for name in names}
    short = tuple(name for name in names if missing[name])
    if short:
        raise MissingExtraError(missing[short[0]][0], short)


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The extra that would have brought the module which ``error`` names; None if no extra does."""
    root = (error.name or "").partition(".")[0]
    for name, roots in EXTRAS.items():
        if root in roots:
            return MissingExtraError(root, (name,))
    return None
