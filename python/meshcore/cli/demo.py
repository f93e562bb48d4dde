"""`meshcore demo`."""

import click
import uvloop


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    envvar="DEMO_SECONDS",
    help="How long it runs; without it Ctrl-C ends it.",
)
def demo(seconds: float | None) -> None:
    """Show a small mesh with services and clients: limits, retries and a breaker at work."""
    from meshcore.demo.live import main  # what draws it is for this command alone

    uvloop.run(main(seconds))
