"""`python -m stream REF…`."""

import sys

from bakehouse_stream.main import main

sys.exit(main())
