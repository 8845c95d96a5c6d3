"""What the package's metadata say, read once."""

from importlib.metadata import metadata

_METADATA = metadata("sklearn_greedy")
VERSION = _METADATA["Version"]
# Address of the documentation, of the form "Documentation, https://...".
DOCUMENTATION = next(
    url.partition(", ")[2]
    for url in _METADATA.get_all("Project-URL", [])
    if url.startswith("Documentation")
)
