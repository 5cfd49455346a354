"""PatchMatch: guides, search, votes and merging."""
