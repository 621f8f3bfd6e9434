"""A real LLM, run in an exactly described way, with committed weights and a committed trace.

Importing this package is light; torch and transformers load with the first model.
"""

from otr_core.inference.architecture import Architecture
from otr_core.inference.convert import convert_gguf
from otr_core.inference.generate import Answer, generate, rebuild_states
from otr_core.inference.model import load_model, load_native
from otr_core.inference.portable import load_portable
from otr_core.inference.registry import LANES, ModelManifest
from otr_core.inference.sampling import Decoding
from otr_core.inference.trace import Trace, TraceShape, open_piece, verify_opening

__all__ = [
    "LANES",
    "Answer",
    "Architecture",
    "Decoding",
    "ModelManifest",
    "Trace",
    "TraceShape",
    "convert_gguf",
    "generate",
    "load_model",
    "load_native",
    "load_portable",
    "open_piece",
    "rebuild_states",
    "verify_opening",
]
