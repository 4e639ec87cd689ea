"""Batch to Outputs: encoders of each modality, their fusion, and one head a task."""
