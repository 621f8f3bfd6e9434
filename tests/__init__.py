"""The tests. A worker of a parallel run computes on its share of the cores, and so does all that it starts:
threads of two workers on the same cores wait for each other by spinning. Read where numpy and torch are loaded."""

import os

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
