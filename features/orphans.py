"""Processes that end with the one that started them, however that ends."""

from __future__ import annotations

import os
import threading
import time


def end_with(parent: int) -> None:
    """From now on, end this process within half a second of its parent's end, a kill -9 included; `parent` is the latter's id."""

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(3)

    threading.Thread(target=follow, daemon=True).start()
