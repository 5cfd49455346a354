"""Where a video is restyled."""
