"""Policy → decision → Kafka: answers a game over HTTP, and loses nothing that it answered."""

import os

# Before NumPy loads its BLAS: a policy is small, and threads that help with large matrices only
# take the cores from the other parts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
