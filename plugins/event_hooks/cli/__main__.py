"""``python -m event_hooks.cli`` runs the command ``event-hooks``."""

import sys

from event_hooks.cli.main import main

sys.exit(main())
