"""Foreign formats to feature stores and back: one file for the door of each format, others for its parts."""
