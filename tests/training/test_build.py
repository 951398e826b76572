"""A zoo from a recipe: killed and resumed to the same bits, stopped by its time, refused where the recipe is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import DataError, ManifestError, StoreError
from features.zoo import Zoo
from training import recipe as recipes
from training.build import build

RECIPE: dict[str, Any] = {
    "zoo": "three",
    "seed": 3,
    "tokenizer": {"vocabulary": 400, "sentinels": 16, "characters": 20_000},
    "architecture": {"layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "context": 64},
    "training": {"tokens": 20_000, "rows": 8, "state_every": 5},
    "corpora": {"code": "code.jsonl", "manual": {"source": "manual.jsonl", "tag": "docs"}},
    "mixes": {"code": {"code": 1}, "both": {"code": 1, "manual": 2}},
    "trajectory": {"variants": 1, "checkpoints": 4},
    "variants": [
        {"name": "clm", "objective": "clm", "data_mix": "code", "learning_rate": 0.005},
        {"name": "tagged", "objective": "ul2r", "data_mix": "both", "learning_rate": 0.005, "domain_tag": 1},
        {"name": "short", "objective": "sc", "data_mix": "both", "learning_rate": 0.002, "length_filter": "0-75"},
    ],
}
MODULES = ("heapq", "bisect", "shlex", "string", "textwrap", "sched", "queue", "cmd")
STEPS = 39  # 20,000 tokens in batches of 8 x 64

FACTORS = {"objective": ["clm"], "data_mix": ["code"], "learning_rate": [0.1]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a three-variant recipe and its two corpora."""
    home = tmp_path_factory.mktemp("recipe")
    library = Path(json.__file__).parents[1]
    code = [
        (library / f"{name}.py").read_text()
        for name in ("heapq", "bisect", "shlex", "string", "textwrap", "sched", "queue", "cmd")
    ]
    manual = [doc for text in code for doc in text.split('"""')[1::2] if len(doc) > 40]
    for name, documents in (("code", code), ("manual", manual)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    write(home, RECIPE)
    return home


def write(home: Path, content: dict[str, Any], name: str = "three.yaml") -> Path:
    (home / name).write_text(yaml.safe_dump(content))
    return home / name


@pytest.fixture(scope="module")
def whole(home: Path) -> Path:
    """The zoo of that recipe, built without interruption."""
    build(home / "three.yaml", home / "whole", progress=False, device="cpu")
    return home / "whole"


def digests(zoo: Path) -> dict[str, str]:
    return {str(f.relative_to(zoo)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(zoo.rglob("model.safetensors"))}


def test_the_manifest_is_a_zoo_with_the_configuration_of_each_variant(whole: Path):
    zoo = Zoo.read(whole / "zoo.yaml")
    assert [c.name for c in zoo.checkpoints] == ["clm", "tagged", "short"]
    assert all((Path(c.location) / "model.safetensors").is_file() for c in zoo.checkpoints)
    assert zoo.checkpoints[1].step == STEPS
    assert dict(zoo.checkpoints[1].meta) == {
        "objective": "ul2r",
        "data_mix": "both",
        "learning_rate": 0.005,
        "domain_tag": 1,
        "length_filter": "all",
        "tokens": STEPS * 8 * 64,
    }
    along = Zoo.read(whole / "trajectories" / "clm.yaml")
    assert [c.step for c in along.checkpoints] == recipes.read(whole.parent / "three.yaml").keep_at(0)
    assert len(along.checkpoints) == 4
    assert all((Path(c.location) / "config.json").is_file() for c in along.checkpoints)
    for manifest in (zoo, along):
        assert manifest.corpora["reference"].is_file()


def test_the_reference_text_was_trained_on_by_none(whole: Path):
    rows = [json.loads(line) for line in (whole / "text" / "reference.jsonl").read_text().splitlines()]
    assert {row["corpus"] for row in rows} == {"code", "manual"}
    records = [json.loads((whole / "variants" / name / "record.json").read_text()) for name in ("clm", "tagged", "short")]
    assert all(record["metrics"]["loss_last"] < 0.95 * record["metrics"]["loss_first"] for record in records)
    assert not list(whole.rglob("state.safetensors"))


def test_killed_and_resumed_a_build_ends_in_the_same_bits(home: Path, whole: Path):
    out = home / "killed"
    script = f"from training.build import build; build({str(home / 'three.yaml')!r}, {str(out)!r}, progress=False, device='cpu')"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    state = out / "variants" / "tagged" / "state.safetensors"  # the first variant is finished by then, the second is not
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 200
    while process.poll() is None and not state.exists():
        assert time.monotonic() < give_up
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "variants" / "tagged" / "record.json").exists()
    report = build(home / "three.yaml", out, progress=False, device="cpu")
    assert report.finished == ["clm", "tagged", "short"]
    assert digests(out) == digests(whole)
    assert len(digests(out)) == 6


def states(out: Path) -> set[tuple[str, int]]:
    """Every state that variants in work have saved, with the time of it."""
    found = set()
    for file in out.glob("variants/*/state.safetensors"):
        with suppress(FileNotFoundError):  # its variant has come to its end
            found.add((file.parent.name, file.stat().st_mtime_ns))
    return found


def test_a_build_of_two_jobs_interrupted_or_killed_leaves_no_worker_at_work_and_is_gone_on_with_at_once(home: Path, whole: Path):
    out, give_up = home / "killed-jobs", time.monotonic() + 250
    command = [sys.executable, "-m", "serving.cli", "zoo", "build", str(home / "three.yaml"), "-o", str(out), "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "MLFLOW_TRACKING_URI": "sqlite:////nowhere/no.db"}
    workers = []
    for end, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        # Tests that a shell started in the background ignore SIGINT, and so would all that they start.
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        known = states(out)
        while process.poll() is None and states(out) <= known:
            assert time.monotonic() < give_up
            time.sleep(0.002)
        workers += [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        process.send_signal(end)  # to this process alone, as a scheduler does; Ctrl-C reaches the workers too
        assert process.wait(timeout=100) == code
        assert len(list(out.glob("variants/*/record.json"))) < 2  # the two in work did not go on to their end
    assert build(home / "three.yaml", out, progress=False, device="cpu").finished == ["clm", "tagged", "short"]
    assert digests(out) == digests(whole)
    assert len(workers) >= 4
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_text() for pid in workers):
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_a_time_budget_stops_between_steps_and_the_next_call_ends_the_work(home: Path, whole: Path):
    out, seen = home / "budget", []
    report = build(home / "three.yaml", out, time_budget=0, progress=False, device="cpu")
    assert (report.finished, report.unfinished) == ([], ["clm", "tagged", "short"])
    assert not report.manifest.exists()
    for _ in range(100):
        report = build(home / "three.yaml", out, time_budget=0.6 / 60, progress=False, device="cpu", on_variant=seen.append)
        if not report.unfinished:
            break
    assert report.finished == ["clm", "tagged", "short"]
    assert [record["name"] for record in seen] == report.finished
    assert seen[0]["parameters"]["objective"] == "clm"
    assert seen[0]["history"][-1]["tokens"] == seen[0]["metrics"]["tokens"]
    assert digests(out) == digests(whole)


def test_two_jobs_build_the_same_zoo(home: Path, whole: Path):
    report = build(home / "three.yaml", home / "jobs", jobs=2, progress=False, device="cpu")
    assert sorted(report.finished) == ["clm", "short", "tagged"]
    assert [c.name for c in Zoo.read(report.manifest).checkpoints] == ["clm", "tagged", "short"]
    if os.cpu_count() == 2:  # one thread each, as in the uninterrupted build
        assert digests(home / "jobs") == digests(whole)


def test_a_finished_zoo_is_left_alone_and_a_longer_recipe_adds_to_it(home: Path, whole: Path):
    before = {f: f.stat().st_mtime_ns for f in whole.rglob("model.safetensors")}
    more = {**RECIPE, "variants": [*RECIPE["variants"], {**RECIPE["variants"][0], "name": "fourth", "learning_rate": 0.001}]}
    report = build(write(home, more, "four.yaml"), whole, progress=False, device="cpu")
    assert report.finished == ["clm", "tagged", "short", "fourth"]
    assert all(f.stat().st_mtime_ns == then for f, then in before.items())
    other = {**RECIPE, "training": {**RECIPE["training"], "tokens": 30_000}}
    with pytest.raises(ManifestError, match=r"clm was made from another recipe, text or tokenizer; build into another folder"):
        build(write(home, other, "other.yaml"), whole, progress=False)


def test_one_variant_that_fails_is_a_row_and_the_others_go_on(home: Path):
    variants = [{**RECIPE["variants"][0], "name": "wild", "learning_rate": 1.0}, RECIPE["variants"][0]]
    wild = {**RECIPE, "training": {**RECIPE["training"], "clip": 1e30, "warmup": 0.0, "weight_decay": 1e6}, "variants": variants}
    report = build(write(home, wild, "wild.yaml"), home / "wild", progress=False, device="cpu")
    assert list(report.failed) == ["wild", "clm"] or (list(report.failed) == ["wild"] and report.finished == ["clm"])
    assert "the loss is" in report.failed["wild"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_variant_whose_filter_leaves_too_little_text_is_a_row_and_the_others_go_on(home: Path, jobs: int):
    short = {**RECIPE["variants"][0], "data_mix": "few"}
    content = {
        **RECIPE,
        "corpora": {**RECIPE["corpora"], "few": "few.jsonl"},
        "mixes": {**RECIPE["mixes"], "few": {"few": 1}},
        "variants": [
            {**short, "name": "none", "length_filter": "40-45"},
            {**short, "name": "little", "length_filter": "0-1"},
            RECIPE["variants"][0],
        ],
    }
    (home / "few.jsonl").write_text("".join(json.dumps({"text": "ab" * 10**n}) + "\n" for n in range(4)))
    report = build(write(home, content, "few.yaml"), home / f"few-{jobs}", jobs=jobs, progress=False, device="cpu")
    assert report.finished == ["clm"]
    where, remedy = f"{home / 'few.yaml'}: corpora.few: ", "give more text, or a wider filter"
    assert report.failed.pop("none") == f"{where}no document is left after the length filter 40-45; {remedy}"
    (little,) = report.failed.values()
    assert little.startswith(where)
    assert little.endswith(f"tokens are left after the length filter 0-1; {remedy}")


def test_a_folder_in_use_is_refused(home: Path):
    import fcntl

    (home / "busy").mkdir()
    with (home / "busy" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="another build is at work here; wait for it"):
            build(home / "three.yaml", home / "busy", progress=False)


def changed(**changes: Any) -> dict[str, Any]:
    return {**RECIPE, **changes}


def variant(**changes: Any) -> dict[str, Any]:
    return changed(variants=[{**RECIPE["variants"][0], **changes}])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(colour="red"), r"colour: unknown key; see docs/zoo\.md"),
        (changed(training={"tokens": 100, "epochs": 3}), r"training\.epochs: unknown key"),
        (changed(training={"tokens": 0}), r"training\.tokens: input should be greater than or equal to 1 \(found '0'\)"),
        (changed(training={}), r"training\.tokens: field required"),
        (changed(architecture={"width": 30, "heads": 4}), r"architecture: width 30 over 4 heads is not an even number"),
        (changed(tokenizer={"vocabulary": 300, "sentinels": 64}), r"tokenizer\.vocabulary: has no room for the bytes"),
        (
            changed(mixes={"code": {"films": 1}, "both": {"code": 1}}),
            r"mixes\.code: no corpus 'films'; use corpora",
        ),
        *(
            (
                changed(mixes={"code": {"code": 1}, "both": {"code": 1, "manual": share}}),
                r"mixes\.both: needs corpora with finite shares above 0; give each corpus a share",
            )
            for share in (0, -1, float("nan"), float("inf"), float("-inf"))
        ),
        (changed(variants=[]), "needs either variants or a design"),
        (changed(variants=[RECIPE["variants"][0]] * 2), "two variants are called 'clm'"),
        (variant(objective="elm"), r"variants\[0\]\.objective: no objective 'elm'; use one of clm"),
        (variant(data_mix="web"), r"variants\[0\]\.data_mix: no mix 'web'; use one of both, code"),
        (variant(length_filter="90-10"), r"variants\[0\]\.length_filter: not a length filter: '90-10'"),
        (variant(name="../up"), r"variants\.0\.name: string should match pattern"),
        (variant(learning_rate=-1), r"variants\.0\.learning_rate: input should be greater than 0"),
        (
            variant(objective="ul2") | {"tokenizer": {"vocabulary": 400, "sentinels": 2}},
            r"tokenizer\.sentinels: ul2 needs \d+ sentinels; raise it",
        ),
        (
            changed(
                variants=[], design={"runs": 9, "factors": {"objective": ["clm"], "data_mix": ["code"], "learning_rate": [0.1]}}
            ),
            r"design: 9 runs asked for, but the factors have 1 combinations",
        ),
        ([1], r"a recipe is a mapping of keys to values, found a list of 1; see docs/zoo\.md for the keys"),
    ],
)
def test_a_wrong_recipe_is_a_named_error(tmp_path: Path, content, message):
    with pytest.raises(ManifestError, match=message) as caught:
        recipes.read(write(tmp_path, content, "r.yaml"))
    assert str(tmp_path / "r.yaml") in str(caught.value)


def test_unreadable_recipes_and_missing_corpora_are_named_errors(tmp_path: Path):
    for content, message in (
        ("zoo: [", "line 1: expected the node content"),
        ("zoo: a\nseed: 2024-13-45\n", "line 2: '2024-13-45' cannot be read"),
        ("zoo: a\nseed: !!int abc\n", "line 2: 'abc' cannot be read"),
        (f"zoo: a\nseed: {'9' * 5000}\n", f"line 2: '{'9' * 40}' cannot be read"),
        ("zoo: a\nseed: 1\nseed: 2\n", "line 3: the key 'seed' is written twice"),
        ("", "an empty recipe file"),
    ):
        (tmp_path / "bad.yaml").write_text(content)
        with pytest.raises(ManifestError, match=re.escape(f"bad.yaml: {message}")):
            recipes.read(tmp_path / "bad.yaml")
    for missing in ("none.yaml", tmp_path / "none.yaml", "x" * 300):
        with pytest.raises(ManifestError, match=r"no such recipe; give a YAML file, or one of demo, free, pilot, reference$"):
            recipes.read(missing)
    with pytest.raises(ManifestError, match="a folder, where a recipe file was expected"):
        recipes.read(tmp_path)
    with pytest.raises(DataError, match=r"r\.yaml: corpora\.code: no corpus file .*code\.jsonl; correct the name, or say"):
        build(write(tmp_path, RECIPE, "r.yaml"), tmp_path / "out", progress=False)


def test_a_trajectory_is_kept_at_equal_or_doubling_distances():
    plan = recipes.read("demo")
    steps = plan.steps
    kept = plan.model_copy(update={"trajectory": recipes.Trajectory(variants=1, checkpoints=12)}).keep_at(0)
    assert len(kept) == 12
    assert kept[0] == 1
    assert kept[-1] == steps
    assert kept[-1] / kept[-2] == pytest.approx(kept[-2] / kept[-3], rel=0.15)
    linear = plan.model_copy(update={"trajectory": recipes.Trajectory(variants=1, checkpoints=4, spacing="linear")})
    assert linear.keep_at(0) == [round(steps / 4), round(steps / 2), round(3 * steps / 4), steps]
    assert linear.keep_at(1) == [steps]


def test_the_demo_recipe_needs_nothing_but_the_installation():
    plan = recipes.read("demo")
    assert len(plan.runs()) >= 6
    assert all(corpus.source.startswith("builtin:") for corpus in plan.corpora.values())
    assert len({run.objective for run in plan.runs()}) >= 3
    assert len({run.data_mix for run in plan.runs()}) >= 3
