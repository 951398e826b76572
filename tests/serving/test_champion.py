"""The hot swap: with a real registry, with corrupt champions, with MLflow away, and under load."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

import pytest

from features.errors import FailedError
from ranker import LearningToCompare
from ranker.reference.kept import made_of
from served import table
from serving.champion import Snapshot, Watch, check, current
from serving.desk import Desk
from serving.schema import Checkpoint
from serving.settings import Settings
from training import tracking

A = Checkpoint(name="a", features={"ppl_clm": 12.0, "kshot_acc": 0.61})
B = Checkpoint(name="b", features={"ppl_clm": 31.0, "kshot_acc": 0.42})


def fitted(seed: int) -> LearningToCompare:
    rows = table(seed)
    ranker = LearningToCompare(bags=4, rounds=5, random_state=seed)
    return ranker.fit(rows[["ppl_clm", "kshot_acc"]], rows["outcome"], task=rows["task"], group=rows["checkpoint"])


@pytest.fixture(scope="module")
def rankers() -> tuple[LearningToCompare, LearningToCompare]:
    return fitted(1), fitted(2)


def register(ranker: LearningToCompare, root: Path, *, champion: bool = True) -> str:
    version = tracking.register_ranker(ranker, root=root)
    if champion:
        before = tracking.alias_version(root=root)
        assert tracking.move_alias("foretune-ranker", version, expected=before, root=root)
    return version


def test_the_newest_champion_answers_and_a_corrupt_one_is_refused(
    mlflow_root: Path, rankers: tuple[LearningToCompare, LearningToCompare]
) -> None:
    keep = mlflow_root / "mlruns" / "service" / "champion"
    watch = Watch(mlflow_root, keep=keep)
    watch.look()
    assert (watch.snapshot.source, watch.reachable) == ("default", True)
    assert (mlflow_root / "mlruns" / "default-ranker" / made_of() / "ranker.json").is_file()  # it is not fitted at the next start
    first = register(rankers[0], mlflow_root)
    watch.look()
    assert (watch.snapshot.source, watch.snapshot.version, watch.swaps) == ("mlflow", first, 1)
    assert watch.snapshot.run_id
    known = set((mlflow_root / "mlruns" / "artifacts").rglob("booster.txt"))
    second = register(rankers[1], mlflow_root)
    (newest,) = set((mlflow_root / "mlruns" / "artifacts").rglob("booster.txt")) - known
    whole = newest.read_text()
    newest.write_text(whole[: len(whole) // 2])
    watch.look()
    assert watch.snapshot.version == first
    assert watch.refused is not None
    assert watch.refused["version"] == second
    assert watch.refused["reason"]
    warned: list[str] = []
    assert current(mlflow_root, warn=warned.append).source == "default"
    assert "champion" in warned[0]

    third = register(rankers[1], mlflow_root)
    watch.look()
    assert (watch.snapshot.version, watch.refused, watch.swaps) == (third, None, 2)
    assert Watch(mlflow_root, keep=keep).snapshot.version == third


def test_while_mlflow_is_away_the_last_champion_answers_and_says_so(
    mlflow_root: Path, rankers: tuple[LearningToCompare, LearningToCompare], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(rankers[0], mlflow_root)
    keep = mlflow_root / "mlruns" / "service" / "champion"
    watch = Watch(mlflow_root, keep=keep)
    watch.look()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    watch.look()
    assert (watch.reachable, watch.snapshot.version) == (False, version)
    assert watch.error
    late = Watch(mlflow_root, keep=keep)
    assert (late.snapshot.source, late.snapshot.version) == ("kept", version)
    assert Watch(mlflow_root, name="other", keep=keep).snapshot.source == "default"  # a copy of another ranker is none of it


def test_a_ranker_that_contradicts_itself_may_not_serve(rankers: tuple[LearningToCompare, LearningToCompare]) -> None:
    check(rankers[0])

    class Partial(LearningToCompare):
        def answer(self, a, b, **context):  # type: ignore[no-untyped-def]
            found = super().answer(a, b, **context)
            return dataclasses.replace(found, probability=0.9)

    broken = Partial()
    broken.__dict__.update(rankers[0].__dict__)
    with pytest.raises(FailedError, match="contradicts itself"):
        check(broken)


def test_a_hundred_swaps_under_load_fail_no_answer_and_mix_none(
    tmp_path: Path, rankers: tuple[LearningToCompare, LearningToCompare]
) -> None:
    desk = Desk(Settings.read({"FORETUNE_ROOT": str(tmp_path)}))
    desk.reload()
    expected = {str(i): ranker.answer(A.features, B.features, task="reviews").probability for i, ranker in enumerate(rankers)}
    assert expected["0"] != expected["1"]
    snapshots = [Snapshot(ranker, "foretune-ranker", str(i), None, "mlflow") for i, ranker in enumerate(rankers)]
    desk.watch.keep = None
    desk.watch.swap(snapshots[0])
    seen: list[tuple[str, float]] = []
    failed: list[Exception] = []
    done = threading.Event()

    def load(place: int) -> None:
        n = 0
        while not done.is_set():
            n += 1
            # Every third question is new, so that answers come from the ranker as well as from memory.
            a = Checkpoint(name=f"a{place}-{n // 3}", features=A.features)
            try:
                answer = json.loads(desk.compare("reviews", a, B))
                seen.append((answer["ranker"]["version"], answer["probability"]))
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=load, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for i in range(100):
        desk.watch.swap(snapshots[(i + 1) % 2])
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert {version for version, _ in seen} == {"0", "1"}
    assert all(probability == pytest.approx(expected[version], abs=1e-12) for version, probability in seen)
    assert desk.watch.swaps == 101
