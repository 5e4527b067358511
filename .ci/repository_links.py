"""Hook of mkdocs: check links from the pages to files outside docs/, which are on GitHub but not on the site.

The site shows only the text of such a link, or links to the repository if mkdocs.yml sets `repo_url`.
"""

import logging
import re
from pathlib import Path

LINK = re.compile(r'\[([^\]]*)\]\((\.\./[^)\s]*)\)')
log = logging.getLogger('mkdocs.hooks.repository_links')  # a strict build counts the warnings of mkdocs' loggers


def on_page_markdown(markdown: str, *, page, config, files) -> str:
    """Replace the links that leave docs/; a missing file is a warning, which ends a strict build."""
    page_folder = Path(page.file.abs_src_path).parent
    root = Path(config.config_file_path).parent

    def replace(link: re.Match) -> str:
        text, target = link.groups()
        path = (page_folder / target.partition('#')[0]).resolve()
        if not path.exists():
            log.warning(f'{page.file.src_uri}: the linked file {target} does not exist')
        if not config.repo_url:
            return text
        return f'[{text}]({config.repo_url.rstrip("/")}/blob/main/{path.relative_to(root).as_posix()})'

    return LINK.sub(replace, markdown)
