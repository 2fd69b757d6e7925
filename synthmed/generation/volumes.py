"""Generated patients: one latent code and one set of noise maps, the position swept along the axis."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthmed.errors import UserError, present
from synthmed.generation.drawing import Drawn
from synthmed.generation.required import Requirement, retry_seeds
from synthmed.generation.sampler import Sampler, Told

if TYPE_CHECKING:
    from synthmed.generation.info import BundleInfo

MOST_VOLUMES = 33
"""How often a patient is drawn before it is given up."""


def check_volumes(info: "BundleInfo", *, fmt: str) -> None:
    """Refuse what cannot be drawn as volumes.

    Raises:
        UserError: If the generator was not told positions, does not know how many slices a case has, or the format
            holds pictures.
    """
    if fmt == "png":
        raise UserError("--unit volume has no --format png, which holds pictures: use nnunet or npz")
    if "position" not in info.told:
        raise UserError(
            f"{info.name} does not know where a slice lies: --unit volume needs one trained with position=true"
        )
    if any(template.slices is None for template in info.templates):
        raise UserError(f"{info.name} does not say how many slices its cases had: --unit volume needs it trained again")


@dataclass
class VolumeDrawing:
    """Draws a patient a case, slice by slice.

    All slices share the random numbers of the patient's seed, and differ in what the generator is told: where they
    lie and, for a generator that is told it, what they show.

    Attributes:
        sampler: Where slices come from.
        psi: Truncation.
        required: Classes that a volume must show somewhere; None for any.
    """

    sampler: Sampler
    psi: float
    required: Requirement | None = None

    def __post_init__(self):
        if self.required is not None:
            self.required.rows(self.sampler.info)

    def draw(self, first: int, seeds: np.ndarray, wanted: slice) -> list[Drawn]:
        """Return the wanted cases of a block; see `Drawing.draw`.

        Raises:
            UserError: If a case does not show what is required after `MOST_VOLUMES` tries.
        """
        return [self._case(int(seed)) for seed in seeds[wanted]]

    def _case(self, seed: int) -> Drawn:
        drawn = self._volume(seed)
        if self.required is None:
            return drawn
        for tries, own in enumerate([seed, *retry_seeds(seed, 1, MOST_VOLUMES).tolist()], start=1):
            drawn = drawn if tries == 1 else self._volume(own)
            if self.required.met(drawn.label):
                names = list(self.required.names)
                record = drawn.record | {"required_classes": names, "draw_seed": own, "tries": tries}
                return Drawn(drawn.image, drawn.label, drawn.template, record)
        raise self.required.given_up(self.sampler.info)

    def _volume(self, seed: int) -> Drawn:
        template = _template_number(seed, self.sampler.info)
        slices = present(self.sampler.info.templates[template].slices, "check_volumes refuses templates without")
        told = told_along(seed, slices, self.sampler.info, () if self.required is None else self.required.classes)
        samples = self.sampler.sample(np.full(slices, seed, np.int64), self.psi, None, told)
        return Drawn(samples.images, samples.labels, template, {"mask_source": "generated", "slices": slices})


def told_along(seed: int, slices: int, info: "BundleInfo", required: tuple[int, ...] = ()) -> Told:
    """Return what the generator is told of the slices of one patient.

    Positions are those that training told of a case with as many slices. A patient has one uniform number for each
    class, and its slices show the class where that number is below the share of training slices that do at their
    position: each class then comes and goes as a whole, and at each position as often as in training.

    Args:
        seed: The patient's.
        slices: How many there are.
        info: The generator.
        required: Classes whose numbers are scaled so that the patient shows them where most training patients do.
    """
    from synthmed.layers.counter_random import uniform
    from synthmed.models.generators import PRESENCE_STREAM

    position = (np.arange(slices, dtype=np.float32) + 0.5) / slices
    shown = np.zeros((slices, len(info.classes) - 1), np.float32)
    if "shown" in info.told and info.attributes is not None:
        shares = info.attributes.shares(position, len(info.classes))
        seeds = np.array([seed], np.int64)
        number = np.array(uniform(seeds, stream=PRESENCE_STREAM, count=len(info.classes) - 1))[0]
        for index in required:
            number[index - 1] *= shares[:, index - 1].max()
        shown = (number < shares).astype(np.float32)
    return {"position": position, "shown": shown}


def _template_number(seed: int, info: "BundleInfo") -> int:
    from synthmed.models.generators import TEMPLATE_STREAM, item_number

    seeds = np.array([seed], np.int64)
    return int(np.asarray(item_number(seeds, stream=TEMPLATE_STREAM, below=len(info.templates)))[0])
