"""The models of a server and their versions: what is loaded, in which state, and which one a request means."""

from dataclasses import dataclass
from enum import Enum

from synthmed.errors import UserError
from synthmed.serving.models_config import ModelConfig
from synthmed.serving.servable import Servable
from synthmed.serving.status import Code, ServingError, invalid


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


class ModelManager:
    """Loads the versions that the configuration names and finds them for requests.

    Args:
        configs: The models to serve.
    """

    def __init__(self, configs: list[ModelConfig]):
        self.configs = {config.name: config for config in configs}
        self._servables: dict[str, dict[int, Servable]] = {config.name: {} for config in configs}
        self._failed: dict[str, dict[int, str]] = {config.name: {} for config in configs}

    def load(self) -> None:
        """Load every version that is wanted and not loaded; one that fails ends and does not disturb the others.

        Raises:
            UserError: If nothing could be loaded.
        """
        for name, config in self.configs.items():
            for path in config.chosen():
                version = int(path.name)
                if version in self._servables[name]:
                    continue
                try:
                    self._servables[name][version] = Servable(name, path)
                    self._failed[name].pop(version, None)
                except UserError as error:
                    self._failed[name][version] = str(error)
        if not any(self._servables.values()):
            reasons = [reason for failed in self._failed.values() for reason in failed.values()]
            raise UserError(reasons[0] if reasons else "no version of any model is there to serve")

    def failures(self) -> list[str]:
        """Return why versions could not be loaded, one line each."""
        return [reason for failed in self._failed.values() for reason in failed.values()]

    def servables(self) -> list[Servable]:
        """Return all that is loaded, by name and version."""
        return [versions[number] for _, versions in sorted(self._servables.items()) for number in sorted(versions)]

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
        loaded = self._servables.get(name, {})
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
        loaded = [VersionStatus(number, State.AVAILABLE) for number in self._servables.get(name, {})]
        failed = [VersionStatus(number, State.END, reason) for number, reason in self._failed.get(name, {}).items()]
        found = [one for one in loaded + failed if version in (None, one.version)]
        if not found:
            missing = "any versions" if version is None else f"version {version}"
            raise ServingError(Code.NOT_FOUND, f"Could not find {missing} of model {name}")
        return sorted(found, key=lambda one: -one.version)
