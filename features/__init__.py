"""What can be measured of a checkpoint before it is fine-tuned. Knows nothing of rankers."""
