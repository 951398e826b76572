"""Each objective against examples worked by hand, and the laws of span corruption."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ManifestError
from training import objectives
from training.objectives import IGNORE, Causal, Prefix, Spans, Specials

SPECIALS = Specials(pad=0, bos=1, eos=2, mask=3, sep=4, sentinels=tuple(range(900, 964)))
TEXT = np.arange(10, 20)  # ten tokens: 10 .. 19


class Script(np.random.Generator):
    """A generator whose draws are written down, so that a masking can be worked by hand."""

    def __new__(cls, **_: object):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, *, permutations: tuple = (), integer: int = 0) -> None:
        super().__init__(np.random.PCG64(0))
        self._permutations, self._integer = list(permutations), integer

    def permutation(self, n, axis=0):
        order = self._permutations.pop(0)
        assert sorted(order) == list(range(n))
        return np.array(order)

    def integers(self, low, high=None, *args, **kwargs):
        assert low <= self._integer < high
        return self._integer


def test_span_corruption_of_ten_tokens_by_hand():
    # 10 tokens, 40 % noise, mean span 2: 4 noisy tokens in 2 spans. Kept 6 = 2 + 4 (cut after 2), noise 4 = 1 + 3 (cut after 1):
    # 2 kept, 1 gone, 4 kept, 3 gone.
    rng = Script(permutations=([1, 0, 2, 3, 4], [0, 1, 2]))
    row = objectives.row(TEXT, Spans(0.4, 2), "causal", SPECIALS, rng)
    assert row.inputs.tolist() == [1, 10, 11, 900, 13, 14, 15, 16, 901, 4, 900, 12, 901, 17, 18, 19, 2]
    assert row.labels.tolist() == [IGNORE] * 10 + [900, 12, 901, 17, 18, 19, 2]


def test_span_corruption_in_the_seq2seq_form_by_hand():
    row = objectives.row(TEXT, Spans(0.4, 2), "seq2seq", SPECIALS, Script(permutations=([1, 0, 2, 3, 4], [0, 1, 2])))
    assert row.inputs.tolist() == [10, 11, 900, 13, 14, 15, 16, 901, 2]
    assert row.labels.tolist() == [900, 12, 901, 17, 18, 19, 2]


def test_span_corruption_in_the_masked_form_by_hand():
    row = objectives.row(TEXT, Spans(0.4, 2), "masked", SPECIALS, Script(permutations=([1, 0, 2, 3, 4], [0, 1, 2])))
    assert row.inputs.tolist() == [1, 10, 11, 3, 13, 14, 15, 16, 3, 3, 3, 2]
    assert row.labels.tolist() == [IGNORE] * 3 + [12] + [IGNORE] * 4 + [17, 18, 19, IGNORE]


def test_prefix_lm_by_hand():
    row = objectives.row(TEXT, Prefix(), "causal", SPECIALS, Script(integer=4))
    assert row.inputs.tolist() == [1, *range(10, 20)]
    assert row.labels.tolist() == [IGNORE] * 5 + [14, 15, 16, 17, 18, 19]
    row = objectives.row(TEXT, Prefix(), "seq2seq", SPECIALS, Script(integer=4))
    assert (row.inputs.tolist(), row.labels.tolist()) == ([10, 11, 12, 13, 2], [14, 15, 16, 17, 18, 19, 2])


def test_causal_lm_by_hand():
    row = objectives.row(TEXT, Causal(), "causal", SPECIALS, Script())
    assert row.inputs.tolist() == [1, *range(10, 20)]
    assert row.labels.tolist() == [IGNORE, *range(10, 20)]
    row = objectives.row(TEXT, Causal(), "seq2seq", SPECIALS, Script())
    assert (row.inputs.tolist(), row.labels.tolist()) == ([2], [*range(10, 20), 2])


@pytest.mark.parametrize(
    ("part", "length", "expected"),
    [
        (Spans(0.15, 3), 100, (15, 5)),
        (Spans(0.15, 8), 100, (15, 2)),
        (Spans(0.5, 3), 99, (50, 17)),
        (Spans(0.5, 8), 64, (32, 4)),
        (Spans(0.15, 64), 200, (30, 1)),  # less than one span's worth is still one span
        (Spans(0.5, 64), 256, (128, 2)),
        (Spans(0.5, 32), 256, (128, 4)),
        (Spans(0.15, 3), 2, (1, 1)),
    ],
)
def test_the_counts_of_noise_are_those_of_t5(part, length, expected):
    assert objectives.noise_counts(length, part) == expected


@given(
    length=st.integers(2, 300),
    noise=st.sampled_from([0.15, 0.3, 0.5]),
    mean=st.sampled_from([3, 8, 32, 64]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_span_corruption_loses_nothing(length, noise, mean, seed):
    part = Spans(noise, mean)
    mask = objectives.noise_mask(length, part, np.random.default_rng(seed))
    tokens, spans = objectives.noise_counts(length, part)
    assert len(mask) == length
    assert mask.sum() == tokens
    assert not mask[0]
    assert (mask[1:] & ~mask[:-1]).sum() == spans
    text = np.arange(2000, 2000 + length)
    source, target = objectives.corrupt(text, mask, range(1000, 1200))
    assert len(source) == length - tokens + spans
    assert len(target) == tokens + spans
    pieces, current = {}, None
    for token in target.tolist():  # put each span back in the place of its sentinel
        if token < 2000:
            current = token
            pieces[current] = []
        else:
            pieces[current].append(token)
    assert [t for token in source.tolist() for t in pieces.get(token, [token])] == text.tolist()


@pytest.mark.parametrize("name", objectives.OBJECTIVES)
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("places", [64, 256])
def test_every_objective_fills_its_row(name, kind, places):
    rng = np.random.default_rng(0)
    for part, _ in objectives.OBJECTIVES[name]:
        raw = objectives.raw_length(part, kind, places)
        row = objectives.row(np.arange(2000, 2000 + raw), part, kind, SPECIALS, rng)
        used = len(row.inputs) if kind == "causal" else len(row.inputs) + len(row.labels)
        assert places - 3 <= used <= places, part
        if kind == "causal":
            chosen = row.labels != IGNORE
            assert (row.labels[chosen] == row.inputs[chosen]).all()


def test_the_objectives_are_those_of_the_study():
    spans = {name: [(p.noise, p.mean) for p, _ in parts if isinstance(p, Spans)] for name, parts in objectives.OBJECTIVES.items()}
    assert spans["ul2"] == [(0.15, 3), (0.15, 8), (0.5, 3), (0.5, 8), (0.15, 64), (0.5, 64)]
    assert spans["ul2r"] == spans["ul2r+clm"] == [(0.15, 3), (0.5, 32)]
    assert spans["sc"] == spans["sc+clm"] == [(0.15, 3)]
    for name, parts in objectives.OBJECTIVES.items():
        assert sum(weight for _, weight in parts) == pytest.approx(1)
        assert any(isinstance(p, Prefix) for p, _ in parts) == (name in {"prefix_lm", "ul2", "ul2r", "ul2r+clm"})
        assert sum(w for p, w in parts if isinstance(p, Causal)) == pytest.approx(
            {"clm": 1, "sc+clm": 0.5, "ul2r+clm": 0.5}.get(name, 0)
        )


def test_parts_are_drawn_by_their_weights():
    rng = np.random.default_rng(0)
    drawn = Counter(objectives.draw("ul2r+clm", rng) for _ in range(6000))
    assert drawn[Causal()] == pytest.approx(3000, abs=150)
    for part in (Spans(0.15, 3), Spans(0.5, 32), Prefix()):
        assert drawn[part] == pytest.approx(1000, abs=110)


def test_a_masked_model_is_refused_objectives_with_a_direction():
    objectives.check("sc", "masked", "r.yaml: variants[0].objective")
    with pytest.raises(ManifestError, match=r"r\.yaml: variants\[0\]\.objective: a masked model cannot be trained on 'clm'"):
        objectives.check("clm", "masked", "r.yaml: variants[0].objective")
    with pytest.raises(ManifestError, match="no objective 'electra'; use one of clm, sc"):
        objectives.check("electra", "causal", "r.yaml")


def test_too_few_sentinels_and_too_short_a_row_are_named():
    with pytest.raises(ManifestError, match="5 spans in a row, but the tokenizer has 2 sentinels; raise"):
        objectives.corrupt(np.arange(10), np.array([False, True] * 5), [90, 91])
    with pytest.raises(ManifestError, match="too short for"):
        objectives.raw_length(Spans(0.15, 3), "causal", 5)
