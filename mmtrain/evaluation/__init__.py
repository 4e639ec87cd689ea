"""What a model is worth: predictions per sample, metrics, their intervals, and the baselines beside them."""
