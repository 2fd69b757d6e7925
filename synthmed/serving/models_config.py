"""Which models a server serves: the folders below one folder, or what a models.config file says."""

from dataclasses import dataclass, field
from pathlib import Path

from synthmed.errors import UserError
from synthmed.generation.generator import is_saved_model, versions

LARGEST_VERSION = 2**63 - 1
"""The protocols carry versions as int64."""


@dataclass(frozen=True)
class ModelConfig:
    """One model to serve."""

    name: str
    folder: Path
    """Holds a folder for each version, named by its number."""
    latest: int = 1
    """How many of the newest versions to serve; 0 means all."""
    specific: tuple[int, ...] = ()
    """The versions to serve, where they are named."""
    labels: dict[str, int] = field(default_factory=dict)
    """Versions by label."""

    def chosen(self) -> list[Path]:
        """Return the folders of the versions to serve that exist now, oldest first."""
        found = [path for path in versions(self.folder) if int(path.name) <= LARGEST_VERSION]
        if self.specific:
            return [path for path in found if int(path.name) in self.specific]
        return found[-self.latest :] if self.latest else found


def models_below(folder: Path) -> list[ModelConfig]:
    """Return a configuration of each generator below `folder`.

    Raises:
        UserError: If the folder is missing or holds no model with a version.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: export a run there first (synthmed export RUN)")
    if is_saved_model(folder) or versions(folder):
        raise UserError(f"{folder} is one model; --models takes the folder of models, {folder.resolve().parent}")
    found = [ModelConfig(child.name, child) for child in sorted(folder.iterdir()) if versions(child)]
    if not found:
        raise UserError(f"{folder} holds no exported model (NAME/VERSION): export a run there first")
    return found


def read_models_config(path: Path) -> list[ModelConfig]:
    """Return the models that a TensorFlow Serving `models.config` names.

    Raises:
        UserError: If the file cannot be read, names no model, or a model's folder holds no version.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        text = path.read_text(encoding="utf-8")
        message = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check --model-config-file") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no model_config_list ({error}): mend it") from None
    configs: list[ModelConfig] = []
    for entry in message.model_config_list.config:
        policy = entry.model_version_policy
        kind = policy.WhichOneof("policy_choice")
        latest = 0 if kind == "all" else (policy.latest.num_versions or 1) if kind == "latest" else 1
        folder = Path(entry.base_path.removeprefix("file://"))
        if not entry.name or not versions(folder):
            raise UserError(f"{path}: model {entry.name!r} has no version in {entry.base_path!r}: mend its base_path")
        if any(entry.name == other.name for other in configs):
            raise UserError(f"{path} names model {entry.name!r} twice: give each model one config block")
        specific = tuple(policy.specific.versions) if kind == "specific" else ()
        configs.append(ModelConfig(entry.name, folder, latest, specific, dict(entry.version_labels)))
    if not configs:
        raise UserError(f"{path} names no model: add a config {{ name base_path }} to its model_config_list")
    return configs
