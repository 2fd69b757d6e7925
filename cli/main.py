"""The `synthmed` command: a group that imports a command's module only when that command runs."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from synthmed import __version__
from synthmed.display import one_line
from synthmed.errors import UserError

from .signals import Signals

# name: (module of this package, help line). Written out here because reading a help line from a module would import
# that module, and `synthmed --help` has to answer at once.
COMMANDS = {
    "demo": ("demo", "The whole story on an embedded phantom; ends with a report."),
    "phantom": ("phantom", "Draw a deterministic multi-channel phantom set."),
    "data": ("data", "List and fetch public data sets."),
    "inspect": ("inspect", "Fingerprint a data set and say what is wrong with it."),
    "prepare": ("prepare", "Turn a data set into a store of prepared slices."),
    "train": ("train", "Train a generator: base, mask or cond."),
    "generate": ("generate", "Draw labelled cases from a generator."),
    "segment": ("segment", "Train, apply and score a segmentation U-Net."),
    "evaluate": ("evaluate", "Compare a synthetic set with real slices."),
    "study": ("study", "Run the paper's experiment, or anyone's, and report it."),
    "export": ("export", "Export a run as a SavedModel for serving."),
    "serve": ("serve", "Serve exported generators on this machine."),
    "query": ("query", "Ask a server for labelled cases."),
    "doctor": ("doctor", "Versions, devices, number formats, what is missing."),
}

USER_ERROR = 2


class LazyGroup(click.Group):
    """A group whose commands are known by name and are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        if not ctx.find_root().params.get("debug"):
            from synthmed.quiet import quieten_tensorflow

            quieten_tensorflow()
        command: click.Command = import_module(f".{COMMANDS[name][0]}", __package__).command
        command.name = name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}.{_nearest(args[0])}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="synthmed")
@click.option("--debug", is_flag=True, help="Show the traceback of an error; may stand anywhere on the line.")
def app(debug: bool) -> None:
    """Synthetic images for small, labelled medical image sets.

    Trains generators of images and masks, blends their slices with real ones for a U-Net, and measures whether that
    helped. For research, not for diagnosis.

    Start with `synthmed demo`, or in an empty folder with:

    \b
      synthmed train --variant cond
      synthmed generate --n 100
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process.

    The code is 0, or 2 with one line that says what is wrong, or 128 and the number of the signal that ended it: 130
    after Ctrl-C, 143 after SIGTERM.
    """
    debug, given = _debug_first(list(sys.argv[1:] if arguments is None else arguments))
    code, failure = None, None
    with Signals() as signals:
        try:
            signals.begin()
            code = app.main(given, prog_name="synthmed", standalone_mode=False)
        except BaseException as error:
            failure = error
    if failure is not None:
        code = _code_of(failure, signals, debug=debug)
    sys.exit(code if isinstance(code, int) else 0)


def _code_of(error: BaseException, signals: Signals, *, debug: bool) -> int:
    """Return the exit code after an error, and print the line that says what is wrong."""
    if signals.number is not None:
        # What is interrupted may fail in any way; what was stopped in order says how to go on.
        said = str(error) if isinstance(error, UserError) else signals.word
        return _fail(said, error, debug=debug, code=signals.code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USER_ERROR
    if isinstance(error, BrokenPipeError):
        # Whoever read our output (`| head`) has seen enough; Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return _fail(signals.word, error, debug=debug, code=signals.code)
    if isinstance(error, Exception):
        return _fail(_message(error), error, debug=debug)
    raise error


def _debug_first(arguments: list[str]) -> tuple[bool, list[str]]:
    """Return whether `--debug` was asked for, and the arguments with it in front: people add it at the end."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    debug = len(kept) < end
    return debug, ["--debug"] * debug + kept + arguments[end:]


def _message(error: Exception) -> str:
    """Return one line: what is wrong, where, and how to mend it."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, click.UsageError):
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return error.format_message().rstrip(".") + where
    if isinstance(error, click.ClickException):
        return error.format_message()
    from .failures import explain

    return explain(error)


def _fail(message: str, error: BaseException, *, debug: bool, code: int = USER_ERROR) -> int:
    if debug:
        import traceback

        traceback.print_exception(error)
    click.echo("synthmed: error: " + one_line(" ".join(message.split())), err=True)
    return code


def _nearest(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


if __name__ == "__main__":
    main()
