"""``python -m event_hooks.cli`` is the command ``event-hooks``."""

import sys

from event_hooks.cli.main import main

sys.exit(main())
