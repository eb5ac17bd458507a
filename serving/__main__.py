"""`python -m serving REF…`: answers decisions of these applications until it is told to stop."""

from __future__ import annotations

import logging
import os
import sys

from schemas.errors import BakehouseError
from schemas.settings import load_settings
from serving.server import serve

logging.basicConfig(
    level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
)
# The client repeats itself while a broker is away; what matters of it is said once, by us.
logging.getLogger("kafka").setLevel(logging.CRITICAL)


def main() -> int:
    """Exit status: 0 after a stop, 2 where it cannot start."""
    try:
        return serve(load_settings(), sys.argv[1:])
    except (BakehouseError, OSError) as error:
        sys.stderr.write(f"serving cannot start: {error}\n")
        return 2


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Threads of the Kafka client may be inside a long fetch: nothing there is worth waiting for.
    os._exit(status)
