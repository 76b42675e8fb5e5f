# SPDX-License-Identifier: Apache-2.0
"""Files of a bag: discovery with missing or damaged metadata, and decompression."""

from __future__ import annotations

from pathlib import Path, PurePath
import shutil
from typing import Any

from rosbags.rosbag2 import storage_mcap
import yaml

from dualfocus_ros.exceptions import BagError

# The packages that rosbags uses; they depend on the Python version.
zstd: Any = storage_mcap.zstd
lz4_decompress: Any = storage_mcap.lz4_decompress

STORAGE_SUFFIXES = ('.mcap', '.db3')
COMPRESSED_SUFFIXES = ('.zstd', '.zst')
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


def find_bag_files(path: Path) -> tuple[list[Path], list[str]]:
    """Return the files of a bag, a folder or one file, and problems found with them as text.

    Missing metadata and files are problems, not errors: the remaining messages are readable.

    :raises BagError: without any file.
    """
    if not path.exists():
        raise BagError(f'{path} does not exist: give the folder of a bag')
    if not path.is_dir():
        if not _is_storage(path):
            raise BagError(
                f'{path} is not a bag file: expected {" or ".join(STORAGE_SUFFIXES)}, '
                'also with .zstd'
            )
        return [path], []
    present = sorted(child for child in path.iterdir() if _is_storage(child))
    metadata = path / 'metadata.yaml'
    if not metadata.exists():
        if not present:
            raise BagError(
                f'{path} is not a bag: it has neither metadata.yaml nor a file '
                f'{" or ".join("*" + suffix for suffix in STORAGE_SUFFIXES)}'
            )
        names = ', '.join(file.name for file in present)
        return present, [
            f'{path} has no metadata.yaml, as after an interrupted recording: reading {names}'
        ]
    listed = _listed_files(metadata)
    if listed is None:
        if not present:
            raise BagError(f'{metadata} cannot be parsed, and its folder has no bag file')
        return present, [f'{metadata} cannot be parsed: reading all bag files of its folder']
    missing = [name for name in listed if not (path / name).is_file()]
    files = [path / name for name in listed if name not in missing]
    if not files:
        raise BagError(f'none of the files of {path} is there: {", ".join(missing)}')
    if not missing:
        return files, []
    examples = ', '.join(missing[:3]) + (', …' if len(missing) > 3 else '')
    return files, [
        f'{path}: {len(missing)} of {len(listed)} files are missing ({examples}); reading the rest'
    ]


def decompress_file(path: Path, folder: Path) -> Path:
    """Return the file, decompressed into ``folder`` if it is compressed as a whole.

    :raises BagError: if it cannot be decompressed.
    """
    with path.open('rb') as file:
        if file.read(4) != ZSTD_MAGIC:
            return path
    name = path.stem if path.suffix in COMPRESSED_SUFFIXES else path.name
    target = folder / name
    try:
        with zstd.open(path, 'rb') as source, target.open('wb') as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except (zstd.ZstdError, EOFError) as error:
        raise BagError(f'{path} cannot be decompressed: {error}') from None
    return target


def decompress_message(data: bytes) -> bytes:
    """Return a message, decompressed if it is compressed individually.

    Serialised messages begin with a zero byte, so they never match the zstd magic number.
    """
    return zstd.decompress(data) if data[:4] == ZSTD_MAGIC else data


def _is_storage(path: Path) -> bool:
    name = path.with_suffix('') if path.suffix in COMPRESSED_SUFFIXES else path
    return name.suffix in STORAGE_SUFFIXES


def _listed_files(metadata: Path) -> list[str] | None:
    """Return the file names in the metadata; None if it has none."""
    try:
        document: Any = yaml.safe_load(metadata.read_text('utf-8'))
        paths = document['rosbag2_bagfile_information']['relative_file_paths']
        return [PurePath(str(name)).name for name in paths] or None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return None
