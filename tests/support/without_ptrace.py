"""The privileges of root in an ordinary container."""

from __future__ import annotations

import os

WITHOUT_PTRACE = (
    ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"] if os.geteuid() == 0 else []
)
"""Command prefix that removes ``CAP_SYS_PTRACE``, which only root has."""
