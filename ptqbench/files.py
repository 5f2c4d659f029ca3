"""Files that several processes write: whole or absent at any time, and one writer after the other."""

from __future__ import annotations

import contextlib
import errno
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP}
"""What a file system says that has no locks, as Lustre and NFS may be mounted."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder that becomes `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    temporary.touch(exist_ok=False)  # with the rights that any new file gets
    rights = stat.S_IMODE(temporary.stat().st_mode)
    try:
        yield temporary
        temporary.chmod(rights)  # what safetensors writes only its owner can read, and a cache may be a group's
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Wait for the lock file `lock`, unless the file system has no locks. It falls with the process, killed or not."""
    # Never a marker file in place of a lock: those of jobs that were ended would stand for ever.
    held = FileLock(lock, fallback_to_soft=False)
    acquire(held)
    try:
        yield
    finally:
        held.release()


def acquire(lock: FileLock) -> None:
    """Wait for a lock and make its folder, again where it was pruned meanwhile; without where the file system has no locks."""
    while True:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except FileNotFoundError:
            continue
        except NotImplementedError:
            return
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return
