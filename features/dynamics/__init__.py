"""Training dynamics: how the examples of a task behave over the checkpoints of a run or a zoo.

trajectories.py   the matrix checkpoints x examples, and its file
relatedness.py    of tasks: correlations of mean trajectories, tested with care
points.py         of examples: exact correlation, the linear-cost polynomial way, their agreement, maps
cartography.py    confidence, variability, correctness, and the three regions
curves.py         a checkpoint's own course: level, slope, curvature, forecast
history.py        the training losses that lie beside a checkpoint
rows.py           courses and training histories as rows of FEATURES
imports.py        trajectories that other tools have written
pictures.py, page.py, report.py   every figure; a page that holds them; the folder of `foretune dynamics`
published.py      published tables through the same code
"""
