# Moves files as the Python server's library does: one connection, one SFTP session, the library's own settings.
# Reads lines `put|get|put-tree|get-tree FROM TO`, and answers each with the seconds that it took.
import asyncio, sys, time

import asyncssh


async def main(port, user, key):
    options = dict(port=port, username=user, client_keys=[key], known_hosts=None)
    async with asyncssh.connect("127.0.0.1", **options) as connection:
        async with connection.start_sftp_client() as sftp:
            print("ready", flush=True)
            for line in sys.stdin:
                act, source, target = line.split()
                begun = time.monotonic()
                move = sftp.get if act.startswith("get") else sftp.put
                await move(source, target, recurse=act.endswith("-tree"))
                print(time.monotonic() - begun, flush=True)


asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
