"""Which of two checkpoints fine-tunes better, and how sure. Imports neither torch nor mlflow nor bentoml."""
