"""Bulkrate: deferrable language-model work, done at the bulk rate.

    import bulkrate

    run = bulkrate.run("tickets.bulk.yaml", yes=True)
    run.rows.succeeded, run.rows.failed
    table = pyarrow.table(run.results())

Names are loaded when they are first used: `import bulkrate` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkrate.api import Results, RowCounts, Run, arun, load_job, plan, run
    from bulkrate.errors import BulkrateError
    from bulkrate.jobs.spec import Job

__version__ = "0.1.0"

__all__ = [
    "BulkrateError",
    "Job",
    "Results",
    "RowCounts",
    "Run",
    "__version__",
    "arun",
    "load_job",
    "plan",
    "run",
]

_HOME = {
    "BulkrateError": "errors",
    "Job": "jobs.spec",
    "Results": "api",
    "RowCounts": "api",
    "Run": "api",
    "arun": "api",
    "load_job": "api",
    "plan": "api",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
