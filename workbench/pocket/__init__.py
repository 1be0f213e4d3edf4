"""The bundled pocket model: small enough for any laptop, able to learn from a demonstration in its prompt.

`world/` is what it knows, `train.py` trains it from nothing, `measure.py` measures it, `sample_data.py`
writes the skills that it does not know.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the bundled model, in Hugging Face's format."""

PROBES = Path(__file__).parent / "probes.jsonl"
"""Questions about what the bundled model knows."""
