"""The short form of an audit, which travels with a generator and with what it draws."""

from pydantic import BaseModel, ConfigDict

import synthmed

NOT_AUDITED = "not audited: nobody has compared what it draws with its training slices"


class Verdict(BaseModel):
    """What an audit found, in words and in a few numbers; it names no patient.

    Attributes:
        passed: Whether there is no sign of copies; None where no audit could be made.
        sentence: The verdict with its thresholds, or why there is none.
        samples: How many samples were compared.
        copies: How many of them stand out as copies.
        near: How many are nearer to a training slice than 1 % of real slices of other patients are.
        membership_auc: AUC of the attack that tells training slices by their distance to the samples; None where there
            were no held-out patients to tell them from.
        model_hash: SHA-256 of the weights that drew the samples; "" where not known.
        store_hash: Content hash of the store.
        version: Version of synthmed that made the audit.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    passed: bool | None = None
    sentence: str = NOT_AUDITED
    samples: int = 0
    copies: int = 0
    near: int = 0
    membership_auc: float | None = None
    model_hash: str = ""
    store_hash: str = ""
    version: str = synthmed.__version__
