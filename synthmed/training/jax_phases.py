"""The phases of a training step as pure functions of a state, for JAX to differentiate and compile."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras
from keras import ops

from synthmed.training import losses
from synthmed.training.augmentation import adjust
from synthmed.training.drawing import mixed_styles
from synthmed.training.engine import SIGN_DECAY, Engine
from synthmed.training.forward import ForwardPass, Slices
from synthmed.training.step_numbers import MAIN, PATH, PENALTY, StepNumbers

# What a step depends on: lists of arrays by whose they are, and three numbers.
State = dict[str, Any]
Report = dict[str, Any]
NETWORKS = ("generator", "average", "discriminator")
SCALARS = ("path_mean", "probability", "sign_mean")


class MainGradients(NamedTuple):
    """Gradients of both networks' losses with respect to their trainable weights, and what else the phase found."""

    generator: list
    discriminator: list
    mean_w: Any
    report: Report


class Phases:
    """The phases of an engine.

    A state holds for each network its trainable weights under its name and the others under "NAME_rest", and the
    variables of the optimisers under theirs.

    Args:
        engine: Whose networks, optimisers and options they are; its variables say where values belong, no more.
        numbers: The random numbers.
        share: Takes a tensor of the whole batch and says that the devices share it.
        spread: Takes a state and says that every device has all of it.
    """

    def __init__(
        self, engine: Engine, numbers: StepNumbers, share: Callable[[Any], Any], spread: Callable[[State], State]
    ):
        self.networks = engine.networks
        self.options = engine.options
        self.optimizers = {
            "generator": engine.generator_optimizer,
            "discriminator": engine.discriminator_optimizer,
        }
        self.variables: dict[str, list[keras.Variable]] = {}
        for name in NETWORKS:
            network = getattr(engine.networks, name)
            self.variables[name] = network.trainable_variables
            self.variables[f"{name}_rest"] = network.non_trainable_variables
        self.forward = ForwardPass(engine.networks, engine.options)
        self.numbers = numbers
        self.share = share
        self.spread = spread
        self.penalties = ("r1_penalty", "r2_penalty") if self.options.loss == "relativistic" else ("r1_penalty",)

    def main(self, state: State, batch: dict[str, Any], number: Any) -> tuple[State, Report]:
        """Update both networks from one forward pass, the mean of w, and the strength of the augmentation."""
        found = self.main_gradients(state, batch, number)
        mapping, report = self.networks.generator.mapping, found.report
        with self.scope(state) as scope:
            mapping.track_average(found.mean_w)
            rest = [scope.get_current_value(variable) for variable in self.variables["generator_rest"]]
        # Both gradients before either update: they belong to the same weights.
        state = self._updated(state, "generator", found.generator) | {"generator_rest": rest}
        state = self._updated(state, "discriminator", found.discriminator)
        if self.options.augment == "ada":
            sign = SIGN_DECAY * state["sign_mean"] + (1.0 - SIGN_DECAY) * report["sign_real"]
            strength = adjust(
                state["probability"],
                sign,
                target=self.options.augment_target,
                images=self.options.batch,
                kimg=self.options.augment_kimg,
            )
            state |= {"sign_mean": sign, "probability": strength}
            report = report | {"augment_probability": strength, "augment_sign": sign}
        return self.spread(state), report

    def main_gradients(self, state: State, batch: dict[str, Any], number: Any) -> MainGradients:
        """Return the gradients of both losses, from one forward pass."""
        slices = self._slices(batch)
        draw = self.numbers.draw(number, MAIN, self.options.batch)
        chances = [self.numbers.chance(number, MAIN, place) for place in range(3)]

        def charged(generator: list, discriminator: list) -> tuple[tuple[Any, Any], tuple[Any, Report]]:
            with self.scope(state | {"generator": generator, "discriminator": discriminator}):
                verdicts = self.forward.verdicts(draw, slices, state["probability"], chances)
            return (verdicts.generator_loss, verdicts.discriminator_loss), (verdicts.mean_w, verdicts.report)

        _, pull, (mean_w, report) = jax.vjp(charged, state["generator"], state["discriminator"], has_aux=True)
        one, zero = jnp.float32(1.0), jnp.float32(0.0)
        # Of each way back the compiler leaves out what nobody asks for.
        return MainGradients(pull((one, zero))[0], pull((zero, one))[1], mean_w, report)

    def path(self, state: State, batch: dict[str, Any], number: Any) -> tuple[State, Report]:
        """Regularise path lengths."""
        gradients, mean, report = self.path_gradients(state, batch, number)
        return self.spread(self._updated(state, "generator", gradients) | {"path_mean": mean}), report

    def path_gradients(self, state: State, batch: dict[str, Any], number: Any) -> tuple[list, Any, Report]:
        """Return the gradients of the path length penalty, the new running mean, and the report."""
        options, generator = self.options, self.networks.generator
        slices = self._slices({name: value[: options.path_batch] for name, value in batch.items()})
        condition = self.forward.condition(slices)
        draw = self.numbers.draw(number, PATH, options.path_batch)
        planes = generator.image_channels + generator.mask_classes
        shape = (options.path_batch, *generator.size, planes)
        directions = losses.path_weights(self.numbers.directions(number, shape))

        def charged(weights: list) -> tuple[Any, tuple[Any, Report]]:
            with self.scope(state | {"generator": weights}):
                styles, _ = mixed_styles(generator, draw, slices.attributes)

                def projection(styles: Any) -> Any:
                    return ops.sum(generator.synthesis(styles, draw.noise, condition) * directions)

                lengths = losses.path_lengths(jax.grad(projection)(styles))
            mean = state["path_mean"] + options.path_decay * (ops.mean(lengths) - state["path_mean"])
            # The mean is a target: no gradient flows through it.
            penalty = losses.path_penalty(lengths, jax.lax.stop_gradient(mean))
            report = {"path_length": ops.mean(lengths), "path_penalty": penalty}
            return penalty * ((options.path_weight or 0.0) * options.path_every), (mean, report)

        gradients, (mean, report) = jax.grad(charged, has_aux=True)(state["generator"])
        return gradients, mean, report

    def penalty(self, state: State, batch: dict[str, Any], number: Any) -> tuple[State, Report]:
        """Penalise the discriminator's gradients at what it is shown."""
        gradients, report = self.penalty_gradients(state, batch, number)
        return self.spread(self._updated(state, "discriminator", gradients)), report

    def penalty_gradients(self, state: State, batch: dict[str, Any], number: Any) -> tuple[list, Report]:
        """Return the gradients of R1 on real slices; in the relativistic loss with R2 on generated ones, too."""
        options, discriminator = self.options, self.networks.discriminator
        slices = self._slices(batch)
        shown = self._shown(state, slices, number)

        def charged(weights: list) -> tuple[Any, Report]:
            def logits(planes: Any) -> Any:
                return ops.sum(discriminator(planes, slices.attributes))

            with self.scope(state | {"discriminator": weights}):
                penalties = {
                    name: losses.r1_penalty(jax.grad(logits)(planes), options.r1_gamma or 0.0)
                    for name, planes in shown.items()
                }
            return sum(penalties.values()) * float(options.r1_every or 1), penalties

        return jax.grad(charged, has_aux=True)(state["discriminator"])

    def average(self, state: State, decay: Any) -> State:
        """Move the averaged generator towards the generator."""
        pairs = zip(state["average"], state["generator"], strict=True)
        average = [source + decay * (target - source) for target, source in pairs]
        # Copies: two names of one array could not both be given away to the next step.
        rest = [jnp.copy(value) for value in state["generator_rest"]]
        return self.spread(state | {"average": average, "average_rest": rest})

    def scope(self, state: State) -> keras.StatelessScope:
        """Return the scope in which the networks' variables have the values of a state."""
        return keras.StatelessScope(
            state_mapping=[
                pair for name, variables in self.variables.items() for pair in zip(variables, state[name], strict=True)
            ]
        )

    def _shown(self, state: State, slices: Slices, number: Any) -> dict[str, Any]:
        """Return the planes at which the discriminator's gradients are penalised, by the name of the penalty."""
        with self.scope(state):
            planes = [self.forward.real(slices)]
            if len(self.penalties) > 1:
                draw = self.numbers.draw(number, PENALTY, self.options.batch)
                planes.append(self.forward.fake(draw, slices)[0])
            shown = [
                self.forward.shown(one, slices, state["probability"], self.numbers.chance(number, PENALTY, place))
                for place, one in enumerate(planes)
            ]
        return dict(zip(self.penalties, map(jax.lax.stop_gradient, shown), strict=True))

    def _updated(self, state: State, name: str, gradients: list) -> State:
        weights, variables = self.optimizers[name].stateless_apply(state[f"{name}_optimizer"], gradients, state[name])
        return state | {name: weights, f"{name}_optimizer": variables}

    def _slices(self, batch: dict[str, Any]) -> Slices:
        return self.forward.slices({name: self.share(value) for name, value in batch.items()})
