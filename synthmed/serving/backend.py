"""What both protocols of a server share."""

from dataclasses import dataclass, field

from synthmed.serving.access import Access
from synthmed.serving.accesslog import AccessLog
from synthmed.serving.limits import Gate, Limits
from synthmed.serving.manager import ModelManager
from synthmed.serving.memory import limit_arenas
from synthmed.serving.metrics import Metrics


@dataclass
class Backend:
    """The models, the gate that requests pass, who may pass it, and what is counted."""

    manager: ModelManager
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    access_log: AccessLog | None = None
    stopping: bool = False
    """Whether the server was told to end: what was accepted is answered, and connections are closed after that."""
    gate: Gate = field(init=False)
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        limit_arenas()
        self.gate = Gate(self.limits)
        self.metrics = Metrics(self.manager, self.gate)

    @property
    def healthy(self) -> bool:
        """Whether requests should be sent here: something is served, and the server is not about to end."""
        return not self.stopping and self.manager.serves_any
