"""`foretune serve` as a process, for tests that talk to the real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TOKEN = "a-token-for-the-tests"


@dataclass
class Server:
    """`foretune serve` in `root`; `ask` gives (status, JSON)."""

    root: Path
    url: str = ""
    token: str | None = None
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> Server:
        log = self.root / "serve.log"
        place = str(Path(__file__).parents[1])
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("FORETUNE_", "MLFLOW_TRACKING"))}
        with log.open("ab") as err:
            before = log.stat().st_size
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "serve", "--port", "0", *arguments],
                cwd=self.root,
                env=environment
                | {"PYTHONPATH": place}
                | self.environment
                | ({"FORETUNE_TOKEN": self.token} if self.token else {}),
                stdout=subprocess.DEVNULL,
                stderr=err,
            )
        end = time.monotonic() + 120
        while time.monotonic() < end:
            said = log.read_text(errors="replace")[before:]
            if "answers on http" in said:
                self.url = said.split("answers on ")[1].split()[0]
                try:
                    urllib.request.urlopen(self.url + "/readyz", timeout=5).close()
                    return self
                except OSError:
                    pass
            if self.process.poll() is not None:
                raise RuntimeError(said[-3000:])
            time.sleep(0.1)
        raise RuntimeError("the service did not get ready: " + log.read_text(errors="replace")[-3000:])

    def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = "", raw: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        head = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        token = self.token if token == "" else token
        if token:
            head["Authorization"] = f"Bearer {token}"
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = urllib.request.Request(self.url + path, data=data, headers=head, method=method)
        try:
            with urllib.request.urlopen(request, timeout=250) as answer:
                content, status = answer.read(), answer.status
        except urllib.error.HTTPError as error:
            with error:
                content, status = error.read(), error.code
        try:
            return status, json.loads(content)
        except ValueError:
            return status, content.decode()

    def stop(self, *, kill: bool = False) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(timeout=30)


def table(seed: int = 0, n: int = 12) -> pd.DataFrame:
    """A comparison table: a task `reviews`, checkpoints m00 ... with two features that mean something and outcomes."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=n)
    return pd.DataFrame(
        {
            "task": "reviews",
            "checkpoint": [f"m{i:02d}" for i in range(n)],
            "outcome": 0.7 + 0.05 * skill + rng.normal(0, 0.01, n),
            "ppl_clm": np.exp(3 - 0.3 * skill + rng.normal(0, 0.1, n)),
            "kshot_acc": 0.5 + 0.1 * skill + rng.normal(0, 0.03, n),
            "objective": ["clm" if i % 2 else "sc" for i in range(n)],
        }
    )
