"""Links between documents lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob('*.md'),
    *ROOT.glob('docs/**/*.md'),
    *ROOT.glob('configs/*/README.md'),
]
LINK = re.compile(r'!?\[[^\]]*\]\((?!https?:|mailto:)([^)\s]+)\)')


def anchors(page: Path) -> set[str]:
    """Headings, as GitHub names them."""
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    heads = re.findall(r'^#+ (.+)$', text, re.M)
    plain = (re.sub(r'[^\w\- ]', '', head).lower() for head in heads)
    return {head.replace(' ', '-') for head in plain}


@pytest.mark.parametrize(
    'page', PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    for target in LINK.findall(text):
        path, _, anchor = target.partition('#')
        there = page.parent / path if path else page
        assert there.exists(), target
        if anchor and there.suffix == '.md':
            assert anchor in anchors(there), target
