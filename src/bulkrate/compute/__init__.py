"""Where row work runs: in this process, or in worker processes beside it."""
