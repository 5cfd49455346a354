"""Results that runs of ours have made: their clips, and what they measured themselves."""
