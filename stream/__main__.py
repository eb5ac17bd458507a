"""`python -m stream REF…`."""

import sys

from stream.main import main

sys.exit(main())
