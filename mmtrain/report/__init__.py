"""Pages of runs: each one self-contained HTML file."""
