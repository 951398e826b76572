"""Each transferability score equals its formula written down again, another package's value, and the laws it must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, ortho_group, spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from features.errors import CheckpointError, DataError
from features.transferability import hscore, jackknife, knn, knn_regression, leep, logme, logme_regression, nce, parc, transrate
from features.transferability.hscore import ledoit_wolf_shrinkage
from features.transferability.knn import knn_correct

CLASS_SCORES = [logme, hscore, transrate, parc, knn]


def sample(examples=60, dimensions=8, classes=3, signal=0.8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % classes
    return rng.normal(size=(examples, dimensions)) + signal * rng.normal(size=(classes, dimensions))[labels], labels


def peer_sample():
    """The data on which transformer-ranker 0.2.0 gave the figures below (its estimators' `fit`, Python 3.11, torch 2.13)."""
    rng = np.random.default_rng(7)
    labels = np.arange(120) % 4
    features = (rng.normal(size=(120, 20)) + 0.8 * rng.normal(size=(4, 20))[labels]).round(3)
    return features, labels, (features[:, :3].sum(1) + rng.normal(size=120)).round(3)


# --- equal to another package ---------------------------------------------------------------------------------------


def test_equals_transformer_ranker():
    features, labels, targets = peer_sample()
    assert logme(features, labels) == pytest.approx(-0.263308, abs=5e-5)
    assert logme_regression(features, targets) == pytest.approx(-1.690045, abs=5e-5)
    assert hscore(features, labels) == pytest.approx(2.066392, abs=1e-5)
    assert knn(features, labels, k=3, ties="smallest") == pytest.approx(0.925, abs=1e-6)
    assert knn(features, labels, k=5, ties="smallest") == pytest.approx(0.95, abs=1e-6)
    assert knn_regression(features, targets, k=3) == pytest.approx(0.651953, abs=1e-6)


def test_equals_the_published_programs():
    """What thuml's Transfer-Learning-Library (tllib.ranking: transrate, leep, nce) and dbolya's parc (methods.py) gave."""
    features, labels, _ = peer_sample()
    head = np.exp(features[:, :6])
    head /= head.sum(axis=1, keepdims=True)
    assert transrate(features, labels) == pytest.approx(4.366580773, abs=1e-8)
    assert leep(head, labels) == pytest.approx(-1.201621407, abs=1e-8)
    assert nce(head, labels) == pytest.approx(-1.124987978, abs=1e-8)
    assert parc(features, labels) == pytest.approx(58.283990495, abs=1e-8)


@pytest.mark.parametrize("shape", [(60, 8), (20, 50)])
def test_shrinkage_equals_scikit_learn(shape):
    features, _ = sample(*shape)
    centred = features - features.mean(axis=0)
    assert ledoit_wolf_shrinkage(centred) == pytest.approx(LedoitWolf(assume_centered=True).fit(centred).shrinkage_, abs=1e-10)


def test_knn_equals_scikit_learn():
    features, labels = sample(signal=0.4, classes=2)
    predicted = cross_val_predict(KNeighborsClassifier(5), features, labels, cv=LeaveOneOut())
    np.testing.assert_array_equal(knn_correct(features, labels, k=5), predicted == labels)


# --- equal to the formula -------------------------------------------------------------------------------------------


def dense_evidence(features, y):
    """max over alpha, beta of log N(y; 0, I/beta + FF'/alpha) / N, by a general optimiser on the dense covariance."""

    def loss(logs):
        covariance = np.eye(len(y)) / math.exp(logs[1]) + features @ features.T / math.exp(logs[0])
        return -multivariate_normal(np.zeros(len(y)), covariance).logpdf(y) / len(y)

    return -minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}).fun


@pytest.mark.parametrize("shape", [(40, 6), (20, 30)])
def test_logme_is_the_maximum_of_the_evidence(shape):
    features, labels = sample(*shape, classes=3, signal=0.3)
    expected = np.mean([dense_evidence(features, (labels == k).astype(float)) for k in range(3)])
    assert logme(features, labels) == pytest.approx(expected, abs=1e-3)


def test_regression_logme_is_the_maximum_of_the_evidence():
    features, _ = sample(40, 6)
    targets = features[:, 0] + np.random.default_rng(1).normal(size=40)
    assert logme_regression(features, targets) == pytest.approx(dense_evidence(features, targets), abs=1e-4)


def test_the_plain_hscore_is_the_trace_of_its_formula():
    features, labels = sample()
    means = np.stack([features[labels == k].mean(axis=0) for k in range(3)])[labels]
    expected = np.trace(np.linalg.inv(np.cov(features, rowvar=False)) @ np.cov(means, rowvar=False))
    assert hscore(features, labels, shrinkage=0) == pytest.approx(expected, rel=1e-9)


def test_the_plain_hscore_of_features_that_are_the_classes_is_one_less_than_the_classes():
    labels = np.arange(12) % 3
    assert hscore(np.eye(3)[labels][:, :2], labels, shrinkage=0) == pytest.approx(2, rel=1e-12)


def test_the_shrunk_hscore_is_the_trace_of_its_authors_program():
    features, labels = sample()
    centred = features - features.mean(axis=0)
    empirical = centred.T @ centred / len(centred)
    shrunk = 0.7 * empirical + 0.3 * np.trace(empirical) / 8 * np.eye(8)
    means = np.stack([centred[labels == k].mean(axis=0) for k in range(3)])[labels]
    expected = np.trace(np.linalg.inv(shrunk) @ (0.7 * np.cov(means, rowvar=False)))
    assert hscore(features, labels, shrinkage=0.3) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dimensions", [8, 80])
def test_transrate_is_the_published_listing_on_balanced_classes(dimensions):
    features, labels = sample(60, dimensions)
    centred = features - features.mean(axis=0)

    def rate(part):
        return 0.5 * np.linalg.slogdet(np.eye(dimensions) + part.T @ part / (len(part) * 1e-4))[1]

    expected = rate(centred) - sum(rate(centred[labels == k]) for k in range(3)) / 3
    assert transrate(features, labels) == pytest.approx(expected, rel=1e-9)


def test_parc_is_the_rank_correlation_of_its_distances():
    features, labels = sample(30)
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    below = np.tril_indices(30, k=-1)
    # Rounded, because the two values that label distances take differ in their last bits, which would break ties among them.
    between_labels = (1 - np.corrcoef(np.eye(3)[labels]))[below].round(12)
    expected = 100 * spearmanr((1 - np.corrcoef(standardised))[below], between_labels)[0]
    assert parc(features, labels) == pytest.approx(expected, abs=1e-8)


def test_leep_and_nce_are_their_sums():
    rng = np.random.default_rng(0)
    theta, labels = rng.dirichlet(np.ones(5), size=40), np.arange(40) % 3
    joint = np.zeros((3, 5))
    hard = np.zeros((3, 5))
    for row, label in zip(theta, labels, strict=True):
        joint[label] += row / 40
        hard[label, row.argmax()] += 1 / 40
    expected = np.mean(
        [math.log(sum(joint[y, z] / joint[:, z].sum() * row[z] for z in range(5))) for row, y in zip(theta, labels, strict=True)]
    )
    assert leep(theta, labels) == pytest.approx(expected, abs=1e-12)
    conditional = sum(hard[y, z] * math.log(hard[y, z] / hard[:, z].sum()) for y in range(3) for z in range(5) if hard[y, z])
    assert nce(theta, labels) == pytest.approx(conditional, abs=1e-12)


# --- laws -----------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), dimensions=st.sampled_from([3, 12, 40]))
@settings(max_examples=15, deadline=None)
def test_rotation_of_the_features_changes_no_score_but_parc(seed, dimensions):
    features, labels = sample(24, dimensions, seed=seed)
    rotated = features @ ortho_group.rvs(dimensions, random_state=seed)
    for score in (logme, hscore, transrate, knn):
        assert score(rotated, labels) == pytest.approx(score(features, labels), rel=1e-5, abs=1e-6), score.__name__


@given(seed=st.integers(0, 10_000), dimensions=st.sampled_from([3, 12, 40]))
@settings(max_examples=15, deadline=None)
def test_names_of_the_labels_and_order_of_the_examples_change_no_score(seed, dimensions):
    features, labels = sample(24, dimensions, seed=seed)
    order = np.random.default_rng(seed).permutation(24)
    gaps = np.array([70, -3, 12])[labels]  # renamed, with gaps, in another order
    words = np.array(["good", "bad", "so-so"])[labels]
    for score in CLASS_SCORES:
        for renamed in (gaps, words):
            assert score(features[order], renamed[order]) == pytest.approx(score(features, labels), rel=1e-6, abs=1e-6), (
                score.__name__
            )


@pytest.mark.parametrize("score", CLASS_SCORES)
def test_separable_classes_score_higher_than_shuffled_labels(score):
    features, labels = sample(60, 8, signal=3.0)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert score(features, labels) > score(features, shuffled)


@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_scale_and_shift_of_the_features_leave_hscore_parc_and_knn(seed, scale):
    features, labels = sample(24, 6, seed=seed)
    for score in (hscore, parc, knn):
        assert score(features * scale + 5 * scale, labels) == pytest.approx(score(features, labels), rel=1e-6, abs=1e-6), (
            score.__name__
        )


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_bounds(seed):
    features, labels = sample(24, 40, seed=seed)
    assert 0 <= hscore(features, labels) <= 2 * 24 / 23
    assert -100 <= parc(features, labels) <= 100
    theta = np.random.default_rng(seed).dirichlet(np.ones(4), size=24)
    assert nce(theta, labels) <= 0
    assert leep(theta, labels) <= 0


def test_nearest_breaks_ties_and_smallest_does_when_asked():
    features = np.array([[0.0], [1.0], [2.1], [3.3], [50.0]])
    labels = np.array([2, 2, 1, 0, 0])
    assert knn_correct(features, labels, k=3)[0] == 1  # votes 2, 1, 0: the nearest is 2
    assert knn_correct(features, labels, k=3, ties="smallest")[0] == 0


# --- standard errors ------------------------------------------------------------------------------------------------


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=(200, 1))
    measured = jackknife(lambda f, y: float(f.mean()), values, np.zeros(200, dtype=int), groups=200)
    assert measured == pytest.approx(values.std(ddof=1) / math.sqrt(200), rel=1e-9)


def test_rows_of_one_example_are_left_out_together():
    values = np.random.default_rng(0).normal(size=100)
    doubled, units = np.repeat(values, 2)[:, None], np.repeat(np.arange(100), 2)
    measured = jackknife(lambda f, y: float(f.mean()), doubled, np.zeros(200, dtype=int), units=units, groups=100)
    assert measured == pytest.approx(values.std(ddof=1) / 10, rel=1e-9)


def test_jackknife_tells_the_spread_of_logme_over_samples():
    rng = np.random.default_rng(3)
    centres, values, errors = rng.normal(size=(2, 6)) * 0.5, [], []
    labels = np.arange(120) % 2
    for _ in range(40):
        features = rng.normal(size=(120, 6)) + centres[labels]
        values.append(logme(features, labels))
        errors.append(jackknife(logme, features, labels))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


def test_jackknife_says_none_where_a_part_cannot_be_scored():
    features, _ = sample(10, 4)
    assert jackknife(logme, features, np.array([0] * 9 + [1])) is None


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", CLASS_SCORES)
def test_bad_features_are_named_errors(score):
    features, labels = sample()
    broken = features.copy()
    broken[4, 2] = np.nan
    with pytest.raises(CheckpointError, match=r"1 of 60 examples are NaN or infinite \(first: example 4\)"):
        score(broken, labels)
    with pytest.raises(CheckpointError, match="are the same: no score is defined"):
        score(np.full((60, 8), 3.25), labels)
    with pytest.raises(CheckpointError, match="are the same"):
        score(np.zeros((60, 8)), labels)
    with pytest.raises(DataError, match="nothing to compare"):
        score(features[:1], labels[:1])
    with pytest.raises(DataError, match="must have the shape"):
        score(features[0], labels[:8])


@pytest.mark.parametrize("score", CLASS_SCORES)
def test_bad_labels_are_named_errors(score):
    features, labels = sample()
    with pytest.raises(DataError, match="one class cannot be told apart"):
        score(features, np.zeros(60, dtype=int))
    with pytest.raises(DataError, match="labels of shape"):
        score(features, labels[:-1])
    with pytest.raises(DataError, match="missing"):
        score(features, np.where(labels == 0, np.nan, labels))


@pytest.mark.parametrize("score", CLASS_SCORES)
def test_fewer_examples_than_dimensions_have_a_finite_value(score):
    features, labels = sample(12, 300)
    assert math.isfinite(score(features, labels))


def test_the_plain_hscore_refuses_fewer_examples_than_dimensions():
    features, labels = sample(12, 300)
    with pytest.raises(DataError, match="use shrinkage"):
        hscore(features, labels, shrinkage=0.0)
    with pytest.raises(DataError, match="shrinkage must be"):
        hscore(features, labels, shrinkage=1.5)


@pytest.mark.parametrize("score", CLASS_SCORES)
def test_constant_dimensions_among_others_are_harmless(score):
    features, labels = sample()
    padded = np.hstack([features, np.zeros((60, 3))])
    assert math.isfinite(score(padded, labels))


def test_bad_targets_and_heads_are_named_errors():
    features, labels = sample()
    with pytest.raises(DataError, match="nothing to predict"):
        logme_regression(features, np.ones(60))
    with pytest.raises(DataError, match="missing or infinite"):
        knn_regression(features, np.full(60, np.nan))
    with pytest.raises(DataError, match="k must lie between"):
        knn(features, labels, k=60)
    with pytest.raises(DataError, match="ties must be"):
        knn(features, labels, ties="first")
    with pytest.raises(CheckpointError, match="do not sum to 1"):
        leep(np.full((60, 4), 0.5), labels)
    with pytest.raises(DataError, match="source probabilities"):
        nce(np.ones(60), labels)
    with pytest.raises(CheckpointError, match="only one dimension"):
        parc(np.hstack([features[:, :1], np.ones((60, 2))]), labels)
