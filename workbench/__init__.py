"""SDFT Workbench: teach a language model a skill from demonstrations, and see what it forgot.

    from workbench import POCKET, POCKET_DEFAULTS, Settings, load, make_roles, read, sdft, split

    settings = Settings.from_dict(POCKET_DEFAULTS)
    roles = make_roles(load(POCKET), settings.lora)
    parts = split(read("sample_data/zorbic.jsonl").rows)
    for step in sdft(roles, parts.teaching, settings):
        print(step.step, step.loss)

What is named in `__init__.pyi` is the public API; everything else may change. A name is imported when it is first used,
so that the command line's help and the browser app do not wait for torch.
"""

import logging
import os

import lazy_loader

# PEFT imports bitsandbytes where it is installed, which then warns that a package is lacking which downloads code.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# A thread that waits for its neighbour spins, and where another program has the neighbour's core it spins for that
# program's whole turn, at every product: two threads were then a hundred times slower than one. After a few
# microseconds it shall sleep (benchmarks/busy.py). OpenMP reads this when torch is loaded, which comes later.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
