"""Pages of the site that stand at the top of the repository; mkdocs calls it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "architecture.md": "ARCHITECTURE.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, with links that lead within the site."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=_within((ROOT / source).read_text())))
    return files


def _within(text: str) -> str:
    text = re.sub(r"\]\(docs/", "](", text)
    for page, source in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text
