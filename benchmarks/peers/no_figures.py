"""Lets PtyRAD 1.0.0 be imported by Python 3.11: its figures, which nobody draws here, are written for 3.12."""

from __future__ import annotations

import sys
from unittest.mock import MagicMock

for _module in ("ptyrad.plotting", "ptyrad.plotting.basic", "ptyrad.plotting.model"):
    sys.modules[_module] = MagicMock()
