"""Download a public data file once, checked by its SHA-256 sum.

sciml keeps no list of addresses: those of the public benchmark files have moved several times,
and a wrong one is worse than none. The caller takes address and sum from the publisher.
"""

import re
from pathlib import Path
from urllib.parse import urlparse

from ..core import PathLike, import_optional
from ._file_errors import file_error


def fetch(
    url: str,
    sha256: str,
    *,
    file_name: str | None = None,
    folder: PathLike | None = None,
    progress: bool = True,
) -> Path:
    """Return the local path of a file, downloading it when it is not there yet.

    The file is downloaded under another name, checked, and only then renamed: an interrupted or
    wrong download leaves nothing behind.

    Parameters
    ----------
    url
        Address, ``http``, ``https``, ``ftp`` or ``doi``.
    sha256
        The sum of the file, 64 hexadecimal digits, as the publisher states it (or
        ``sha256sum`` prints it for a copy you trust).
    file_name
        Name of the local file; the last part of the address otherwise.
    folder
        Where to keep it; the cache folder of the user otherwise.
    progress
        Show a bar with rate and time left.

    Returns
    -------
    Path
        The file, for `load`.

    Raises
    ------
    ValueError
        If ``sha256`` is not one, or the address has an unknown scheme or no file name.
    DataFileError
        If the file that came, or the one that is there, has another sum.
    ConnectionError
        If the download fails.
    ImportError
        Without the extra ``data``.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(
            f"`sha256` must be 64 hexadecimal digits, got {sha256!r}. Print the sum of a copy "
            "that you trust with `sha256sum`."
        )
    parts = urlparse(url)
    if parts.scheme not in ("http", "https", "ftp", "doi"):
        raise ValueError(f"`url` must begin with http, https, ftp or doi, got {url!r}.")
    name = file_name or Path(parts.path).name
    if not name or Path(name).name != name:
        raise ValueError(f"pass `file_name`, a plain name: {url!r} does not end in one.")
    pooch = import_optional("pooch", "Downloading a data file")
    target = (Path(folder) if folder is not None else Path(pooch.os_cache("sciml"))) / name
    if target.exists() and pooch.file_hash(str(target)) != sha256.lower():
        raise file_error(
            target,
            "the file is there, but its SHA-256 sum is not the expected one. Remove it, or pass "
            "another `file_name`.",
        )
    downloader = pooch.core.choose_downloader(url, progressbar=progress)
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256.lower()}",
            fname=name,
            path=target.parent,
            downloader=downloader,
        )
    except ValueError as error:
        raise file_error(
            target,
            f"what {url} gave is not the expected file ({error}). A log-in or confirmation page "
            "instead of the data is the usual cause: open the address in a browser.",
        ) from error
    except OSError as error:
        # The errors of the HTTP library are OSErrors too.
        raise ConnectionError(f"the download of {url} failed: {error}") from error
    return target
