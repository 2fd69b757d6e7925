"""Prepared slices on disk: memory-mapped NumPy shards and a manifest."""

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from synthmed.data.geometry import Template, template_of
from synthmed.data.schema import CaseRecord, Manifest, Plan, Split
from synthmed.data.selection import select
from synthmed.errors import UserError
from synthmed.files import read_json

if TYPE_CHECKING:
    from synthmed.data.synthetic import SyntheticSet

MANIFEST = "manifest.json"
CLASS_COUNTS = "class_counts.npy"
_REBUILD = "run `synthmed prepare` again with the same options, which rebuilds it"


class Store:
    """A store opened for reading. Slices are numbered from 0 over all cases and splits.

    Attributes:
        path: Folder of the store.
        manifest: All that it says of itself.
        size: Rows and columns of a slice.
        channels: Names of the image channels.
        classes: Names of the classes, background first; the position is the class index.
        dataset: Name of the data set.
        licence: Its licence.
        spacing: Size of a pixel, (row, column).
        plan: How cases were prepared.
        content_hash: SHA-256 that stands for the content.
        labelled: Whether its label maps are known; else they are all zero and mean nothing.
        class_counts: Pixels of each class in each slice, int64 `[slices, classes]`; all 0 where labels are not known.
        slice_position: Where each slice lies along its case, float32 `[slices]` in 0..1.
        slice_shown: Which foreground classes each slice shows, float32 `[slices, classes - 1]` of 0 and 1.
        slice_ignored: Whether the class of any pixel of a slice is not known (`IGNORE`), bool `[slices]`.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path = path
        self.manifest = manifest
        self.plan: Plan = manifest.plan
        self.size = manifest.plan.size
        self.spacing = manifest.plan.spacing
        self.channels = manifest.channels
        self.classes = manifest.classes
        self.dataset = manifest.dataset
        self.licence = manifest.licence
        self.content_hash = manifest.content_hash
        self.labelled = manifest.labelled
        self._firsts = np.array([case.first for case in manifest.cases], np.int64)
        self._shard_firsts = np.array([shard.first for shard in manifest.shards], np.int64)
        self._count = sum(case.slices for case in manifest.cases)
        shape = (*self.size, len(self.channels))
        self._images = [self._map(s.images, (s.slices, *shape), np.float32) for s in manifest.shards]
        self._labels = [self._map(s.labels, (s.slices, *self.size), np.uint8) for s in manifest.shards]
        counts = self._map(CLASS_COUNTS, (self._count, len(self.classes)), np.int64)
        self.class_counts: np.ndarray = np.array(counts)
        self.slice_shown: np.ndarray = (self.class_counts[:, 1:] > 0).astype(np.float32)
        known = self.class_counts.sum(axis=1) == self.size[0] * self.size[1]
        self.slice_ignored: np.ndarray = ~known if self.labelled else np.zeros(self._count, bool)
        self.slice_position: np.ndarray = np.concatenate(
            [(np.arange(case.slices, dtype=np.float32) + 0.5) / case.slices for case in manifest.cases]
        )

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """Open the store in a folder.

        Raises:
            UserError: If there is none, or it is damaged or of a later version.
        """
        path = Path(path)
        return cls(path, read_manifest(path))

    def __len__(self) -> int:
        """Return the number of slices in all splits."""
        return self._count

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self.manifest.cases)} cases, {self._count} slices, size={self.size})"

    def require_labels(self) -> None:
        """Do nothing where label maps are known.

        Raises:
            UserError: If the store holds images alone.
        """
        if not self.labelled:
            raise UserError(f"{self.path} holds images without labels: name it by `train --set unlabelled=` alone")

    def indices(self, split: Split) -> np.ndarray:
        """Return the numbers of a split's slices, int64, in the order of its cases."""
        parts = [np.arange(case.first, case.first + case.slices, dtype=np.int64) for case in self.cases(split)]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def training_indices(self, cases: list[CaseRecord] | None = None, *, fully_labelled: bool = False) -> np.ndarray:
        """Return the numbers of the slices that a training is offered in one round, int64, some of them repeated.

        Which they are follows from the plan's `slices`, see `synthmed.data.selection`, and from the store's seed; of a
        store without labels it is all of them.

        Args:
            cases: Training cases to choose from; by default all.
            fully_labelled: Whether slices with pixels of unknown class are left out, from which a generator would
                learn that there is nothing.

        Raises:
            UserError: If there are training slices, but none that may be offered.
        """
        chosen = self.cases("train") if cases is None else cases
        parts = [np.arange(case.first, case.first + case.slices, dtype=np.int64) for case in chosen]
        numbers = np.concatenate(parts) if parts else np.empty(0, np.int64)
        if not self.labelled or not len(numbers):
            return numbers
        if fully_labelled:
            numbers = numbers[~self.slice_ignored[numbers]]
            if not len(numbers):
                raise UserError(
                    f"{self.path} has no training slice in which the class of every pixel is known: label some fully"
                )
        owner = np.searchsorted(self._firsts, numbers, side="right")
        return numbers[select(self.class_counts[numbers], self.plan.slices, seed=self.manifest.seed, case=owner)]

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Return slices as float32 `[n, H, W, C]` in [-1, 1], in the order of `indices`."""
        return self._gather(self._images, indices, (*self.size, len(self.channels)), np.float32)

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return class indices as uint8 `[n, H, W]`, in the order of `indices`."""
        return self._gather(self._labels, indices, self.size, np.uint8)

    def cases(self, split: Split | None = None) -> list[CaseRecord]:
        """Return the cases of a split, or all."""
        return [case for case in self.manifest.cases if split is None or case.split == split]

    def case_of(self, index: int) -> CaseRecord:
        """Return the case that a slice belongs to."""
        if not 0 <= index < self._count:
            raise IndexError(f"slice {index} is outside 0..{self._count - 1}")
        return self.manifest.cases[int(np.searchsorted(self._firsts, index, side="right")) - 1]

    def hashes(self, split: Split) -> list[str]:
        """Return the content hashes of a split's cases, sorted: a patient is recognised by any of their images."""
        return sorted({case.hash for case in self.cases(split)})

    @property
    def training_hashes(self) -> list[str]:
        """Content hashes of the training cases, sorted."""
        return self.hashes("train")

    @property
    def held_out_hashes(self) -> set[str]:
        """Content hashes of the validation and test cases: nothing may be taught by them."""
        return {*self.hashes("val"), *self.hashes("test")}

    def blend(
        self,
        synthetic: "SyntheticSet | Path | str | None" = None,
        *,
        ratio: float = 1.0,
        batch: int = 32,
        seed: int = 0,
        split: Split = "train",
    ) -> Any:
        """Return an endless `tf.data.Dataset` of real and synthetic slices, the same for the same seed.

        Each element is (image float32 `[batch, H, W, C]` in [-1, 1], label uint8 `[batch, H, W]`), real slices first.

        Args:
            synthetic: A set that `generate` wrote; None for real slices alone.
            ratio: Synthetic slices for each real one; 0 is real alone, infinity synthetic alone.
            batch: Slices in a batch.
            seed: Of the order.
            split: Whose real slices.

        Raises:
            UserError: If the set does not fit the store, or its generator knows a patient whom the store holds out.

        Example:
            >>> images, labels = next(iter(sm.open_store("store").blend("drawn", batch=8)))
            >>> tuple(labels.shape)
            (8, 32, 32)
        """
        from synthmed.data.blend import blended_dataset

        return blended_dataset(self, synthetic, ratio=ratio, batch=batch, seed=seed, split=split)

    def torch(
        self,
        synthetic: "SyntheticSet | Path | str | None" = None,
        *,
        ratio: float = 1.0,
        batch: int = 32,
        seed: int = 0,
        split: Split = "train",
        as_dict: bool = False,
    ) -> Any:
        """Return the batches of `blend` as a PyTorch `IterableDataset`, for a `DataLoader` with `batch_size=None`.

        Each element is (image float32 `[batch, C, H, W]`, label int64 `[batch, H, W]`); with `as_dict`, as in MONAI,
        {"image": ..., "label": int64 `[batch, 1, H, W]`}.

        Raises:
            UserError: As `blend`, and if PyTorch is not installed.

        Example:
            >>> batches = sm.open_store("store").torch("drawn", batch=8)  # doctest: +SKIP
        """
        from synthmed.data.blend import blended_torch

        return blended_torch(self, synthetic, ratio=ratio, batch=batch, seed=seed, split=split, as_dict=as_dict)

    def templates(self) -> list[Template]:
        """Return geometry and intensity scale of each training case, in their order."""
        return [template_of(case) for case in self.cases("train")]

    def _map(self, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        path = self.path / name
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except PermissionError:
            raise UserError(f"no permission to read {path}: change its permissions, or copy the store") from None
        except (FileNotFoundError, ValueError, EOFError):
            raise UserError(f"{path} is missing or damaged: {_REBUILD}") from None
        except (OSError, MemoryError) as error:
            raise _unmappable(path, error) from None
        if array.shape != shape or array.dtype != dtype:
            raise UserError(f"{self.path / name} is not what the manifest says: {_REBUILD}")
        return array

    def _gather(self, shards: list[np.ndarray], indices: np.ndarray, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        indices = np.asarray(indices, np.int64)
        if indices.size and (indices.min() < 0 or indices.max() >= self._count):
            raise IndexError(f"slice numbers must be in 0..{self._count - 1}")
        gathered: np.ndarray = np.empty((len(indices), *shape), dtype)
        owner = np.searchsorted(self._shard_firsts, indices, side="right") - 1
        for number in np.unique(owner):
            mine = owner == number
            gathered[mine] = shards[number][indices[mine] - self._shard_firsts[number]]
        return gathered


def _unmappable(path: Path, error: Exception) -> UserError:
    """Say why a file of a store is there and cannot be mapped into memory."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return UserError(
            f"{path} ({path.stat().st_size / 2**30:.1f} GiB) does not fit into the address space that this process may "
            "use: raise the limit (`ulimit -v unlimited`, or that of the job or container), or prepare smaller slices"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(
        f"{path} cannot be mapped into memory ({reason}): copy the store to a local disk, and if that does not help "
        f"{_REBUILD}"
    )


def read_manifest(path: Path) -> Manifest:
    """Return what the store in a folder says of itself.

    Raises:
        UserError: If there is no store, or its manifest is damaged or of a later version.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no store: the folder does not exist; make one with `synthmed prepare`")
    if not (path / MANIFEST).is_file():
        raise UserError(f"{path} is no store: it has no {MANIFEST}; make one with `synthmed prepare`")
    try:
        return Manifest.model_validate(read_json(path / MANIFEST))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its top level"
        raise UserError(
            f"{path / MANIFEST} is no manifest of this version ({where}: {first['msg']}): remove the folder "
            "and prepare the set again"
        ) from None


def find_latest_store(folder: Path | str) -> Path | None:
    """Return the labelled store that was written last in `folder` or at most two levels below it, or None."""
    folder = Path(folder)
    newest: tuple[str, Path] | None = None
    for pattern in (MANIFEST, f"*/{MANIFEST}", f"*/*/{MANIFEST}"):
        for path in sorted(folder.glob(pattern)):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            try:
                content = read_json(path)
            except (UserError, OSError):
                continue
            ours = isinstance(content, dict) and content.get("format") == "synthmed-store"
            if ours and content.get("labelled", True):
                newest = max(newest or ("", path.parent), (str(content.get("created", "")), path.parent))
    return newest[1] if newest else None
