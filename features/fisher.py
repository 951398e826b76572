"""Task2Vec: what a task asks of a checkpoint's weights, as the diagonal of the Fisher information (Achille et al. 2019,
arXiv 1902.03545).

For each text a label is sampled from the model itself and the gradient of its log-probability is squared: the mean over
texts is the diagonal
of the Fisher information, and its mean over the weights that feed one unit is one entry of the task's embedding. Tasks, or
a task and the
text of pre-training, are compared by

    d(a, b) = 1 - cosine(F_a / (F_a + F_b), F_b / (F_a + F_b))

Two heads can ask: the language-model head at the answer's place (any text), and a logistic probe of the task's labels
fitted on the frozen
mean of the last layer (labelled tasks). The weights are those of the trunk's linear layers; they are never changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import CheckpointError, DataError, ForetuneError
from features.model import Model
from features.registry import Session
from features.rows import Feature
from features.scoring.encoding import Encoder
from features.splits import spread
from features.transferability.extractor import frozen

if TYPE_CHECKING:
    from features.corpora import Corpora
    from features.tasks import Task

GROUPS = 8  # of the jackknife


@dataclass(frozen=True)
class Fisher:
    """The Fisher information of a checkpoint's units on some texts.

    Attributes
    ----------
    groups : embedding of each group of texts, summed over the group's texts, shape (G, units)
    sizes : texts in each group, shape (G,)
    seconds : wall time
    """

    groups: NDArray[np.float64]
    sizes: NDArray[np.int64]
    seconds: float = 0.0

    @property
    def embedding(self) -> NDArray[np.float64]:
        """Mean Fisher information of the weights that feed each unit, shape (units,)."""
        return self.groups.sum(axis=0) / self.sizes.sum()

    def without(self, group: int) -> NDArray[np.float64]:
        """The embedding of all groups but one."""
        return (self.groups.sum(axis=0) - self.groups[group]) / (self.sizes.sum() - self.sizes[group])


def distance(a: ArrayLike, b: ArrayLike) -> float:
    """Task2Vec's symmetric distance of two embeddings (units,): 0 for equal ones, at most 1. Units that neither uses are
    left out.

    Raises
    ------
    DataError : shapes differ, negative or non-finite entries, or no unit is used
    """
    one, other = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if one.shape != other.shape or one.ndim != 1:
        raise DataError(f"embeddings of shapes {one.shape} and {other.shape}", remedy="compare tasks under one checkpoint")
    if not (np.isfinite(one).all() and np.isfinite(other).all() and (one >= 0).all() and (other >= 0).all()):
        raise DataError("Fisher information must be finite and not negative")
    total = one + other
    used = total > 0
    if not used.any() or not one.any() or not other.any():
        raise DataError("no unit carries Fisher information: the distance is undefined")
    p, q = one[used] / total[used], other[used] / total[used]
    return float(max(0.0, 1 - (p @ q) / np.sqrt((p @ p) * (q @ q))))


def fisher_of_head(model: Model, texts: Sequence[str], *, tokens: int = 128, seed: int = 0) -> Fisher:
    """Fisher information of the language-model head at the answer's place: the next token (causal), a mask after the text
    (masked), the
    decoder's first token after the first sentinel (seq2seq); the label is a token sampled from the head.

    Parameters
    ----------
    tokens : of each text, so many are read: the last ones
    seed : of the sampling

    Raises
    ------
    DataError : no texts
    CheckpointError : no output layer, or a gradient that is not finite
    """
    import torch

    if model.headless:
        raise CheckpointError("has no output layer", where=model.name, remedy="use the Fisher information of its labels")
    encoder = Encoder(model)
    before, after = encoder.affixes() if model.kind != "causal" else ([], [])
    slot = {"masked": model.tokenizer.mask_token_id, "seq2seq": model.tokenizer.get_vocab().get("<extra_id_0>")}.get(model.kind)
    room = min(tokens, model.max_length - len(before) - len(after) - 1)
    rows = encoder.encode(list(texts), special=None if model.kind == "causal" else False)
    generator = torch.Generator().manual_seed(seed)

    def log_probability(i: int) -> Any:
        ids = [*before, *rows[i][-room:], *([] if slot is None else [slot]), *after]
        inputs = torch.tensor([ids or [encoder.prefix_id]], device=model.device)
        if model.kind == "seq2seq":
            start = [int(model.config.decoder_start_token_id)] + ([] if slot is None else [slot])
            logits = model.module(input_ids=inputs, decoder_input_ids=torch.tensor([start], device=model.device)).logits[0, -1]
        else:
            logits = model.module(input_ids=inputs).logits[0, -1 - len(after)]
        return _sampled(logits.float().log_softmax(-1), generator, model)

    return _fisher(model, len(texts), log_probability)


def fisher_of_labels(
    model: Model, texts: Sequence[str], probe: tuple[NDArray, NDArray], *, tokens: int = 128, seed: int = 0
) -> Fisher:
    """Fisher information of a linear probe on the mean of the last layer; the label is sampled from the probe.

    Parameters
    ----------
    probe : weights (D, K) and biases (K,) of class scores, from `fit_probe`
    tokens, seed : as in `fisher_of_head`; the first tokens are read by masked and seq2seq checkpoints, the last by causal ones

    Raises
    ------
    DataError : no texts
    CheckpointError : a gradient that is not finite
    """
    import torch

    rows = Encoder(model).encode(list(texts))
    trunk = model.module.get_encoder() if model.kind == "seq2seq" else model.module.base_model
    weights, biases = (torch.tensor(part, dtype=torch.float32, device=model.device) for part in probe)
    limit = min(tokens, model.max_length)
    generator = torch.Generator().manual_seed(seed)

    def log_probability(i: int) -> Any:
        ids = rows[i][-limit:] if model.kind == "causal" else rows[i][:limit]
        state = trunk(input_ids=torch.tensor([ids], device=model.device)).last_hidden_state[0].float().mean(dim=0)
        return _sampled((state @ weights + biases).log_softmax(-1), generator, model)

    return _fisher(model, len(texts), log_probability)


def fit_probe(features: NDArray, classes: NDArray) -> tuple[NDArray, NDArray]:
    """Weights (D, K) and biases (K,) of a logistic regression on standardised features, for features as they are."""
    from sklearn.linear_model import LogisticRegression

    centre, scale = features.mean(axis=0), features.std(axis=0) + 1e-8
    fitted = LogisticRegression(C=0.1, max_iter=200).fit((features - centre) / scale, classes)
    weights, biases = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # two classes: scores of the second against the first
        weights, biases = np.vstack([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    scaled = (weights / scale).T
    return scaled, biases - centre @ scaled


def _sampled(logprobs: Any, generator: Any, model: Model) -> Any:
    import torch

    if not bool(torch.isfinite(logprobs).any()) or bool(torch.isnan(logprobs).any()):
        raise CheckpointError("its logits are not finite", where=model.name, remedy="the weights are damaged or overflow")
    return logprobs[torch.multinomial(logprobs.detach().exp().cpu(), 1, generator=generator).item()]


def _fisher(model: Model, count: int, log_probability: Callable[[int], Any]) -> Fisher:
    import torch

    if count == 0:
        raise DataError("there are no texts to take the Fisher information of")
    started = time.perf_counter()
    weights, inputs = _weights(model.module.base_model)
    asked = [weight.requires_grad for weight in weights]
    groups = min(GROUPS, count)
    found = np.zeros((groups, sum(w.shape[0] if axis == 1 else w.shape[1] for w, axis in zip(weights, inputs, strict=True))))
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for i in range(count):
            with torch.enable_grad():
                gradients = torch.autograd.grad(log_probability(i), weights, allow_unused=True)
            units = [
                torch.zeros(w.shape[1 - axis], device=w.device) if g is None else g.float().square().mean(dim=axis)
                for g, w, axis in zip(gradients, weights, inputs, strict=True)
            ]
            found[i % groups] += torch.cat(units).double().cpu().numpy()
    finally:
        for weight, asks in zip(weights, asked, strict=True):
            weight.requires_grad_(asks)
    if not np.isfinite(found).all():
        raise CheckpointError("its gradients are not finite", where=model.name, remedy="load it in float32")
    return Fisher(found, np.bincount(np.arange(count) % groups), time.perf_counter() - started)


def _weights(trunk: Any) -> tuple[list[Any], list[int]]:
    """Weights of the trunk's linear layers, each once, and the axis of each that runs over a unit's inputs."""
    import torch

    weights: dict[int, tuple[Any, int]] = {}
    for module in trunk.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.nn.Parameter) and weight.ndim == 2 and not isinstance(module, torch.nn.Embedding):
            weights[id(weight)] = (weight, 0 if type(module).__name__ == "Conv1D" else 1)
    head = trunk.get_output_embeddings() if hasattr(trunk, "get_output_embeddings") else None
    for other in [*(m for m in trunk.modules() if isinstance(m, torch.nn.Embedding)), *([] if head is None else [head])]:
        weights.pop(id(other.weight), None)
    return [weight for weight, _ in weights.values()], [axis for _, axis in weights.values()]


class TaskFisher:
    """Task2Vec features of (checkpoint, task).

    ``fisher_log_trace``: log of the mean Fisher information of the head on the task's prompts, how strongly they ask the
    weights to change;
    ``fisher_reference_distance``: distance of the prompts' embedding from that of the reference corpus under the same
    checkpoint;
    ``fisher_labels_log_trace`` and ``fisher_labels_distance``: of a probe of the task's labels, and its distance from the
    head's embedding.
    """

    name: ClassVar[str] = "fisher"
    version: ClassVar[int] = 2
    scope: ClassVar[Literal["checkpoint", "task"]] = "task"
    default: ClassVar[bool] = False  # a backward pass per text: measured when it is asked for by name

    def __init__(self, *, texts: int = 48, tokens: int = 128, seed: int = 0) -> None:
        self.texts = texts
        self.tokens = tokens
        self.seed = seed

    def settings(self) -> dict[str, Any]:
        """Everything that changes the numbers."""
        return {"texts": self.texts, "tokens": self.tokens, "seed": self.seed, "groups": GROUPS}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        """The task's digest and the corpora's."""
        return f"{'' if task is None else task.digest} {corpora.digest}"

    def applies(self, kind: str, task: Task | None) -> bool:
        """Every task, of any checkpoint."""
        return task is not None

    def measure(self, session: Session) -> list[Feature]:
        """The features; one that cannot be measured is a row with its error. Each half is charged to its rows in equal parts,
        with the reference corpus's passes where they are made, and the frozen representations where no other extractor has
        made them.
        """
        started = time.perf_counter()
        task, examples = session.a_task, session.examples("features")
        chosen = spread(range(len(examples)), self.texts, [e.label for e in examples], f"{self.seed}/fisher")
        texts = [examples[i].query for i in chosen]
        rows: list[Feature] = []
        asked: Fisher | None = None
        try:
            asked = fisher_of_head(session.model, texts, tokens=self.tokens, seed=self.seed)
            reference = self._reference(session)
            rows.append(_log_trace("fisher_log_trace", asked))
            rows.append(_distance("fisher_reference_distance", asked, reference))
        except ForetuneError as error:
            rows.append(Feature("fisher_log_trace", error=str(error)))
        rows, between = _charged(rows, time.perf_counter() - started), time.perf_counter()
        labelled_rows: list[Feature] = []
        if task.kind == "multiple_choice" and task.labels:
            try:
                data = frozen(session)
                labels = np.asarray(data.classes)
                if len(np.unique(labels)) < 2:
                    raise DataError("one class cannot be told apart")
                probe = fit_probe(data.of("mean"), labels)
                labelled = fisher_of_labels(session.model, texts, probe, tokens=self.tokens, seed=self.seed)
                labelled_rows.append(_log_trace("fisher_labels_log_trace", labelled))
                if asked is not None:
                    labelled_rows.append(_distance("fisher_labels_distance", labelled, asked))
            except ForetuneError as error:
                labelled_rows.append(Feature("fisher_labels_log_trace", error=str(error)))
        return rows + _charged(labelled_rows, time.perf_counter() - between)

    def _reference(self, session: Session) -> Fisher:
        """Of the reference corpus's beginnings; measured once for a checkpoint."""
        key = ("fisher", session.corpora.digest, self.texts, self.tokens, self.seed)
        if key not in session.cache:
            names = session.corpora.names
            documents = session.corpora.documents("reference" if "reference" in names else names[0])
            drawn = np.random.default_rng(self.seed).permutation(len(documents))[: self.texts]
            texts = [documents[i][: 4 * self.tokens] for i in drawn]
            session.cache[key] = fisher_of_head(session.model, texts, tokens=self.tokens, seed=self.seed)
        found: Fisher = session.cache[key]
        return found


def _log_trace(name: str, of: Fisher) -> Feature:
    total = float(of.embedding.mean())
    if total <= 0:
        return Feature(name, error="no unit carries Fisher information: the sampled labels are certain")
    left = np.log([max(of.without(g).mean(), 1e-300) for g in range(len(of.sizes))])
    return Feature(name, float(np.log(total)), stderr=_error(left), count=int(of.sizes.sum()))


def _distance(name: str, of: Fisher, other: Fisher) -> Feature:
    value = distance(of.embedding, other.embedding)
    left = (
        np.array([distance(of.without(g), other.embedding) for g in range(len(of.sizes))]) if len(of.sizes) > 1 else np.zeros(1)
    )
    return Feature(name, value, stderr=_error(left), count=int(of.sizes.sum()))


def _charged(rows: list[Feature], seconds: float) -> list[Feature]:
    """The rows, each with an equal part of the seconds."""
    return [replace(row, seconds=seconds / len(rows)) for row in rows]


def _error(left: NDArray) -> float | None:
    """Jackknife standard error of the values with each group left out."""
    n = len(left)
    return float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())) if n > 1 else None
