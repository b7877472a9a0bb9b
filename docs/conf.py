"""How the pages are built: ``sphinx-build -W docs docs/_build``."""

import re
from pathlib import Path

from mmlocal.version import __version__

DOCS = Path(__file__).parent

project = 'MMLocal'
author = 'MMLocal contributors'
release = __version__

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
]
exclude_patterns = ['_build', 'tutorial_out']
html_theme = 'furo'
html_title = 'MMLocal'

# The numbers of the notebook are those of the run that built the page.
nb_execution_mode = 'force'
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True

myst_enable_extensions = ['dollarmath', 'fieldlist']
# Links such as memory.md#fit-a-budget, as on GitHub.
myst_heading_anchors = 4

autodoc_typehints = 'none'  # the docstrings have them
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'show-inheritance': True}
# Written in code, not in prose: types of arguments are no references.
napoleon_use_ivar = True
napoleon_use_param = True


def setup(app):
    """Links to files of the repository are text here."""
    app.connect('source-read', _source_read)
    app.connect('include-read', _include_read)


def _source_read(app, docname, source):
    if (DOCS / f'{docname}.md').exists():  # not a notebook
        source[0] = _inside(source[0], (DOCS / docname).parent)


def _include_read(app, path, docname, source):
    # Included as if it stood in the page that includes it.
    text = _inside(source[0], (DOCS.parent / path).resolve().parent)
    source[0] = text.replace('](docs/', '](').replace('](../../docs/', '](../')


def _inside(text, folder):
    """Links and images that lead to a page, an image or the web."""

    def keep_or_not(match):
        label, target = match['label'], match['target']
        path = (folder / target.partition('#')[0]).resolve()
        inside = path.is_relative_to(DOCS) and path.is_file()
        if ':' in target or target.startswith('#') or inside:
            return match[0]
        page = _page_of(path)
        return f'[{label}](/{page})' if page else label

    return re.sub(
        r'(?<!!)\[(?P<label>[^\]]+)\]\((?P<target>[^)\s]+)\)',
        keep_or_not,
        text,
    )


def _page_of(path):
    """The page that includes the README of a folder of configs."""
    folder = path.parent if path.name == 'README.md' else path
    page = DOCS / 'configs' / f'{folder.name}.md'
    if folder.parent.name == 'configs' and page.exists():
        return page.relative_to(DOCS).as_posix()
    return None
