"""What training minimizes and what it reports: per-sample task losses, regularizers, and the objective that joins them."""
