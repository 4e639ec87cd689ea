"""Foreign formats to feature stores and back: one file a format, and a row of this table for each of its commands."""
