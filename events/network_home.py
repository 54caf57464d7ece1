"""A home on a network file system is refused: locks and SQLite's shared memory do not hold there."""

import re
import sys
from pathlib import Path

from twinlock.errors import TwinlockError

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_NETWORK = re.compile(
    r"nfs4?|cifs|smb2|smb3|smbfs|9p|ceph|afs|lustre|gpfs|beegfs|glusterfs|ocfs2|gfs2|davfs|ncpfs"
    r"|fuse\.(sshfs|ceph|ceph-fuse|glusterfs|s3fs|rclone|davfs2?|gcsfuse|juicefs|nfs|smbnetfs|curlftpfs)"
)


class NetworkHome(TwinlockError):
    """Refuse a home that lies on a network file system."""

    def __init__(self, home: Path, kind: str) -> None:
        super().__init__(
            f"the home {home} lies on a network file system ({kind})", hint="choose a home on a local disk with --home"
        )
        self.kind = kind


def refuse_network_home(home: Path, mounts: Path = _MOUNTS) -> None:
    """Raise `NetworkHome` where the home's file system is shared over a network; only Linux can tell."""
    if sys.platform != "linux":
        return
    kind = _kind(home.resolve(), mounts.read_text(encoding="utf-8", errors="surrogateescape"))
    if _NETWORK.fullmatch(kind):
        raise NetworkHome(home, kind)


def _kind(path: Path, mounts: str) -> str:
    found, deepest = "", -1
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), left.split(" ")[4]))
        # The later of two mounts on one point hides the earlier.
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            found, deepest = right.split(" ")[0], len(point.parts)
    return found
