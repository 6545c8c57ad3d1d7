"""Self-signed certificates for servers with TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path


def create_certificate(
    folder: Path, name: str, common_name: str, alternative_names: str
) -> tuple[Path, Path]:
    """
    Create a certificate that is valid for two days, and its key.

    :param name: of the files, without their endings.
    :param alternative_names: as in ``IP:127.0.0.1,DNS:localhost``.
    :return: (certificate, key).
    """
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={common_name}",
        ]
        + ["-addext", f"subjectAltName={alternative_names}", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate, key
