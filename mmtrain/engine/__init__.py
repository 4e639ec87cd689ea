"""The epoch functions and the meta-loop, and the parts they call: optimizer, schedule, checkpoints, tracking."""
