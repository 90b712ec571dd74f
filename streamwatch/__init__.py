"""streamwatch watches fixed cameras and says when the footage has changed so much that a new label is needed."""

__version__ = "0.1.0"
