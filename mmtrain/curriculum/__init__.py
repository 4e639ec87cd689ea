"""What comes next: which samples (plan), how many of each stream (samplers), and how losses are weighed (weighting)."""
