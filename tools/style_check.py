"""
Check the prose and the size of the code against the limits of the style guide.

``python -m tools.style_check [PATH ...]`` prints each docstring that opens with a vague verb, each file that
is too long, and the files that use the most vague words; it exits with 1 if a limit is exceeded. Words are
counted in docstrings, comments and message texts; names in backquotes are code and do not count.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

PATHS = ("plugins", "dags", "examples", "tools")
DOCUMENTS = (
    *("README.md", "docs/index.md", "docs/glossary.md"),
    *("docs/tutorial", "docs/how-to", "docs/reference", "docs/explanation"),
)
"""Pages are checked apart from the code, so that neither hides the words of the other."""

_VAGUE = [
    *("what", "who", "whom", "whose", "nobody", "somebody", "people"),
    *("whoever", "whatever", "anew", "beside", "none"),
]
VAGUE_WORDS = re.compile(rf"\b({'|'.join(_VAGUE)})\b", re.IGNORECASE)
MAX_VAGUE_WORDS = 4
"""In 1,000 words, in all files together."""

VAGUE_OPENINGS = re.compile(r"\s*(Give|Tell|Say|Let|Look)s?\b")
CODE = re.compile(r"``.*?``|`[^`\n]*`", re.DOTALL)
MARKUP = {
    ".html": re.compile(r"<[^>]*>|{[{%#].*?[}%#]}", re.DOTALL),
    ".md": re.compile(r"^```.*?^```$|<!--.*?-->|<[^>]*>|\]\([^)]*\)", re.DOTALL | re.MULTILINE),
}
"""Parts of a file that are no prose, by its suffix."""

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")

MAX_FILE_LINES = 330
MAX_MEDIAN_LINES, MAX_P90_LINES = 6, 20
"""Of function bodies, in all files together; docstrings do not count."""


@dataclass(frozen=True)
class FileReport:
    """Counts of one file."""

    path: Path
    words: int
    vague_words: int
    lines: int
    function_lines: Sequence[int]
    """Of each function's body."""

    openings: Sequence[int]
    """Lines of docstrings that open with a vague verb."""


def check_file(path: Path) -> FileReport:
    """Count words and lines of a file."""
    source = path.read_text()
    if path.suffix != ".py":
        words, vague_words = count_words([MARKUP[path.suffix].sub(" ", source)])
        return FileReport(path, words, vague_words, source.count("\n"), (), ())
    tree = ast.parse(source)
    docstrings = list(_docstrings(tree))
    words, vague_words = count_words(
        [*(text for _, text in docstrings), *_comments(source), *_messages(tree, docstrings)]
    )
    openings = [line for line, text in docstrings if VAGUE_OPENINGS.match(text)]
    return FileReport(path, words, vague_words, source.count("\n"), list(_function_lines(tree)), openings)


def count_words(texts: Iterable[str]) -> tuple[int, int]:
    """Return the number of words, and of vague words."""
    plain = [CODE.sub(" ", text) for text in texts]
    words = sum(len(WORD.findall(text)) for text in plain)
    return words, sum(len(VAGUE_WORDS.findall(text)) for text in plain)


def check(paths: Sequence[str], *, shown: int = 10) -> list[str]:
    """
    Check all files below the paths.

    :param shown: how many of the files with the most vague words are printed.
    :return: a line for each exceeded limit.
    """
    reports = [check_file(path) for path in _files(paths)]
    words, vague_words = sum(one.words for one in reports), sum(one.vague_words for one in reports)
    per_thousand = 1000 * vague_words / max(words, 1)
    print(f"{vague_words} vague words in {words}: {per_thousand:.1f} in 1,000 (limit {MAX_VAGUE_WORDS})")
    worst = sorted(reports, key=lambda report: report.vague_words, reverse=True)[:shown]
    for report in (report for report in worst if per_thousand > MAX_VAGUE_WORDS and report.vague_words):
        print(f"  {report.vague_words:4} of {report.words:5} in {report.path}")
    lengths = [length for report in reports for length in report.function_lines]
    p90 = quantiles(lengths, n=10)[-1] if len(lengths) > 1 else 0
    problems = [
        *(
            f"{one.path}:{line}: docstring opens with a vague verb"
            for one in reports
            for line in one.openings
        ),
        *(
            f"{one.path}: {one.lines} lines (limit {MAX_FILE_LINES})"
            for one in reports
            if one.lines > MAX_FILE_LINES and one.path.suffix == ".py"
        ),
    ]
    if per_thousand > MAX_VAGUE_WORDS:
        problems.append(f"{per_thousand:.1f} vague words in 1,000 (limit {MAX_VAGUE_WORDS})")
    if lengths and (median(lengths) > MAX_MEDIAN_LINES or p90 > MAX_P90_LINES):
        problems.append(f"function bodies: median {median(lengths)}, 90th percentile {p90} lines")
    return problems


def _files(paths: Sequence[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.suffix in (".py", *MARKUP) and not file.is_symlink())


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Return docstrings of modules, classes and functions, and strings below an attribute or constant."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", ()) if not isinstance(node, ast.Lambda | ast.IfExp) else ():
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.lineno, value.value


def _comments(source: str) -> Iterator[str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return (token.string for token in tokens if token.type == tokenize.COMMENT)


def _messages(tree: ast.Module, docstrings: Sequence[tuple[int, str]]) -> Iterator[str]:
    """Return string literals of at least three words that are not docstrings."""
    known = {text for _, text in docstrings}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and text not in known and len(WORD.findall(text)) >= 3:
            yield text


def _function_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            if body:
                yield (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def main() -> int:
    """Print what exceeds a limit; exit with 1 if anything does."""
    groups = [sys.argv[1:]] if sys.argv[1:] else [PATHS, DOCUMENTS]
    problems = [problem for paths in groups for problem in check(paths)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
