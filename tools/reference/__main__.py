"""``python -m tools.reference`` writes the generated blocks of all reference pages."""

from __future__ import annotations

import os
import tempfile

from tools.user_settings import is_user_setting


def main() -> None:
    """Write the pages with changed blocks, and print their names."""
    with tempfile.TemporaryDirectory() as home:
        # The defaults of settings, and no connection, are in the pages.
        for name in filter(is_user_setting, list(os.environ)):
            del os.environ[name]
        os.environ["AIRFLOW_HOME"] = home  # before the first import of Airflow
        _write_pages()


def _write_pages() -> None:
    from tools.reference.pages import FOLDER, render_page

    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text()
        if (rendered := render_page(text)) != text:
            path.write_text(rendered)
            print(f"{path.relative_to(FOLDER.parents[1])} written")


if __name__ == "__main__":
    main()
