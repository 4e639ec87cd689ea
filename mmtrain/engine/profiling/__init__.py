"""Where a step's time goes: marks in the loop that are claimed by phases, and a trace."""
