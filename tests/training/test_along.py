"""Whole runs, asked under templates and fine-tuned, and the page that says whether the two go together: on real checkpoints."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import checkpoints
from features.errors import DataError
from features.studies import __main__ as studies
from training import along, reference

STEPS = (1, 2, 4, 8, 16, 32)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of six small checkpoints, and a small task in the place of SST-2."""
    home = tmp_path_factory.mktemp("along")
    for number, run in enumerate("ab"):
        listed = []
        for place, step in enumerate(STEPS):
            checkpoints.llama(home / run / f"step-{step}", seed=10 * number + place, layers=1, width=32, positions=64)
            listed.append({"name": f"{run}@{step}", "model": f"./{run}/step-{step}", "family": run, "step": step})
        (home / f"{run}.yaml").write_text(yaml.safe_dump({"zoo": run, "checkpoints": listed}))
    rows = [
        {"text": f"number {i} is {word}", "label": label, "split": split}
        for split, numbers in (("train", range(24)), ("validation", range(24, 40)), ("test", range(40, 60)))
        for i in numbers
        for label, word in enumerate(("dull", "fine"))
    ]
    with gzip.open(home / "sst2.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return home


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reference.FINETUNING, "epochs", 1)
    monkeypatch.setitem(reference.FINETUNING, "max_length", 32)


@pytest.mark.usefixtures("short")
def test_runs_are_asked_and_fine_tuned_once_and_the_page_has_the_figures(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = home / "out"
    words = ["along", *(str(home / f"{run}.yaml") for run in "ab"), "-o", str(out), "--tasks", str(home), "--seeds", "1"]
    words += ["--metric", "gold_loglikelihood"]  # an accuracy of forty examples is often the same twice
    monkeypatch.setattr(sys, "argv", words)
    along.main()
    table = pd.read_csv(out / "sst2-gold_loglikelihood.csv")
    assert table[["family", "step"]].values.tolist() == [[run, step] for run in "ab" for step in STEPS]
    assert table["outcome"].nunique() > 6
    assert {"prompt_nll_it-great", "prompt_acc_this-positive", "prompt_acc_ensemble"} <= set(table.columns)
    with monkeypatch.context() as patch:  # all of it is in the stores
        patch.setattr("training.finetune._one", lambda *given: pytest.fail("fine-tuned again"))
        patch.setattr("features.prompts.answer", lambda *given, **named: pytest.fail("asked again"))
        along.main()
    pd.testing.assert_frame_equal(pd.read_csv(out / "sst2-gold_loglikelihood.csv"), table)
    page = home / "page" / "prompts_along.md"
    monkeypatch.setattr(
        sys, "argv", ["studies", "prompts-along", str(out / "sst2-gold_loglikelihood.csv"), "-o", str(page), "--html"]
    )
    studies.main()
    assert not capsys.readouterr().out
    pictures = {f"prompts-along-sst2-gold_loglikelihood-{name}.png" for name in ("acc", "nll", "correlations")}
    assert {p.name for p in page.parent.iterdir()} == {"prompts_along.md", "prompts_along.html", *pictures}
    assert all(5_000 < (page.parent / name).stat().st_size < 150_000 for name in pictures)
    assert page.with_suffix(".html").read_text().count("data:image/png;base64,") == 3
    text = page.read_text()
    assert "## sst2-gold_loglikelihood: 2 runs, 6 checkpoints each" in text
    assert text.count("\n| this-good |") == 2  # once for each run
    assert text.count("; the later checkpoint puts 0.") == 1


@pytest.mark.usefixtures("short")
def test_a_run_with_a_checkpoint_that_cannot_be_read_is_a_named_error(home: Path, tmp_path: Path) -> None:
    listed = [{"name": f"d@{i}", "model": str(tmp_path / "none"), "family": "d", "step": i} for i in (1, 2)]
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({"zoo": "d", "checkpoints": listed}))
    with pytest.raises(DataError, match="d@1"):
        along.measure([tmp_path / "d.yaml"], "sst2", home, tmp_path / "out", seeds=1)
