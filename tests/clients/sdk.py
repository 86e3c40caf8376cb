"""Lists and calls tools through the Python MCP SDK, in one generation of the protocol.

The SDK itself checks structured content against the tools' output schemas. Prints one JSON object of what it saw; the
Rust test that runs this judges it.
"""

import asyncio
import base64
import json
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.types import ImageContent


async def session(mode: str, server: str) -> dict:
    parameters = StdioServerParameters(command=server, env=dict(os.environ))
    async with Client(parameters, mode=mode, read_timeout_seconds=60) as client:
        tools = (await client.list_tools()).tools
        templates = (await client.list_resource_templates()).resource_templates
        prompts = (await client.list_prompts()).prompts
        habits = await client.get_prompt(prompts[0].name)
        picture = await client.call_tool("take_screenshot", {})
        image = next(part for part in picture.content if isinstance(part, ImageContent))
        shell = await client.call_tool("ssh_execute", {"command": "echo out; echo err >&2; exit 3"})
        moved = await client.call_tool("move_mouse", {"x": 640, "y": 400})
        refused = await client.call_tool("move_mouse", {"x": 100000, "y": 0})
        resources = (await client.list_resources()).resources
        kept = next(resource for resource in resources if str(resource.uri).startswith("vm://screenshot/"))
        read = await client.read_resource(str(kept.uri))
        return {
            "protocol": client.protocol_version,
            "tools": [tool.name for tool in tools],
            "templates": [template.uri_template for template in templates],
            "prompt": habits.messages[0].content.text,
            "picture": {"mime": image.mime_type, "data": image.data},
            "picture_is_structured": picture.structured_content is not None,
            "shell": shell.structured_content,
            "moved": not moved.is_error,
            "refused": refused.is_error,
            "same_bytes": base64.b64decode(read.contents[0].blob) == base64.b64decode(image.data),
        }


def main() -> None:
    mode, server = sys.argv[1:]
    print(json.dumps(asyncio.run(session(mode, server))))


if __name__ == "__main__":
    main()
