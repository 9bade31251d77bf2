"""``plot``: the two Flows as SVG drawings, made from their YAML."""

from __future__ import annotations

from crossmodal.cli.output import print_json
from crossmodal.errors import StoreUnwritable
from crossmodal.settings import Settings

_FOLDER = "flows"


def run(settings: Settings) -> int:
    """Writes ``flow-index.svg`` and ``flow-query.svg`` with the settings' shards and replicas; returns 0.

    Raises StoreUnwritable where the folder or a file in it cannot be written.
    """
    from crossmodal.flow.diagram import draw_flow
    from crossmodal.flow.topology import FLOW_KINDS, flow_file, read_topology

    folder = settings.output or settings.workspace / _FOLDER
    written = {}
    for kind in FLOW_KINDS:
        path = flow_file(kind)
        drawing = folder / path.with_suffix(".svg").name
        topology = read_topology(path, settings.flow_environment())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            drawing.write_text(draw_flow(topology), encoding="utf-8")
        except OSError as error:
            raise StoreUnwritable(
                f"The drawing {drawing} cannot be written ({error.strerror}); choose another folder with "
                "--output."
            ) from None
        written[kind] = str(drawing)
    if settings.json:
        print_json(written)
    else:
        for kind, name in written.items():
            print(f"{kind} Flow: {name}")
    return 0
