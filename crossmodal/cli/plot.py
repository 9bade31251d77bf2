"""``plot``: the two Flows as Mermaid flowcharts, made from their YAML."""

from __future__ import annotations

from crossmodal.cli.output import print_json
from crossmodal.errors import StoreUnwritable
from crossmodal.settings import Settings


def run(settings: Settings) -> int:
    """Writes ``flow-index.mmd`` and ``flow-query.mmd`` with the settings' shards and replicas; returns 0.

    Raises StoreUnwritable where the folder or a file in it cannot be written.
    """
    from crossmodal.flow.topology import FLOW_KINDS, draw_flow, flow_file, read_topology

    folder = settings.output or settings.workspace / "flows"
    written = {}
    for kind in FLOW_KINDS:
        path = flow_file(kind)
        diagram = folder / path.with_suffix(".mmd").name
        topology = read_topology(path, settings.flow_environment())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            diagram.write_text(draw_flow(topology), encoding="utf-8")
        except OSError as error:
            raise StoreUnwritable(
                f"The diagram {diagram} cannot be written ({error.strerror}); choose another folder with "
                "--output."
            ) from None
        written[kind] = str(diagram)
    if settings.json:
        print_json(written)
    else:
        for kind, name in written.items():
            print(f"{kind} Flow: {name}")
    return 0
