"""Motion from the frames of a segment to its key frames."""
