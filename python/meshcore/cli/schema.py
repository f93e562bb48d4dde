"""`meshcore schema`."""

import json

import click

from meshcore.config.schema import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors and checks."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
