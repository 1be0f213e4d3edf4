"""What a run leaves behind for other programs: a PEFT adapter, a merged model, a TRL script."""

from workbench.export.folders import KINDS, export_run

__all__ = ["KINDS", "export_run"]
