"""Where outcomes and rankers come from: fine-tuning, pre-training a zoo, fitting, retraining."""
