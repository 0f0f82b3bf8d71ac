"""The few rules that all packages share; imports nothing of ours."""

import sys

# Every package imports this one first: nothing has failed yet for want of fcntl or resource.
if sys.platform == "win32":
    raise SystemExit(
        "winnow runs on Linux and macOS; on Windows install and run it in WSL: "
        "https://learn.microsoft.com/windows/wsl/install"
    )
