"""The documentation site: ``make docs`` builds build/docs/ from the Markdown of the project."""

project = "Rerender"
author = "The Rerender authors"
extensions = ["myst_parser"]
root_doc = "docs/index"
# Pages keep the places that they have in the repository, so that a link works in both.
include_patterns = [
    "docs/**.md",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "experiments/bench/**.md",
    "rerender/demo/weights/README.md",
    "rerender/demo/weights_natural/README.md",
    "rerender/demo/weights_vae_mse/README.md",
]
myst_heading_anchors = 3
highlight_language = "text"  # of blocks that name none
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["wrap.css"]
html_show_copyright = False
html_title = "Rerender"
html_show_sourcelink = False
