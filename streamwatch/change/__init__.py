"""The change decision: distances, remembered states, and when a new label is needed. NumPy and SciPy only."""
