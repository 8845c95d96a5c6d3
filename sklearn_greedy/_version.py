"""What the package's metadata say, read once."""

from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata


def _own_metadata():
    """Those of the installed package; a frozen program may have left them behind."""
    try:
        return metadata("sklearn_greedy")
    except PackageNotFoundError:
        return Message()


_METADATA = _own_metadata()
VERSION = _METADATA["Version"] or "unknown"
# Address of the documentation, of the form "Documentation, https://...".
DOCUMENTATION = next(
    (
        url.partition(", ")[2]
        for url in _METADATA.get_all("Project-URL", [])
        if url.startswith("Documentation")
    ),
    "",
)
