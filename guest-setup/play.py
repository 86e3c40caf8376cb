"""Plays a short session in the demo guest, as an MCP client would: looks, clicks, types, runs commands, moves files.

Called by demo.sh, with the VM_* variables in the environment; needs the package `mcp` 2.x. Stops at the first step that
fails, with exit status 1.
"""

import argparse
import asyncio
import base64
import os
import sys
import time
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, ImageContent, TextContent

# A point in the terminal window, which the demo guest opens at the same place on each start.
TERMINAL = {"x": 500, "y": 400}
# Quotes, a dollar, an ampersand: what is typed is what arrives, whatever a shell on the way would make of it.
LINE = """echo "Hello from the host: it's $((6*7)) & 'quoted'" > ~/hello.txt; cat ~/hello.txt\n"""

# The server's settings; the client library hands on few variables by itself.
PASSED_ON = ("VM_", "VIRTPILOT_", "LIBVIRT_", "XDG_", "RUST_")


class StepFailed(Exception):
    """A tool answered with an error; the text is the tool's own."""


class Session:
    """Calls tools one by one and tells of each in one line."""

    def __init__(self, client: Client, pictures: Path) -> None:
        self.client = client
        self.pictures = pictures
        self.pictures_taken = 0

    async def do(self, what: str, tool: str, **arguments: object) -> str:
        """Calls a tool, saves the pictures in its answer, and returns the answer's text."""
        started = time.monotonic()
        result = await self.client.call_tool(tool, arguments)
        seconds = time.monotonic() - started
        text = text_of(result)
        if result.is_error:
            tell("✗", seconds, what)
            raise StepFailed(f"{tool}: {text}")
        tell("✓", seconds, what)
        for picture in pictures_in(result):
            print(f"             {self.save(picture)}")
        return text

    def save(self, picture: ImageContent) -> Path:
        self.pictures_taken += 1
        path = self.pictures / f"{self.pictures_taken}.{picture.mime_type.rpartition('/')[2]}"
        path.write_bytes(base64.b64decode(picture.data))
        return path


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def pictures_in(result: CallToolResult) -> list[ImageContent]:
    return [part for part in result.content if isinstance(part, ImageContent)]


def tell(mark: str, seconds: float, what: str) -> None:
    print(f"  {mark} {seconds:6.2f} s  {what}", flush=True)


def show(text: str) -> None:
    for line in text.splitlines():
        print(f"             {line}")


async def play(session: Session) -> None:
    pictures = session.pictures
    await session.do("start a project", "project_init", name="demo", description="The demo's session")
    await session.do("look at the screen", "take_screenshot")
    await session.do("click into the terminal window", "click", **TERMINAL)
    await session.do("type a line, quotes and all", "type_text", text=LINE)
    await session.do("wait a second", "wait", seconds=1)
    await session.do("look again", "take_screenshot")
    show(await session.do("run a command over SSH, as another user", "ssh_execute", command="uname -a; id"))
    await exchange_file(session, pictures)
    await session.do(
        "do four things in one call, with a picture at the end",
        "run_actions",
        actions=[
            {"action": "press_keys", "keys": ["ctrl", "l"]},
            {"action": "type_text", "text": "ls -l ~; date\n"},
            {"action": "wait", "seconds": 1},
            {"action": "move_mouse", "x": 1100, "y": 650},
        ],
        screenshot="end",
    )
    show(await session.do("ask what the project holds", "project_info"))


async def exchange_file(session: Session, folder: Path) -> None:
    sent = folder / "sent.txt"
    received = folder / "received.txt"
    sent.write_text("To the guest and back.\n")
    received.unlink(missing_ok=True)
    await session.do("upload a file", "ssh_upload", local_path=str(sent), remote_path="/tmp/virtpilot-demo.txt")
    await session.do("get it back", "ssh_download", remote_path="/tmp/virtpilot-demo.txt", local_path=str(received))
    if sent.read_bytes() != received.read_bytes():
        raise StepFailed(f"what came back differs from what was sent: compare {sent} and {received}")
    for file in (sent, received):
        file.unlink()


async def run(server: str, pictures: Path) -> int:
    pictures.mkdir(parents=True, exist_ok=True)
    parameters = StdioServerParameters(
        command=server,
        env={name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        # The demo's project is no project of the user's.
        | {"VIRTPILOT_DATA_DIR": str(pictures / "data")},
        # Transfers may touch the folder that the server was started in.
        cwd=pictures,
    )
    started = time.monotonic()
    async with Client(parameters, read_timeout_seconds=120) as client:
        tools = (await client.list_tools()).tools
        version = client.server_info.version if client.server_info else "of unknown version"
        tell("✓", time.monotonic() - started, f"connect to virtpilot {version}: {len(tools)} tools")
        # Caught in here: past the client, the failure would come wrapped in a group of its background tasks.
        try:
            await play(Session(client, pictures))
        except StepFailed as failure:
            print(f"play.py: {failure}", file=sys.stderr)
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="the virtpilot program")
    parser.add_argument("--pictures", required=True, type=Path, help="the folder that the pictures go to")
    arguments = parser.parse_args()
    # Marks print on terminals that know no Unicode, too.
    sys.stdout.reconfigure(errors="replace")
    return asyncio.run(run(os.path.abspath(arguments.server), arguments.pictures.absolute()))


if __name__ == "__main__":
    sys.exit(main())
