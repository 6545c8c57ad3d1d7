"""``perl.dumps`` rejects unsafe values, and a real perl reads all others back unchanged."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_hooks.exceptions import UnsafeValue
from event_hooks.hive import perl

READER = r"""
use strict; use warnings FATAL => 'all'; use JSON::PP; use B;
my $json = JSON::PP->new->ascii->canonical->allow_nonref;
$| = 1;
sub marked {  # JSON::PP would write a float as Perl prints it, without all of its digits
    my $v = shift;
    return {map {("$_" => marked($v->{$_}))} keys %$v} if ref $v eq 'HASH';
    return [map {marked($_)} @$v] if ref $v eq 'ARRAY';
    return sprintf('float %.17g', $v) if defined $v && B::svref_2object(\$v)->FLAGS & B::SVf_NOK;
    return $v;
}
while (my $line = <STDIN>) {
    my $value = eval $line;
    print $json->encode($@ ? {died => "$@"} : {value => marked($value)}), "\n";
}
"""
"""Evaluates lines of Perl, as an eHive worker does with ``input_id``, and prints the values as JSON."""

REPLACER = r"""
use strict; use warnings; use JSON::PP;
my $json = JSON::PP->new->ascii->allow_nonref;
$| = 1;
while (my $line = <STDIN>) {
    print $json->decode($line) =~ /#(expr\(.+?\)expr|[\w:]+)#/s ? 1 : 0, "\n";
}
"""
"""Prints whether eHive 2.5 to 2.8 would replace a part of a text (``Bio::EnsEMBL::Hive::Params``)."""

REPLACEMENT_PARTS = ["#", "a", ":", "expr(", ")expr", "\u0301", "\u203f", "\u200c", "\u200d", "\u24b6", " "]

# Without "#": eHive replaces a name between two of them, so such a text may be rejected.
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="#")
TEXT = st.text(CHARACTERS, max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from(
        ["\\", '"', "$x", "@{[1]}", "${\\1}", "\\x{41}", "\\Q", "\0", "\n", "C# and F", "😀", "é"]
    )
)
FLAT = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(TEXT, SCALARS, max_size=3)
VALUES = FLAT | st.lists(FLAT, max_size=3) | st.dictionaries(TEXT, FLAT, max_size=3)


@pytest.fixture(scope="module")
def read() -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function that evaluates a text with perl and returns ``{"value": …}`` or ``{"died": …}``."""
    with subprocess.Popen(
        ["perl", "-e", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def evaluate(text: str) -> dict[str, Any]:
            stdin.write(text + "\n")
            stdin.flush()
            result: dict[str, Any] = json.loads(stdout.readline())
            return result

        yield evaluate
        stdin.close()


@pytest.fixture(scope="module")
def replaces() -> Iterator[Callable[[str], bool]]:
    """A function that returns whether eHive would replace a part of a text."""
    with subprocess.Popen(
        ["perl", "-e", REPLACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout

        def match(text: str) -> bool:
            stdin.write(json.dumps(text) + "\n")
            stdin.flush()
            return stdout.readline() == "1\n"

        yield match
        stdin.close()


def to_printed(value: Any) -> Any:
    """Convert a value to its form in the output of ``READER``; Perl has no booleans."""
    match value:
        case bool():
            return int(value)
        case float():
            return f"float {value:.17g}"
        case dict():
            return {key: to_printed(item) for key, item in value.items()}
        case list():
            return [to_printed(item) for item in value]
        case _:
            return value


@settings(max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=st.dictionaries(TEXT, VALUES, max_size=5))
def test_perl_reads_dumped_values_unchanged(
    read: Callable[[str], dict[str, Any]], value: dict[str, Any]
) -> None:
    text = perl.dumps(value)
    assert text.isascii()
    assert "\n" not in text
    assert read(text) == {"value": to_printed(value)}


@pytest.mark.parametrize("as_key", [False, True], ids=["value", "key"])
@pytest.mark.parametrize(
    "exploit",
    [
        '\\", z => system(q(touch {file})), y => "',
        "\\@{{[system(q(touch {file}))]}}",
        'a" => system(q(touch {file})), "b',
        '"; system("touch {file}"); "',
        "${{\\system(q(touch {file}))}}",
        "ends with a backslash \\",
        "C:\\new $5 x@y.z \\u00e9 rev\\101 a\\LBIG",
    ],
)
def test_an_exploit_arrives_as_data(
    read: Callable[[str], dict[str, Any]], tmp_path: Path, exploit: str, as_key: bool
) -> None:
    file = tmp_path / "made_by_perl"
    text = exploit.format(file=file)
    value = {text: "x"} if as_key else {"x": text}
    assert read(perl.dumps({"event": value})) == {"value": {"event": value}}
    assert not file.exists()


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=st.lists(st.sampled_from(REPLACEMENT_PARTS) | CHARACTERS, max_size=8))
def test_all_text_that_ehive_would_replace_is_rejected(
    replaces: Callable[[str], bool], parts: list[str]
) -> None:
    text = f"#{''.join(parts)}#"
    if replaces(text):
        with pytest.raises(UnsafeValue):
            perl.dumps({"comment": text})


@pytest.mark.parametrize(
    "text",
    [
        "#expr(system(q(touch /tmp/p)))expr#",
        "#expr(chr(35))expr#expr(1+1)#expr(chr(35))expr#",
        "#db_password#",
        "#toString:k#",
        "#nosuch#",
        "before #expr(",
        ")expr# after",
        "#expr(two\nlines)expr#",
        "#größe#",
        "#incomplete:x\u0301#",
        "#a\u203fb#",
        "#\u200d#",
        "#\u24b6#",
    ],
)
@pytest.mark.parametrize("as_key", [False, True], ids=["value", "key"])
def test_text_that_ehive_would_evaluate_is_rejected_with_its_field(text: str, as_key: bool) -> None:
    value = {text: 1} if as_key else {"comment": text}
    with pytest.raises(UnsafeValue, match=r"^event\.list\[1\](\.comment)?: expected no '"):
        perl.dumps({"event": {"list": [{}, value]}})


@pytest.mark.parametrize("text", ["#", "C#/F#", "issue #12 and", "## title", "a # b # c"])
def test_harmless_hash_signs_are_accepted(read: Callable[[str], dict[str, Any]], text: str) -> None:
    assert read(perl.dumps({"x": text})) == {"value": {"x": text}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "a finite number"),
        (float("inf"), "a finite number"),
        ("\ud800", "a lone surrogate"),
        ({1: 2}, "keys that are strings"),
        (object(), "a JSON value"),
    ],
)
def test_values_without_perl_text_are_rejected(value: object, expected: str) -> None:
    with pytest.raises(UnsafeValue, match=f"^x: expected .*{expected}"):
        perl.dumps({"x": value})


def test_nesting_above_the_maximum_is_rejected() -> None:
    deep: Any = "bottom"
    for _ in range(perl.MAX_DEPTH + 1):
        deep = [deep]
    with pytest.raises(UnsafeValue, match="at most 50 levels"):
        perl.dumps({"x": deep})


def test_equal_values_have_equal_texts() -> None:
    first, second = {"b": [1, 2], "a": None}, {"a": None, "b": (1, 2)}
    assert perl.dumps(first) == perl.dumps(second) == '{"a" => undef,"b" => [1,2]}'


def test_large_numbers_keep_their_digits() -> None:
    assert perl.dumps([2**64 - 1, 2**64, -(2**63), -(2**63) - 1]) == (
        '[18446744073709551615,"18446744073709551616",-9223372036854775808,"-9223372036854775809"]'
    )


def test_text_with_many_unclosed_quotes_is_rejected_at_once() -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="expected a Perl hash"):
        perl.loads("\\'" * 20_000)
    assert time.process_time() - started < 0.5
