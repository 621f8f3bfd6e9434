"""Sphinx's settings for the site; `make site` copies this file beside the pages (otr_paper/site/build.py)."""

project = "The executable OTR paper"
copyright = "its contributors, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "otr_paper.site.extension"]

html_theme = "furo"
html_title = project
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

# The stored outputs are shown; nothing runs. No extension of MyST makes mathematics of dollar signs.
nb_execution_mode = "off"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
