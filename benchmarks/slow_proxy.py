"""A proxy that adds a delay to each HTTP request, as a distant bucket does.

    python benchmarks/slow_proxy.py LISTEN_PORT SERVER_HOST:PORT MILLISECONDS

It looks at no content: bytes from the client that follow bytes from the server begin a new request.
"""

import asyncio
import sys


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, turn: list[str], name: str, delay: float
) -> None:
    try:
        while data := await reader.read(2**20):
            if delay and turn[0] != name:
                await asyncio.sleep(delay)
            turn[0] = name
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def serve(port: int, server: str, seconds: float) -> asyncio.Server:
    """Listen on loopback and pass everything on to `server` (host:port)."""
    host, _, server_port = server.partition(":")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(server_port))
        turn = ["server"]
        await asyncio.gather(
            _forward(reader, back, turn, "client", seconds), _forward(there, writer, turn, "server", 0.0)
        )

    return await asyncio.start_server(connected, "127.0.0.1", port)


async def _main() -> None:
    port, server, milliseconds = sys.argv[1:]
    listening = await serve(int(port), server, float(milliseconds) / 1000)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
