"""`python -m bakehouse_serving REF…`: answers decisions of applications until it is stopped."""

from __future__ import annotations

import logging
import os
import sys

from bakehouse_schemas.errors import BakehouseError
from bakehouse_schemas.process.logs import set_up_logs
from bakehouse_schemas.process.private import write_privately
from bakehouse_schemas.process.settings import load_settings
from bakehouse_serving.server import serve

log = logging.getLogger("serving")


def main() -> int:
    """Exit status: 0 after a stop, 2 where it cannot start."""
    set_up_logs("serving", "text", to=sys.stderr)
    try:
        settings = load_settings()
        set_up_logs("serving", settings.log_format, to=sys.stderr)
        write_privately()
        return serve(settings, sys.argv[1:])
    except (BakehouseError, OSError) as error:
        log.error("serving cannot start: %s", error)
        return 2


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Threads of the Kafka client may be inside a long fetch: nothing there is worth waiting for.
    os._exit(status)
