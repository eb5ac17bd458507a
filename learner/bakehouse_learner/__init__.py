"""Delta replay → policy: reads what was decided and came of it, trains, evaluates, publishes."""

import os

# Matrices here are small: NumPy's own threads cost more than they give, and take the cores of
# the parts beside us. Read when NumPy is first imported, so it stands here.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
