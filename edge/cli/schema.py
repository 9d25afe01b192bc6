"""`tidegate schema`: the JSON Schema, for editors that validate and complete."""

from __future__ import annotations

import click

EXAMPLE = """\b
Example:
  tidegate schema > configs/tidegate.schema.json
and in the first line of a configuration
  # yaml-language-server: $schema=tidegate.schema.json

Exit code 0: the schema is printed."""


@click.command(epilog=EXAMPLE)
@click.option("--relay", is_flag=True, help="The schema of a relay's configuration, not of a gateway's.")
def command(*, relay: bool) -> None:
    """Print the JSON Schema of configurations, with all installed drivers."""
    import orjson

    from edge.config.schema import gateway_schema, relay_schema
    from edge.driver import installed, load

    schema = relay_schema() if relay else gateway_schema((name, load(name)) for name in installed())
    click.echo(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
