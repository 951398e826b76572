"""Training dynamics: how the examples of a task behave over the checkpoints of a run or a zoo.

trajectories.py   the matrix checkpoints x examples, and its file
relatedness.py    of tasks: correlations of mean trajectories, tested with care
points.py         of examples: exact correlation, the linear-cost polynomial way, their agreement, maps
cartography.py    confidence, variability, correctness, and the three regions
curves.py         a checkpoint's own course: level, slope, curvature, forecast
"""
