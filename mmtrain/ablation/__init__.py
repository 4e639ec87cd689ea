"""Matrices of runs: what they differ in, how they are run and resumed, and whether their differences are real."""
