"""The contracts of imports, and the limits of prose and size, which ``make lint`` checks too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.style_check import DOCUMENTS, PATHS, check, check_file

ROOT = Path(__file__).parents[2]


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": "plugins"}
    process = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout


def test_prose_and_size_are_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check(PATHS) == []
    assert check(DOCUMENTS) == []


def test_vague_words_are_counted_in_prose_and_not_in_code(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(
        '"""Tell who waits; ``whose`` is code."""\n\n'
        "who = 'what'  # nobody else\n\n\n"
        "def fail() -> None:\n"
        '    """Raise an error."""\n'
        "    raise ValueError('expected a whole number, not whatever this is')\n"
    )
    report = check_file(file)
    assert (report.vague_words, report.openings, report.function_lines) == (3, [1], [1])


def test_words_of_a_page_are_counted_without_code_comments_and_addresses(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(
        "# Who waits\n\n<!-- nobody -->\n\n```bash\necho what\n```\n\n"
        "See [the page](what.md) and `whose`: none.\n"
    )
    assert check_file(file).vague_words == 2
