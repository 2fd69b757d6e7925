"""The models of a server and their versions: what is loaded, in which state, and which one a request means."""

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from synthmed.errors import UserError
from synthmed.serving.memory import give_back
from synthmed.serving.models_config import ModelConfig
from synthmed.serving.servable import Servable
from synthmed.serving.status import Code, ServingError, invalid
from synthmed.serving.warmup import warm_up

_Fingerprint = tuple[tuple[str, int, int], ...]


class State(Enum):
    """Where a version is in its life, by TensorFlow Serving's names and numbers."""

    LOADING = 20
    AVAILABLE = 30
    END = 50


@dataclass(frozen=True)
class VersionStatus:
    """State of one version."""

    version: int
    state: State
    error: str = ""


@dataclass
class _Model:
    """What is known of one model. `servables` is replaced, never changed: requests read it without a lock."""

    servables: dict[int, Servable] = field(default_factory=dict)
    failed: dict[int, tuple[str, _Fingerprint]] = field(default_factory=dict)
    ended: frozenset[int] = frozenset()
    loading: int | None = None


class ModelManager:
    """Loads the versions that the configuration names, and finds them for requests.

    A new version is loaded beside the old one, which goes when the new one is there: a request runs on the version that
    it found, to its end. A version that cannot be loaded leaves the old one in its place, and is tried again when its
    files change.

    Args:
        configs: The models to serve.
        source: Returns the configuration anew at each look, so that models and labels may come and go; while it raises
            UserError, the last good one stays.
        notify: Told in one line what changes after the first load.
    """

    def __init__(
        self,
        configs: list[ModelConfig],
        *,
        source: Callable[[], list[ModelConfig]] | None = None,
        notify: Callable[[str], None] = lambda line: None,
    ):
        self.configs = {config.name: config for config in configs}
        self.notify = notify
        self._source = source
        self._models = {config.name: _Model() for config in configs}
        self._refused = ""
        self._end = threading.Event()
        self._watcher: threading.Thread | None = None

    def load(self) -> None:
        """Load every version that is wanted and not loaded; one that fails ends and does not disturb the others.

        Raises:
            UserError: If nothing could be loaded.
        """
        for name in list(self.configs):
            self._update(name, quiet=True)
        if not self.serves_any:
            reasons = self.failures()
            raise UserError(reasons[0] if reasons else "no version of any model is there to serve")

    def watch(self, seconds: float) -> None:
        """Look for new versions every `seconds` from now on, in a thread of its own, until `close`."""

        def look() -> None:
            while not self._end.wait(seconds):
                self.refresh()

        self._watcher = threading.Thread(target=look, name="synthmed-versions", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop looking for new versions."""
        self._end.set()
        if self._watcher is not None:
            # A load that is under way cannot be stopped, and nobody waits for its result.
            self._watcher.join(1)

    def refresh(self) -> None:
        """Look once: load what is new, let go what is no longer wanted."""
        try:
            self._read_source()
            for name in list(self.configs):
                self._update(name)
        except Exception as error:
            # A file system that is away for a moment must not end the looking.
            self._tell_once(f"models cannot be looked for ({error}): the server goes on with those it has")

    def failures(self) -> list[str]:
        """Return why versions could not be loaded, one line each."""
        return [reason for model in self._models.values() for reason, _ in model.failed.values()]

    def servables(self) -> list[Servable]:
        """Return all that is loaded, by name and version."""
        loaded = [(name, model.servables) for name, model in sorted(self._models.items())]
        return [versions[number] for _, versions in loaded for number in sorted(versions)]

    @property
    def serves_any(self) -> bool:
        """Whether any version of any model is loaded."""
        return any(model.servables for model in list(self._models.values()))

    def find(self, name: str, *, version: int | None = None, label: str | None = None) -> Servable:
        """Return what a request means: a version, the version of a label, or the newest.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label.
        """
        config = self.configs.get(name)
        if label is not None:
            if config is None or label not in config.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            version = config.labels[label]
        model = self._models.get(name)
        loaded = model.servables if model is not None else {}
        if version is None and loaded:
            return loaded[max(loaded)]
        if version is not None and version in loaded:
            return loaded[version]
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wanted}")

    def statuses(self, name: str, *, version: int | None = None) -> list[VersionStatus]:
        """Return the state of one version or of all, newest first.

        Raises:
            ServingError: NOT_FOUND for an unknown model or version.
        """
        found = [one for one in self.known(name) if version in (None, one.version)]
        if not found:
            missing = "any versions" if version is None else f"version {version}"
            raise ServingError(Code.NOT_FOUND, f"Could not find {missing} of model {name}")
        return found

    def known(self, name: str) -> list[VersionStatus]:
        """Return the states of all versions of a model, newest first; none for an unknown one."""
        model = self._models.get(name)
        if model is None:
            return []
        states = {number: VersionStatus(number, State.END) for number in model.ended}
        states |= {number: VersionStatus(number, State.END, why) for number, (why, _) in list(model.failed.items())}
        if (loading := model.loading) is not None:
            states[loading] = VersionStatus(loading, State.LOADING)
        states |= {number: VersionStatus(number, State.AVAILABLE) for number in model.servables}
        return [states[number] for number in sorted(states, reverse=True)]

    def _read_source(self) -> None:
        if self._source is None:
            return
        try:
            configs = {config.name: config for config in self._source()}
        except UserError as error:
            self._tell_once(f"the configuration stays as it was: {error}")
            return
        self._refused = ""
        for name in configs.keys() - self._models.keys():
            self._models[name] = _Model()
        gone = self._models.keys() - configs.keys()
        self.configs = configs
        for name in gone:
            del self._models[name]
            self.notify(f"no longer serving {name}")
        if gone:
            _clear()

    def _update(self, name: str, *, quiet: bool = False) -> None:
        model, config = self._models[name], self.configs[name]
        wanted = {int(path.name): path for path in config.chosen()}
        # A failure whose folder is gone need not be told any longer.
        model.failed = {number: why for number, why in model.failed.items() if number in wanted}
        new = [path for number, path in wanted.items() if number not in model.servables]
        tried = [self._load(model, name, path, quiet=quiet) for path in new]
        # The old one stays while there is nothing in its place, be it that the new one is damaged or the folder empty.
        if old := model.servables.keys() - wanted.keys() if model.servables.keys() & wanted.keys() else set():
            model.servables = {number: one for number, one in model.servables.items() if number in wanted}
            model.ended |= old
            for number in sorted(old):
                self.notify(f"no longer serving {name} version {number}")
        if old or any(tried):
            _clear()

    def _load(self, model: _Model, name: str, path: Path, *, quiet: bool) -> bool:
        """Load a version, and return whether that was tried: a damaged one is not before its files change."""
        number, files = int(path.name), _fingerprint(path)
        if model.failed.get(number, ("", None))[1] == files:
            return False
        model.loading = number
        try:
            loaded = Servable(name, path)
            warm_up(loaded)
        except UserError as error:
            model.failed[number] = (str(error), files)
            if not quiet:
                self.notify(f"not served: {error}")
            return True
        finally:
            model.loading = None
        model.servables = {**model.servables, number: loaded}
        model.failed.pop(number, None)
        model.ended -= {number}
        if not quiet:
            self.notify(f"serving {name} version {number}")
        return True

    def _tell_once(self, line: str) -> None:
        if line != self._refused:
            self._refused = line
            self.notify(line)


def _clear() -> None:
    """Return the memory of what was let go, or failed, to the system."""
    # What TensorFlow loads refers to itself; without this its memory would stay until Python happens to look.
    gc.collect()
    give_back()


def _fingerprint(path: Path) -> _Fingerprint:
    """Return names, sizes and times of the files of a version: when they change, it is worth another try."""
    found = []
    for file in sorted(path.rglob("*")):
        try:
            told = file.stat()
        except OSError:
            continue
        found.append((str(file.relative_to(path)), told.st_size, told.st_mtime_ns))
    return tuple(found)
