"""Feature stores on disk, samples in memory, and the batches made of them."""
