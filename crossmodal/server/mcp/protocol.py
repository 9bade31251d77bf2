"""The tools as the official SDK serves them, whatever the transport."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from crossmodal import __version__
from crossmodal.errors import CrossmodalError, MissingExtra
from crossmodal.extras import how_to_install, require_package
from crossmodal.http_shapes.values import shown
from crossmodal.server.mcp.calls import Answer, Library, call
from crossmodal.server.mcp.tools import INSTRUCTIONS, Tool, tools

__all__ = ["open_protocol", "require_sdk"]

_logger = logging.getLogger(__name__)


def require_sdk(what: str) -> None:
    """Raises MissingExtra, which says that ``what`` needs the SDK, where it can't be imported.

    It needs a newer pydantic and uvicorn than jina has, so there is no environment with both.
    """
    apart = f"{how_to_install('mcp')} in an environment without the extra jina, which needs an older pydantic"
    if find_spec("mcp") is None:
        if find_spec("jina") is None:
            require_package("mcp", what)
        raise MissingExtra(f"{what} needs the MCP SDK: {apart}.")
    try:
        import_module("mcp.server.lowlevel")
    except ImportError as error:
        raise MissingExtra(f"{what} cannot use the MCP SDK that is installed ({error}): {apart}.") from None


def open_protocol(
    library: Library,
    *,
    is_hidden: Callable[[Any], bool] = lambda request: False,
    shown_error: Callable[[str], str] = str,
) -> Any:
    """A ``Server`` of the SDK whose tools ask ``library``.

    ``is_hidden`` says of the HTTP request that a call came in (None: it came in none) whether its sender may
    not see where photos were taken, and ``shown_error`` makes the sentence of an error fit for strangers.
    """
    from mcp import MCPError
    from mcp.server.lowlevel import Server
    from mcp_types import INVALID_PARAMS, CallToolResult, ListToolsResult, TextContent

    listed = [_described(tool) for tool in tools().values()]

    async def list_tools(context: Any, parameters: Any) -> Any:
        return ListToolsResult(tools=listed)

    async def call_tool(context: Any, parameters: Any) -> Any:
        tool = tools().get(parameters.name)
        if tool is None:
            known = ", ".join(tools())
            raise MCPError(INVALID_PARAMS, f"There is no tool {shown(parameters.name)}; there are {known}.")
        try:
            return _result(await call(tool, parameters.arguments, library, hidden=is_hidden(context.request)))
        except CrossmodalError as error:
            sentence = shown_error(str(error))
        except Exception as error:
            # The last line before the agent, who must get an answer.
            _logger.exception("the tool %s failed:", tool.name)
            sentence = f"The server failed on this call ({type(error).__name__})."
        return CallToolResult(content=[TextContent(text=sentence)], is_error=True)

    return Server(
        "crossmodal",
        version=__version__,
        title="Cross-modal search",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _described(tool: Tool) -> Any:
    from mcp_types import Tool as ToolOfProtocol
    from mcp_types import ToolAnnotations

    return ToolOfProtocol(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema(),
        output_schema=dict(tool.answer),
        annotations=ToolAnnotations(
            read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
        ),
    )


def _result(answer: Answer) -> Any:
    from mcp_types import CallToolResult, ImageContent, TextContent

    # As text too, for clients that read no structured content. Names of files may hold what is no text.
    text = json.dumps(answer.value, ensure_ascii=False).encode("utf-8", "replace").decode()
    content = [TextContent(text=text)]
    if answer.picture is not None:
        content.append(ImageContent(data=base64.b64encode(answer.picture).decode(), mime_type="image/jpeg"))
    return CallToolResult(content=content, structured_content=json.loads(text))
