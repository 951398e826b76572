"""The data set of a zoo: each variant trained, measured and fine-tuned in turn, and nothing done twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from features.errors import DataError, ManifestError
from training import installation, reference


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of three small variants, its corpus, and a small task in the place of TREC."""
    home = tmp_path_factory.mktemp("reference")
    documents = [text for name, text in installation.source() if name.startswith(("a", "b", "c"))][:12]
    (home / "code.jsonl").write_text("".join(json.dumps({"text": text[:5000]}) + "\n" for text in documents))
    recipe = {
        "zoo": "small",
        "tokenizer": {"vocabulary": 400, "sentinels": 16, "characters": 20_000},
        "architecture": {"layers": 1, "width": 32, "heads": 2, "feed_forward": 64, "context": 128},
        "training": {"tokens": 8000, "rows": 8},
        "corpora": {"code": "code.jsonl"},
        "mixes": {"code": {"code": 1}},
        "reference": {"documents": 1, "characters": 500},
        "variants": [
            {"name": name, "objective": name, "data_mix": "code", "learning_rate": 0.005} for name in ("clm", "sc", "prefix_lm")
        ],
    }
    (home / "small.yaml").write_text(yaml.safe_dump(recipe))
    rows = [
        {"text": f"{word} number {i} ?", "label": label, "split": split}
        for split, numbers in (("train", range(20)), ("test", range(20, 26)))
        for label, word in enumerate(("why", "what", "abbr", "who", "where", "how"))
        for i in numbers
    ]
    with gzip.open(home / "trec6.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return home


def test_rows_grow_variant_by_variant_and_nothing_is_done_twice(home: Path, monkeypatch: pytest.MonkeyPatch):
    out, table = home / "out", home / "table.csv"
    monkeypatch.setattr(reference, "FEATURE_EXAMPLES", 12)
    monkeypatch.setitem(reference.FINETUNING, "epochs", 1)
    monkeypatch.setitem(reference.METRICS, "trec6", "gold_loglikelihood")
    stages = []
    for name in ("build", "measure"):
        real = getattr(reference, name)

        def seen(*given, _name=name, _real=real, **named):
            stages.append((_name, named.get("only", [given[1]])[0]))
            if stages.count(("measure", "prefix_lm")) == 1 and _name == "measure" and not (home / "stop").exists():
                (home / "stop").touch()
                raise KeyboardInterrupt
            return _real(*given, **named)

        monkeypatch.setattr(reference, name, seen)
    work = (str(home / "small.yaml"), out, home, home, table, ["trec6"], 2, None)
    with pytest.raises(KeyboardInterrupt):
        reference.run(*work)
    assert stages == [(stage, name) for name in ("clm", "sc", "prefix_lm") for stage in ("build", "measure")]
    assert set(pd.read_csv(table)["checkpoint"]) == {"clm", "sc"}
    stages.clear()
    assert reference.run(*work) == 3
    assert stages == [("build", "prefix_lm"), ("measure", "prefix_lm")]
    made = pd.read_csv(table)
    assert set(made["checkpoint"]) == {"clm", "sc", "prefix_lm"}
    assert {"outcome", "outcome_sd", "objective", "learning_rate", "ppl_clm"} <= set(made.columns)
    spread = reference.noise(out)
    assert spread["variants"].tolist() == [3]
    assert spread["seeds"].tolist() == [2]
    runs = pd.concat(pd.read_csv(file) for file in (out / "rows").glob("*.outcomes.csv"))
    assert spread["sd_between"][0] == pytest.approx(runs.groupby("checkpoint")["outcome"].mean().std())

    # On another machine, with the table alone: what it has stays as it is, and only the rest is made.
    begun, costs = made[made["checkpoint"] != "sc"], table.with_suffix(".costs.csv")
    begun.to_csv(table, index=False)
    before = (begun.to_csv(index=False).splitlines(), costs.read_bytes())
    stages.clear()
    moved = (str(home / "small.yaml"), home / "moved", home, home, table, ["trec6"], 2, None)
    assert reference.run(*moved) == 3
    assert stages == [("build", "sc"), ("measure", "sc")]
    lines = table.read_text().splitlines()
    assert [line.split(",")[1] for line in lines] == ["checkpoint", "clm", "sc", "prefix_lm"]
    assert ([*lines[:2], lines[3]], costs.read_bytes()) == before
    begun.to_csv(table, index=False)  # the worker was stopped before it wrote the table
    assert reference.run(*moved) == 3
    assert table.read_text().splitlines() == lines
    made.assign(checkpoint=made["checkpoint"].replace("clm", "ulm")).to_csv(table, index=False)
    with pytest.raises(DataError, match=r"table\.csv: 'ulm' is no variant of the recipe 'small'"):
        reference.run(*moved)


def test_a_variant_that_another_worker_is_at_is_left_to_it(home: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(reference, "build", lambda *_, only, **__: asked.extend(only) or reference.sys.exit())
    out = home / "shared"
    with reference._claimed(out, "clm") as ours, reference._claimed(out, "clm") as theirs:
        assert (ours, theirs) == (True, False)
        with pytest.raises(SystemExit):
            reference.run(str(home / "small.yaml"), out, home, home, None, ["trec6"], 2, None)
    assert asked == ["sc"]


def test_a_time_budget_of_nothing_does_nothing(home: Path):
    assert reference.run(str(home / "small.yaml"), home / "none", home, home, None, ["trec6"], 2, 0.0) == 0
    assert not (home / "none" / "zoo.yaml").exists()


def test_unknown_tasks_and_missing_data_are_named(tmp_path: Path):
    with pytest.raises(ManifestError, match="no reference task 'mmlu'"):
        reference.tasks(tmp_path, tmp_path / "t", ["mmlu"])
    with pytest.raises(ManifestError, match=r"no such data file: .*sst2\.jsonl\.gz"):
        reference.tasks(tmp_path, tmp_path / "t", ["sst2"])


def test_the_reference_tasks_are_of_three_kinds():
    files = [yaml.safe_load(file.read_text()) for file in reference.TASKS.glob("*.yaml")]
    assert len(files) >= 5
    assert {(f["output_type"], isinstance(f.get("doc_to_choice"), list)) for f in files} == {
        ("multiple_choice", True),
        ("multiple_choice", False),
        ("generate_until", False),
    }
