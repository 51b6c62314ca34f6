"""What the dialects' documents show, pasted into a shell with a real curl."""

import subprocess

from tests.gateways import Server


def paste(server: Server, line: str, user: str = "ann", **variables: str) -> tuple[int, str]:
    """Status and body of a command line as a document has it. The header, which none of the old systems knew, and -w
    come from a .curlrc."""
    proxy = server.world.headers[user]["PROXY"]
    (server.folder / ".curlrc").write_text(f'header = "PROXY: {proxy}"\nwrite-out = "\\n%{{http_code}}"\nsilent\n')
    environment = {"HOME": str(server.folder), "PATH": "/usr/local/bin:/usr/bin:/bin", **variables}
    command = ["bash", "-c", line]
    done = subprocess.run(command, env=environment, cwd=server.folder, capture_output=True, text=True, check=True)
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body
