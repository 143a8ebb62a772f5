"""wrk: sends the same request from many connections, as fast as it can."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FRESH = "FreshFreshFreshF"
"""Replaced by other 16 hexadecimal digits in the body of each request."""

_SCRIPT = """
local file = io.open({body!r}, "rb")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
{headers}
-- Cut once, because a search in each request would take longer than sending it.
local parts, from, sent = {{}}, 1, 0
local at, last = wrk.body:find("{fresh}", 1, true)
while at do
  parts[#parts + 1] = wrk.body:sub(from, at - 1)
  from = last + 1
  at, last = wrk.body:find("{fresh}", from, true)
end
if #parts > 0 then
  parts[#parts + 1] = wrk.body:sub(from)
  request = function()
    sent = sent + 1
    return wrk.format(nil, nil, nil, table.concat(parts, string.format("{seed:08x}%08x", sent)))
  end
end
function done(summary, latency)
  io.write(string.format(
    '{{"requests": %d, "microseconds": %d, "p99": %d, "refused": %d, "broken": %d}}',
    summary.requests, summary.duration, latency:percentile(99), summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """Result of one run of wrk; ``p99`` is in seconds."""

    rate: float
    p99: float
    refused: int
    broken: int


def post(
    url: str, body: bytes, headers: Mapping[str, str], connections: int, seconds: float
) -> Load:
    """Post a body from ``connections`` connections for ``seconds`` seconds.

    Raises
    ------
    RuntimeError
        If a request failed: a rejection is faster than an answer, so the rate would be wrong.
    """
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "body").write_bytes(body)
        script = Path(name) / "post.lua"
        lines = [f"wrk.headers[{key!r}] = {value!r}" for key, value in headers.items()]
        script.write_text(
            _SCRIPT.format(
                body=f"{name}/body",
                headers="\n".join(lines),
                fresh=FRESH,
                seed=time.monotonic_ns() // 1_000_000 % 2**32,
            )
        )
        threads = "1"  # leaves the rest of two cores to the service and PostgreSQL
        command = ["wrk", "-t", threads, "-c", str(connections), "-d", f"{seconds:.0f}s"]
        done = subprocess.run(
            [*command, "--timeout", "30s", "-s", str(script), url],
            check=True,
            capture_output=True,
            text=True,
        )
    seen = json.loads(done.stdout[done.stdout.rindex("{") :])
    if seen["refused"] or seen["broken"]:
        raise RuntimeError(f"{url}: {seen['refused']} refused, {seen['broken']} broken")
    return Load(
        seen["requests"] / (seen["microseconds"] / 1e6),
        seen["p99"] / 1e6,
        seen["refused"],
        seen["broken"],
    )
