"""Linear probing and the spectra of weights: equal to what is computed the long way, of every kind of checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import CheckpointError, DataError
from features.linear_probe import LinearProbe
from features.model import load
from features.registry import Session
from features.representations import represent
from features.spectra import FIGURES, WeightSpectra, figures, matrices
from features.tasks import Task
from features.transferability.probing import effective_rank, probe
from features.zoo import Checkpoint


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(24, 5), (12, 30), (15, 15)]))
def test_the_closed_form_is_what_leaving_each_example_out_gives(seed, shape):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=shape), rng.permutation(np.arange(shape[0]) % 3)
    found = probe(features, labels)
    scaled = (features - features.mean(0)) / features.std(0)
    target = np.eye(3)[labels]
    for left in range(0, shape[0], 5):
        kept = np.arange(shape[0]) != left
        guess = Ridge(alpha=found.penalty).fit(scaled[kept], target[kept]).predict(scaled[left : left + 1])[0]
        assert found.squared[left] == pytest.approx(((target[left] - guess) ** 2).sum(), rel=1e-6)
        assert found.variance[left] == pytest.approx(((target[left] - target[kept].mean(0)) ** 2).sum(), rel=1e-9)
        assert found.right[left] == (guess.argmax() == labels[left])


def test_labels_that_the_features_tell_are_explained_and_noise_is_not():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    centres = rng.normal(size=(3, 20)) * 3
    told = probe(centres[labels] + rng.normal(size=(300, 20)), labels)
    assert told.right.mean() > 0.95
    assert told.r2[0] > 0.7
    silent = probe(rng.normal(size=(300, 20)), labels)
    assert abs(silent.r2[0]) < 0.05
    assert 0 < silent.r2[1] < 0.05


def test_a_column_that_never_moves_changes_nothing():
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(40, 4)), np.arange(40) % 2
    wider = np.hstack([features, np.full((40, 1), 7.0)])
    np.testing.assert_allclose(probe(wider, labels).squared, probe(features, labels).squared)


def test_nonsense_is_refused():
    with pytest.raises(DataError, match="one class"):
        probe(np.random.default_rng(0).normal(size=(8, 3)), np.zeros(8))
    with pytest.raises(CheckpointError, match="NaN"):
        probe(np.full((8, 3), np.nan), np.arange(8) % 2)
    with pytest.raises(CheckpointError, match="the same"):
        effective_rank(np.ones((8, 3)))


def test_effective_rank_counts_the_directions_that_are_used():
    basis = np.linalg.qr(np.random.default_rng(2).normal(size=(64, 7)))[0]
    centred = basis - basis.mean(0)
    assert 5.5 < effective_rank(np.hstack([centred, np.zeros((64, 20))])) <= 7
    assert effective_rank(np.outer(np.arange(10.0), np.ones(4))) == pytest.approx(1)


def test_figures_of_a_spectrum_worked_by_hand():
    found = figures([4.0, 2.0, 1.0, 1.0])
    assert found["stable_rank"] == 2
    assert found["log_norm"] == pytest.approx(np.log(8))
    assert found["effective_rank"] == pytest.approx(2 ** (0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3))
    assert found["alpha"] == pytest.approx(1 + 2 / np.log(2))  # of 2 and 4
    assert np.isnan(figures([1.0, 1.0])["alpha"])


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probing")
    rows = ["text,label", *(f"film {i} was {('great', 'awful')[i % 2]} {i},{i % 2}" for i in range(80))]
    (folder / "films.csv").write_text("\n".join(rows))
    (folder / "films.yaml").write_text(
        "task: films\ndata: films.csv\noutput_type: multiple_choice\ndoc_to_text: '{{text}} It was'\n"
        "doc_to_choice: [good, bad]\ndoc_to_target: label\n"
    )
    (folder / "open.csv").write_text("\n".join(["question,answer", *(f"question {i},word{i}" for i in range(40))]))
    (folder / "open.yaml").write_text("task: open\ndata: open.csv\n")
    return {name: Task.read(folder / f"{name}.yaml") for name in ("films", "open")}


def session(models, name, task=None):
    model = load(models / name, device="cpu")
    return Session(checkpoint=Checkpoint(name=name, model=str(models / name)), model=model, corpora=None, task=task)


@pytest.mark.parametrize(("name", "other"), [("llama", "last"), ("t5", "last"), ("bert", "first")])
def test_a_probe_reads_train_and_never_test(models, task, name, other):
    of = session(models, name, task["films"])
    rows = {row.name: row for row in LinearProbe().measure(of)}
    scores = ("rankme_{}", "linear_probe_{}_r2", "linear_probe_{}_acc")
    assert set(rows) == {score.format(pooling) for score in scores for pooling in ("mean", other)}
    train = task["films"].examples("train")
    for row in rows.values():
        assert row.error == ""
        assert row.count == len(train)
        assert row.direction == 1
        assert row.seconds > 0
    features = represent(of.model, [e.query for e in train]).of("mean")
    found = probe(features, [e.gold for e in train])
    assert rows["linear_probe_mean_r2"].value == pytest.approx(found.r2[0], rel=1e-4)
    assert rows["linear_probe_mean_acc"].value == found.right.mean()
    assert rows["rankme_mean"].value == pytest.approx(effective_rank(features), rel=1e-4)
    few = LinearProbe(most=10).measure(of)
    assert {row.count for row in few} == {10}


def test_an_open_task_has_ranks_alone(models, task):
    assert {row.name for row in LinearProbe().measure(session(models, "gpt2", task["open"]))} == {"rankme_mean", "rankme_last"}


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bert"])
def test_spectra_of_every_kind_of_checkpoint(models, name):
    of = session(models, name)
    rows = {row.name: row.value for row in WeightSpectra().measure(of)}
    assert set(rows) == {f"weights_{part}{figure}" for part in ("", "embedding_") for figure in FIGURES}
    singular = [np.linalg.svd(weight.detach().double().numpy(), compute_uv=False) for weight in matrices(of.model.module)]
    assert rows["weights_stable_rank"] == pytest.approx(np.mean([(s**2).sum() / s[0] ** 2 for s in singular]), rel=1e-6)
    embedding = of.model.module.get_input_embeddings().weight.detach().double().numpy()
    assert rows["weights_embedding_log_norm"] == pytest.approx(np.log((embedding**2).sum()))


def test_broken_weights_are_the_checkpoints_error(models):
    import torch

    of = session(models, "llama")
    with torch.no_grad():
        next(iter(matrices(of.model.module))).fill_(float("nan"))
    with pytest.raises(CheckpointError, match=r"llama.*not finite"):
        WeightSpectra().measure(of)
