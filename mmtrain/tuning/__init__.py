"""Settings found by trying them: learning rate, micro-batch; nothing here leaves a run behind."""
