"""The one process that owns the model, and the end of the pipe that others talk to it with.

`client` starts the process and speaks to it; it needs no torch. `service` is the process itself:
`python -m workbench.worker`. `protocol` is what both say.
"""

from workbench.worker.client import Call, Worker
from workbench.worker.protocol import Status, WasStopped, WorkerDied

__all__ = ["Call", "Status", "WasStopped", "Worker", "WorkerDied"]
