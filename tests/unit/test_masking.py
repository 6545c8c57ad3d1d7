"""Which parts of texts and JSON values are masked where they are shown."""

from __future__ import annotations

import time
from typing import Any

import pytest

from event_hooks.masking import mask_secrets, mask_text


@pytest.mark.parametrize(
    "text",
    [
        "2-pass mapping failed; first-pass reads pass: 118",
        "two-pass assembly, --two-pass yes, pass=118, token=118",
        "Access denied for user 'ens'@'host' (using password: YES)",
        '{"pass": 118, "fail": 3}',
        '{"token": null, "secret": ["a"]}',
        "unexpected token: foo; the password is wrong",
        "compass=1 bypass=2 first_pass=done",
        "http://host:80/x me@ebi.ac.uk",
        "http://host:8080/a@b mysql://host:3306/db",
        "see amqp://host:5672/vhost",
        "mysql -port 3306 -p",
        "PWD=/home/ensembl",
    ],
)
def test_a_text_without_a_secret_stays(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ('{"password": "hunter2pw"}', '{"password": "***"}'),
        (r'{"conf": "{\"passwd\": \"a b\", \"n\": 1}"}', r'{"conf": "{\"passwd\": \"***\", \"n\": 1}"}'),
        (r'"db_password":"a\"b",', '"db_password":"***",'),
        ("'-pass' => 'x y', '-host' => 'h'", "'-pass' => '***', '-host' => 'h'"),
        ("-host h -pass hunter2 -user me", "-host h -pass *** -user me"),
        ("--db-password hunter2 --password=a", "--db-password *** --password=***"),
        ('["run.pl", "-pass", "hunter2"]', '["run.pl", "-pass", "***"]'),
        ("mysqldump -P 3306 -phunter2 db", "mysqldump -P 3306 -p*** db"),
        ("DBI:mysql:host=h;password=hunter2;port=1", "DBI:mysql:host=h;password=***;port=1"),
        ("PGPASSWORD=hunter2 psql", "PGPASSWORD=*** psql"),
        ("password: hunter2", "password: ***"),
        ("Authorization: Bearer hunter2", "Authorization: ***"),
        ("https://h/x?token=hunter2&page=1", "https://h/x?token=***&page=1"),
        ("mysql://u:p@ss/w#rd@host/db?x=y", "mysql://u:***@host/db?x=y"),
        ("mysql://u:p@h1/db,mysql://u:p@h2/db", "mysql://u:***@h1/db,mysql://u:***@h2/db"),
        ("https://user:hunter2@github.com/x", "https://user:***@github.com/x"),
        ("truncated: mysql://user:hunt", "truncated: mysql://user:***"),
    ],
)
def test_the_secret_in_a_text_is_masked_and_a_second_time_changes_nothing(text: str, masked: str) -> None:
    assert mask_text(text) == masked
    assert mask_text(masked) == masked


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        (
            {"password": "a", "Passwd": "b", "dbPassword": 1},
            {"password": "***", "Passwd": "***", "dbPassword": "***"},
        ),
        ({"api_key": "a", "access-token": "b"}, {"api_key": "***", "access-token": "***"}),
        ([{"-pass": "a"}, {"secret": {"a": 1}}], [{"-pass": "***"}, {"secret": "***"}]),
        (["run.pl", "--password", "a", "b"], ["run.pl", "--password", "***", "b"]),
        ({"src_uri": "mysql://u:a@h/db"}, {"src_uri": "mysql://u:***@h/db"}),
        ({"pass": 118, "tokens": 3, "password": None, "has_secret": True}, None),
        ({"first_pass": "done", "key": "value", "passed": ["a"], "pass": ["a"]}, None),
    ],
)
def test_a_json_value_is_masked_by_its_keys(value: Any, masked: Any) -> None:
    assert mask_secrets(value) == (value if masked is None else masked)


@pytest.mark.parametrize(
    "unit",
    [
        "://",
        "://a:",
        "://a:b@",
        "http://a:",
        "pass ",
        "password=",
        '\\"password\\": ',
        "-",
        "--a_",
        "a-",
        "mysql -p",
    ]
    + ["'\\", '"', " ", "= ", "api", "ACGT"],
)
def test_a_text_of_1_mb_is_masked_in_a_second(unit: str) -> None:
    text = unit * (2**20 // len(unit))
    for adverse in (text, f"mysql://{text}@", f'"password": "{text}'):
        start = time.process_time()
        mask_text(adverse)
        assert time.process_time() - start < 1
