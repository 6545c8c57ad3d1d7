"""TLS of connections to databases: read what a connection's extra or a URL asks for, and insist on it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Engine, event

MYSQL_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")

_MYSQL_FILES = ("ca", "capath", "cert", "key", "cipher")
"""Fields of the driver's argument ``ssl``; as extras, they have the prefix ``ssl_``."""

_MYSQL_EXTRAS = ("ssl", "ssl_mode", *(f"ssl_{name}" for name in _MYSQL_FILES))

_LIBPQ_EXTRAS = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
)

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")

TLS_ERROR_CODE = 2026
"""Error code of MySQL's client for a problem with TLS."""


def parse_flag(name: str, value: Any) -> bool:
    """
    Parse a flag of an extra: true, false, or a text of this meaning.

    :raises ValueError: any other value.
    """
    text = "" if value is None else str(value).strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(f"extra {name}: expected true or false")
    return text in _TRUE


def check_tls_extras(extras: Collection[str], valid: Collection[str]) -> None:
    """
    Reject extras that ask for TLS in an unknown way: otherwise the connection would not be encrypted.

    :raises ValueError: names the extra and the valid ones.
    """
    for name in extras:
        if name not in valid and any(word in name.lower() for word in ("ssl", "tls")):
            raise ValueError(f"extra {name}: unknown; the extras about TLS are {', '.join(valid)}")


def build_mysql_args(extras: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments of the MySQL driver for the extras ``ssl_mode``, ``ssl``, ``ssl_ca`` and others.

    They contain ``ssl_mode`` if a connection must be encrypted. A certificate authority is checked in all
    modes; the host in the certificate with VERIFY_IDENTITY, as MySQL's own clients do.

    :raises ValueError: an extra is unknown or invalid.
    """
    check_tls_extras(extras, _MYSQL_EXTRAS)
    files, is_required = _parse_ssl(extras.get("ssl"))
    files |= {name: str(value) for name in _MYSQL_FILES if (value := extras.get(f"ssl_{name}"))}
    default = "REQUIRED" if files or is_required else "DISABLED"
    mode = str(extras.get("ssl_mode") or default).upper()
    if mode not in MYSQL_MODES:
        raise ValueError(f"extra ssl_mode: expected one of {', '.join(MYSQL_MODES)}")
    if mode == "DISABLED":
        return {}
    if mode == "PREFERRED":
        return {"ssl": files or True}  # encrypted, if the server can
    if mode == "VERIFY_CA" and ("ca" in files or "capath" in files):
        mode = "REQUIRED"  # the driver would check the host as well
    return {"ssl_mode": mode} | ({"ssl": files} if files else {})


def _parse_ssl(value: Any) -> tuple[dict[str, str], bool]:
    """Return the files in the extra ``ssl``, and whether it asks for TLS."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("extra ssl: expected true, false, or a JSON object") from None
    if not isinstance(value, Mapping):
        return {}, parse_flag("ssl", value)
    for name in value:
        if name not in _MYSQL_FILES:
            raise ValueError(f"extra ssl.{name}: unknown; its fields are {', '.join(_MYSQL_FILES)}")
    return {name: str(path) for name, path in value.items() if path}, True


def select_libpq_args(extras: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the extras that libpq understands, such as ``sslmode``; a root certificate requires TLS.

    :raises ValueError: an extra about TLS is unknown.
    """
    check_tls_extras(extras, _LIBPQ_EXTRAS)
    args = {name: str(extras[name]) for name in _LIBPQ_EXTRAS if extras.get(name)}
    if args and args.get("sslrootcert") != "system":  # with it, libpq's default is verify-full
        args.setdefault("sslmode", "verify-ca" if "sslrootcert" in args else "require")
    return args


def require_encryption(engine: Engine) -> None:
    """
    Have an engine for MySQL reject each connection that is not encrypted.

    MariaDB Connector/C 3.3 ignores ``ssl_mode=REQUIRED`` if the server has no TLS.
    """
    event.listen(engine, "do_connect", _connect_encrypted)


def _connect_encrypted(dialect: Any, _: Any, arguments: Any, options: Any) -> Any:
    connection = dialect.connect(*arguments, **options)
    cursor = connection.cursor()
    cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    row = cursor.fetchone()
    if row and row[1]:
        return connection
    connection.close()
    raise dialect.loaded_dbapi.OperationalError(
        TLS_ERROR_CODE,
        f"the connection asks for TLS (ssl_mode {options['ssl_mode']}), and the server does not support it",
    )
