"""Cross-frame constraints: style, shape, pixels and colour of the paper's section 4.1."""
