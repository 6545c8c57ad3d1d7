"""Files and folders that only their owner can read."""

import os
from pathlib import Path


def private_folder(folder: Path) -> Path:
    """Create a folder, and its missing parents, that only the owner can enter."""
    for missing in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_private(path: Path, text: str) -> None:
    """Write a file atomically; only the owner can read it."""
    private_folder(path.parent)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
