"""A benchmark with known truth: clips of the demo world as files, submissions, a leaderboard."""
