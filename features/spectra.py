"""What the weights themselves say, without data: the spectra of a checkpoint's matrices (Martin, Peng and Mahoney 2021, Nature
Communications 12, 4122: quality metrics of models without access to their data)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from features.errors import CheckpointError
from features.registry import Session
from features.rows import Feature

if TYPE_CHECKING:
    from features.corpora import Corpora
    from features.tasks import Task

MOST = 64  # matrices at most, spread evenly over the depth
FIGURES = ("alpha", "stable_rank", "effective_rank", "log_norm")


def figures(squares: ArrayLike) -> dict[str, float]:
    """Of one matrix, from its squared singular values (R,).

    alpha : exponent of a power law fitted to the upper half of them (Hill's estimator)
    stable_rank : their sum over the largest
    effective_rank : exp of the entropy of their shares (Roy and Vetterli 2007)
    log_norm : log of their sum, the squared Frobenius norm (nats)
    """
    values = np.sort(np.asarray(squares, dtype=np.float64))
    values = values[values > 1e-12 * values[-1]]
    share = values / values.sum()
    tail = values[len(values) // 2 :]
    logs = np.log(tail / tail[0]).sum()
    return {
        "alpha": float(1 + len(tail) / logs) if logs > 0 else float("nan"),
        "stable_rank": float(values.sum() / values[-1]),
        "effective_rank": float(np.exp(-(share * np.log(share)).sum())),
        "log_norm": float(np.log(values.sum())),
    }


class WeightSpectra:
    """``weights_FIGURE``: mean over the matrices of all linear layers, the output layer left out, of each of `FIGURES`;
    ``weights_embedding_FIGURE`` of the input embedding. None has a direction: what counts as good differs between recipes.

    Nothing is read but the weights, so that the cost is that of one Gram matrix and its eigenvalues each.
    """

    name: ClassVar[str] = "weights"
    version: ClassVar[int] = 1
    scope: ClassVar[Literal["checkpoint", "task"]] = "checkpoint"
    produces: ClassVar[tuple[str, ...]] = ("weights_*",)
    default: ClassVar[bool] = False  # of a model of billions it takes minutes: measured when it is asked for by name

    def settings(self) -> dict[str, Any]:
        """Everything that changes the numbers."""
        return {"most": MOST}

    def data_digest(self, task: Task | None, corpora: Corpora) -> str:
        """No data is read."""
        return ""

    def applies(self, kind: str, task: Task | None) -> bool:
        """Every checkpoint."""
        return True

    def measure(self, session: Session) -> list[Feature]:
        """The features. Raises CheckpointError for weights that are not finite, or without a linear layer."""
        model, started = session.model, time.perf_counter()
        trunk = matrices(model.module)
        if not trunk:
            raise CheckpointError("it has no linear layer", where=model.name, remedy="leave `weights` out")
        places = np.unique(np.linspace(0, len(trunk) - 1, min(MOST, len(trunk))).round().astype(int))
        each = [figures(_squares(trunk[place], model.name)) for place in places]
        seconds = (time.perf_counter() - started) / len(FIGURES)
        rows = []
        for name in FIGURES:
            values = np.array([found[name] for found in each])
            values = values[np.isfinite(values)]
            if len(values):
                rows.append(Feature(f"weights_{name}", float(values.mean()), count=len(values), seconds=seconds))
        embedding = model.module.get_input_embeddings()
        if getattr(getattr(embedding, "weight", None), "ndim", 0) == 2:
            started = time.perf_counter()
            of_it = figures(_squares(embedding.weight, model.name))
            seconds = (time.perf_counter() - started) / len(FIGURES)
            rows += [
                Feature(f"weights_embedding_{name}", value, count=1, seconds=seconds)
                for name, value in of_it.items()
                if np.isfinite(value)
            ]
        return rows


def matrices(module: Any) -> list[Any]:
    """Weights of the linear layers (torch's, and GPT-2's Conv1D) in the module's order, without the output layer."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = module.get_output_embeddings()
    return [part.weight for part in module.modules() if isinstance(part, torch.nn.Linear | Conv1D) and part is not head]


def _squares(weight: Any, name: str) -> NDArray[np.float64]:
    """Squared singular values of a matrix, from the smaller of its two Gram matrices; in float64 on the CPU, else float32."""
    import torch

    with torch.inference_mode():
        matrix = weight.to(torch.float64 if weight.device.type == "cpu" else torch.float32)
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        if not bool(torch.isfinite(gram).all()):
            raise CheckpointError("its weights are not finite", where=name, remedy="leave it out")
        found = torch.linalg.eigvalsh(gram).double().cpu().numpy()
    if not found[-1] > 0:
        raise CheckpointError("a layer's weights are all 0", where=name, remedy="leave it out")
    return np.asarray(found, dtype=np.float64)
