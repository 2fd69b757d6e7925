"""`synthmed data`: public data sets, fetched on request."""

from pathlib import Path

import click

from .common import console, emit_json, json_option, progress


@click.group()
def command() -> None:
    """Fetch public data sets. Nothing is fetched unless it is asked for.

    \b
    Example:
      synthmed data get msd-hippocampus
    """


@command.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List the data sets that can be fetched, with their licence and what to cite.

    \b
    Example:
      synthmed data list
    """
    from dataclasses import asdict

    from synthmed.data.download import CATALOGUE

    if as_json:
        emit_json([asdict(offer) for offer in CATALOGUE])
        return
    from rich.table import Table

    table = Table()
    for column in ("name", "images and labels", "about", "licence"):
        table.add_column(column)
    for offer in CATALOGUE:
        table.add_row(offer.name, offer.what, offer.size, offer.licence)
    screen = console()
    screen.print(table)
    for citation in dict.fromkeys(offer.citation for offer in CATALOGUE):
        screen.print(f"cite: {citation}", soft_wrap=True)


@command.command("get")
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make.  [default: TaskNN_NAME, here]")
@click.option("--url", help="Fetch the archive from here instead.")
@click.option("--md5", metavar="HEX", help="MD5 of the archive at --url.  [default: that of the published one]")
def get_command(name: str, out: Path | None, url: str | None, md5: str | None) -> None:
    """Fetch the data set NAME, verify it and unpack it. Stopped, the same command goes on where it was.

    \b
    Example:
      synthmed data get msd-hippocampus --out Task04_Hippocampus
    """
    from synthmed.data.download import find_offer, get_dataset

    offer = find_offer(name)
    console(stderr=True).print(
        f"{offer.name}: {offer.what}, about {offer.size}, licence {offer.licence}; cite: {offer.citation}",
        soft_wrap=True,
    )
    with progress(f"get {offer.name}") as report:
        folder = get_dataset(offer, out, url=url, md5=md5, progress=report)
    console().print(f"written: {folder}; next: synthmed inspect {folder}", soft_wrap=True)
