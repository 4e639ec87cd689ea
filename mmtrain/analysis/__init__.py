"""Looks at a trained run beyond its scores: what it withstands, what it reads, which samples are hard."""
