"""What one gateway, or one run of its CLI, reads when it starts: config file and environment.

Rules kept here:

* Secrets stand in config files of mode 0600, not in process arguments or the environment.
* Nothing of the user's own: home, state and temporary files are below the folder that is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

CONFIG: Final = "openclaw.json"
_SHIFT: Final = """\
"use strict";
const {{ syncBuiltinESMExports }} = require("node:module");
const threads = require("node:worker_threads");

const ahead = {milliseconds};
const Real = globalThis.Date;
globalThis.Date = class Date extends Real {{
  constructor(...given) {{ given.length === 0 ? super(Real.now() + ahead) : super(...given); }}
  static now() {{ return Real.now() + ahead; }}
}};

// A worker with arguments of its own reads no NODE_OPTIONS, and must not live in another time.
threads.Worker = class Worker extends threads.Worker {{
  constructor(file, options = {{}}) {{
    super(file, {{ ...options, execArgv: ["--require", __filename, ...(options.execArgv ?? [])] }});
  }}
}};
syncBuiltinESMExports();
"""


def write_config(state: Path, config: Mapping[str, Any]) -> None:
    """Put a config in place of the one in `state`; a reader sees the old one or the new one."""
    for folder in ("home", "tmp"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    written = state / f"{CONFIG}.new"
    written.touch(mode=0o600)
    written.write_text(json.dumps(config, indent=2))
    written.rename(state / CONFIG)


def read_config(state: Path) -> dict[str, Any]:
    """Return the config in `state`; the gateway may have added to what was written."""
    config: dict[str, Any] = json.loads((state / CONFIG).read_text())
    return config


def environment(state: Path, installation: Path, clock_ahead: float = 0.0) -> dict[str, str]:
    """Return a whole environment for ``openclaw``.

    Its wall clock is ``clock_ahead`` seconds ahead, behind where negative; timers are not touched.
    """
    names = {
        "HOME": str(state / "home"),
        "TMPDIR": str(state / "tmp"),
        "PATH": os.defpath,
        "OPENCLAW_STATE_DIR": str(state),
        "OPENCLAW_SKIP_CHANNELS": "1",
        "OPENCLAW_DISABLE_BONJOUR": "1",
        "OPENCLAW_NO_AUTO_UPDATE": "1",
        # Compiled code is kept for the next start and saves seconds. The second name says that
        # this is set up already; without it the launcher would put itself under a parent.
        "NODE_COMPILE_CACHE": str(installation / "compile-cache"),
        "OPENCLAW_PACKAGED_COMPILE_CACHE_RESPAWNED": "1",
    }
    if clock_ahead:
        script = state / "clock-ahead.cjs"
        script.write_text(_SHIFT.format(milliseconds=round(clock_ahead * 1000)))
        names["NODE_OPTIONS"] = f"--require={script}"  # children and workers of Node inherit it
    return names
