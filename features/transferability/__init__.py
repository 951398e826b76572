"""Scores of frozen representations: how well do they fit a task's labels, before anything is trained?

    inputs.py       what may be scored; the named errors for what may not
    spectrum.py     one eigen-decomposition on the smaller side, shared by the scores below
    logme.py        log of the maximum evidence, for classes and for graded targets
    hscore.py       H-score, plain and with Ledoit-Wolf shrinkage
    transrate.py    coding rate of all minus coding rate of each class
    parc.py         rank correlation of distances between features and between labels
    knn.py          leave-one-out nearest neighbours
    leep.py         LEEP and NCE, from the checkpoint's own head
    jackknife.py    a standard error for any of them
    extractor.py    all of them as features of (checkpoint, task)

Every function takes float features of shape (examples, dimensions) and a label per example, and returns one float where
higher is better. All but the extractor need numpy and scipy only.
"""

from features.transferability.hscore import hscore
from features.transferability.jackknife import jackknife
from features.transferability.knn import knn, knn_regression
from features.transferability.leep import leep, nce
from features.transferability.logme import logme, logme_regression
from features.transferability.parc import parc
from features.transferability.transrate import coding_rate, transrate

__all__ = [
    "coding_rate",
    "hscore",
    "jackknife",
    "knn",
    "knn_regression",
    "leep",
    "logme",
    "logme_regression",
    "nce",
    "parc",
    "transrate",
]
