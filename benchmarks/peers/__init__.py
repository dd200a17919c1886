"""This tool and its peers against one server of known timing: `make benchmarks`; `python -m benchmarks.peers --help`.

| file | knows |
|---|---|
| `tool.py` | what every tool is asked for, and what it reported |
| `latency_profile.py` and four others | one tool each: its command line and its result file |
| `process.py` | running a command with its CPU time, memory and start-up watched |
| `truth.py` | what the server's log says about the same requests |
| `rows.py` | one run as a row; the Markdown tables |
| `install.sh` | the environments, `.venvs/peers/` |
"""
