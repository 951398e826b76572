"""Which ranker answers: the champion of the MLflow registry, a baked-in folder, or the default one of the reference table.

`current` decides once, for a command; `Watch` keeps deciding while the service runs. A swap is one assignment of a `Snapshot`; a
request takes one snapshot and answers from it alone, so that no answer mixes two rankers.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import FailedError, ForetuneError

if TYPE_CHECKING:
    from ranker import LearningToCompare

NAME = "foretune-ranker"
log = logging.getLogger("foretune.champion")


@dataclass(frozen=True)
class Snapshot:
    """One ranker and where it came from; never changed after it is made.

    Attributes
    ----------
    source : "mlflow" (the champion), "folder" (baked in), "kept" (the last champion, from disk) or "default" (reference table)
    generation : counts the swaps of one process; part of every cache key
    """

    ranker: LearningToCompare
    name: str
    version: str
    run_id: str | None
    source: str
    generation: int = 0
    since: float = field(default_factory=time.time)

    @property
    def identity(self) -> dict[str, Any]:
        """The ``ranker`` object of an answer."""
        return {"name": self.name, "version": self.version, "run_id": self.run_id}


def registry_exists(root: Path) -> bool:
    """Whether there is an MLflow store to ask: a tracking URI in the environment, or ``mlflow.db`` in `root`'s ``mlruns``."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (root / "mlruns" / "mlflow.db").is_file()


def default(root: Path, folder: Path | None = None) -> Snapshot:
    """The ranker that needs no MLflow: the one saved in `folder`, or the one fitted on the reference tables (kept in `root`'s
    ``mlruns``).
    """
    if folder is not None:
        from ranker import LearningToCompare

        return Snapshot(LearningToCompare.load(folder), **_identity(folder), source="folder")
    from ranker.reference import DEFAULT
    from ranker.reference.kept import kept_ranker

    return Snapshot(kept_ranker(root), "default", DEFAULT, None, "default")


def _identity(folder: Path) -> dict[str, Any]:
    """Name, version and run of a saved ranker, where ``identity.json`` says them."""
    file = folder / "identity.json"
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {"name": str(said.get("name", folder.name)), "version": str(said.get("version", "0")), "run_id": said.get("run_id")}


def fetch(root: Path, name: str = NAME) -> Snapshot | None:
    """The registry's champion; None when there is none.

    Raises
    ------
    StoreError : MLflow cannot be reached
    ForetuneError : the champion is corrupt or not understood
    """
    from features.errors import UnknownNameError
    from training import tracking

    try:
        found = tracking.champion(name, root=root)
    except UnknownNameError:
        return None
    if found is None:
        return None
    ranker, identity = found
    check(ranker)
    return Snapshot(ranker, str(identity["name"]), str(identity["version"]), identity.get("run_id"), "mlflow")


def check(ranker: LearningToCompare) -> None:
    """Ask a ranker one question before it may serve: the answer must be a probability, and swapping the sides must mirror it.

    Raises
    ------
    FailedError : it does not answer, or not sensibly
    """
    names = list(ranker.feature_names_)
    a, b = dict.fromkeys(names, 1.0), dict.fromkeys(names, 2.0)
    try:
        there, back = ranker.answer(a, b).to_dict()["probability"], ranker.answer(b, a).to_dict()["probability"]
    except ForetuneError:
        raise
    except Exception as error:
        raise FailedError(f"the ranker cannot answer: {type(error).__name__}: {error}", remedy="train it again") from error
    if not (0.0 <= there <= 1.0 and abs(there + back - 1.0) < 1e-6):
        raise FailedError(f"the ranker contradicts itself: P(A,B) = {there}, P(B,A) = {back}", remedy="train it again")


def current(root: Path, *, name: str = NAME, folder: Path | None = None, warn: Callable[[str], None] = log.warning) -> Snapshot:
    """The ranker for one command: the champion where there is one, else `default`."""
    if registry_exists(root):
        try:
            found = fetch(root, name)
        except ForetuneError as error:
            warn(f"the champion cannot be used, the default ranker answers: {error}")
            found = None
        if found is not None:
            return found
    return default(root, folder)


class Watch:
    """Keeps the newest good champion at hand.

    Parameters
    ----------
    root : folder that holds ``mlruns/``
    name : registered name
    folder : a baked-in ranker, used while there is no champion
    keep : folder in which a copy of the last good champion is kept, for a start while MLflow is away; None keeps none
    seconds : time between two looks at the alias

    Attributes
    ----------
    snapshot : read it once per request
    """

    def __init__(
        self, root: Path, *, name: str = NAME, folder: Path | None = None, keep: Path | None = None, seconds: float = 2.0
    ) -> None:
        self.root, self.name, self.folder, self.keep, self.seconds = root, name, folder, keep, seconds
        self.snapshot: Snapshot = self._kept() or default(root, folder)
        self.reachable: bool | None = None
        self.checked: float | None = None
        self.error: str | None = None
        self.refused: dict[str, Any] | None = None
        self.swaps = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion-watch", daemon=True)

    def start(self) -> None:
        """Look once, then go on looking in the background."""
        self.look()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stop.wait(self.seconds):
            self.look()

    def look(self) -> None:
        """Look at the alias once; never raises: what goes wrong is kept in `error`, `reachable` and `refused`."""
        if not registry_exists(self.root):
            self.reachable = None
            return
        try:
            from training import tracking

            version = tracking.alias_version(self.name, root=self.root)
            self.reachable, self.error = True, None
        except Exception as error:
            if self.reachable is not False:
                log.warning("MLflow cannot be reached: %s", error)
            self.reachable, self.error = False, _line(error)
            return
        finally:
            self.checked = time.time()
        if version is None:
            return
        here = self.snapshot
        if here.version == str(version) and here.name == self.name and here.source in ("mlflow", "kept"):
            self.refused = None
            return
        if self.refused is not None and self.refused["version"] == str(version):
            return
        try:
            found = fetch(self.root, self.name)
            if found is None:
                return
        except Exception as error:
            self.refused = {"version": str(version), "reason": _line(error), "at": time.time()}
            log.error("champion %s refused: %s", version, error)
            return
        self.swap(found)

    def swap(self, found: Snapshot) -> None:
        """Let `found` answer from the next request on."""
        self.swaps += 1
        self.snapshot = Snapshot(found.ranker, found.name, found.version, found.run_id, found.source, generation=self.swaps)
        self.refused = None
        log.info("ranker %s version %s answers now", found.name, found.version)
        self._keep(found)

    def _keep(self, found: Snapshot) -> None:
        if self.keep is None:
            return
        import shutil

        fresh = self.keep.with_name(self.keep.name + ".new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            found.ranker.save(fresh)
            (fresh / "identity.json").write_text(json.dumps(found.identity), encoding="utf-8")
            shutil.rmtree(self.keep, ignore_errors=True)
            fresh.rename(self.keep)
        except OSError as error:
            log.warning("no copy of the champion kept: %s", error)

    def _kept(self) -> Snapshot | None:
        if self.keep is None or not (self.keep / "identity.json").is_file() or not registry_exists(self.root):
            return None
        from ranker import LearningToCompare

        try:
            identity = _identity(self.keep)
            if identity["name"] != self.name:
                return None
            ranker = LearningToCompare.load(self.keep)
            check(ranker)
            return Snapshot(ranker, **identity, source="kept")
        except (ForetuneError, OSError, ValueError, KeyError) as error:
            log.warning("the kept copy of the champion cannot be used: %s", error)
            return None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
