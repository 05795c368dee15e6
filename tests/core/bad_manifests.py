# ruff: noqa: E501  the lines are what an author reads
"""Manifests that are refused, each with everything that is said of it, word for word."""

from __future__ import annotations

GOOD = """\
[plugin]
key = "acme.weather"
version = "1.2.0"
api_version = 1
display_name = "Weather"
description = "Forecasts for a city"
author = "Acme"
categories = ["connector"]
capabilities = ["jobs.schedule", "methods.register", "state.read"]

[worker]
command = ["python", "-m", "weather"]

[[jobs]]
key = "refresh"
display_name = "Refresh"
schedule = "*/5 * * * *"

[[methods]]
name = "forecast"
params_schema = { type = "object" }

[config_schema]
type = "object"
"""
KEY = 'key = "acme.weather"'
VERSION = 'version = "1.2.0"'
API_VERSION = "api_version = 1"
DISPLAY_NAME = 'display_name = "Weather"'
DESCRIPTION = 'description = "Forecasts for a city"'
AUTHOR = 'author = "Acme"'
CATEGORIES = 'categories = ["connector"]'
CAPABILITIES = 'capabilities = ["jobs.schedule", "methods.register", "state.read"]'
COMMAND = 'command = ["python", "-m", "weather"]'
SCHEDULE = 'schedule = "*/5 * * * *"'
JOB_KEY = 'key = "refresh"'
METHOD_NAME = 'name = "forecast"'
PARAMS_SCHEMA = 'params_schema = { type = "object" }'
CONFIG_SCHEMA = '[config_schema]\ntype = "object"\n'
JOB = f'[[jobs]]\n{JOB_KEY}\ndisplay_name = "Refresh"\n{SCHEDULE}\n'
METHOD = f"[[methods]]\n{METHOD_NAME}\n{PARAMS_SCHEMA}\n"
UNKNOWN = "unknown key; known here: api_version, author, capabilities, categories, description, display_name, key, min_supervisor_version, requires, version"


def edited(*changes: tuple[str, str]) -> str:
    """The good one, with each of these texts, which it holds once, replaced."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


BAD: list[tuple[str, str | bytes, list[str]]] = [
    # the text itself
    ("empty file", "", ["plugin: the table [plugin] is required", "worker: the table [worker] is required"]),
    (
        "only comments",
        "# nothing here\n",
        ["plugin: the table [plugin] is required", "worker: the table [worker] is required"],
    ),
    (
        "no toml",
        "key: acme.weather\n",
        ["line 1: is not TOML: Expected '=' after a key in a key/value pair (column 4)"],
    ),
    (
        "unclosed string",
        edited((VERSION, 'version = "1.2.0')),
        ["line 3: is not TOML: Illegal character '\\n' (column 17)"],
    ),
    (
        "key given twice",
        edited((VERSION, VERSION + "\n" + VERSION.replace("1.2.0", "2.0"))),
        ["line 4: is not TOML: Cannot overwrite a value (column 16)"],
    ),
    (
        "table begun twice",
        edited(("[config_schema]", '[worker]\ncommand = ["x"]\n[config_schema]')),
        [
            "line 23: is not TOML: Cannot declare ('worker',) twice (column 8); a table is begun once, and each table of a list with two brackets, as [[jobs]]"
        ],
    ),
    (
        "list of tables begun as a table and again",
        edited(("[[jobs]]", '[jobs]\nkey = "other"\n\n[jobs]')),
        [
            "line 17: is not TOML: Cannot declare ('jobs',) twice (column 6); a table is begun once, and each table of a list with two brackets, as [[jobs]]"
        ],
    ),
    (
        "unclosed list",
        edited((CATEGORIES, 'categories = ["connector"')),
        ["line 9: is not TOML: Unclosed array (column 1)"],
    ),
    ("no value", edited((API_VERSION, "api_version =")), ["line 4: is not TOML: Invalid value (column 14)"]),
    ("byte order mark", "\ufeff" + GOOD, ["line 1: begins with a byte order mark; save it without one"]),
    (
        "not utf-8",
        GOOD.replace('Acme"', 'Ac\xe9"').encode("latin-1"),
        ["line 7: is not UTF-8 (byte 138); save it as UTF-8"],
    ),
    (
        "too deep",
        edited(('type = "object"\n', 'type = "object"\nx = ' + "[" * 70 + "]" * 70 + "\n")),
        ["line 25: is nested more than 64 deep"],
    ),
    (
        "endless dotted key",
        edited((API_VERSION, API_VERSION + "\n" + "a." * 5000 + "a = 1")),
        ["line 5: is nested more than 64 deep"],
    ),
    (
        "number of thousands of digits",
        edited((API_VERSION, "api_version = " + "9" * 5000)),
        ["holds a number of too many digits, or is nested too deeply"],
    ),
    ("no plugin table", GOOD[GOOD.index("[worker]") :], ["plugin: the table [plugin] is required"]),
    ("no worker table", GOOD.replace("[worker]\n" + COMMAND + "\n", ""), ["worker: the table [worker] is required"]),
    (
        "plugin is a number",
        "plugin = 3\n" + GOOD[GOOD.index("[worker]") :],
        ["line 1: plugin: must be a table (found: 3)"],
    ),
    (
        "empty plugin table",
        "[plugin]\n" + GOOD[GOOD.index("[worker]") :],
        [
            'line 1: plugin.key: is required; such as key = "acme.weather"',
            'line 1: plugin.version: is required; such as version = "1.0.0"',
            "line 1: plugin.api_version: is required; such as api_version = 1",
            'line 1: plugin.display_name: is required; such as display_name = "Weather"',
            'line 1: plugin.description: is required; such as description = "What it does."',
            'line 1: plugin.author: is required; such as author = "Acme"',
            'line 1: plugin.categories: is required; such as categories = ["automation"]',
            "line 5: jobs: needs the capability 'jobs.schedule'; add it to plugin.capabilities",
            "line 10: methods: needs the capability 'methods.register'; add it to plugin.capabilities",
        ],
    ),
    (
        "empty worker table",
        edited((COMMAND + "\n", "")),
        ['line 11: worker.command: is required; such as command = ["python", "main.py"]'],
    ),
    (
        "misspelt table",
        edited(("[config_schema]", "[config_shema]")),
        ["line 23: config_shema: unknown key; did you mean 'config_schema'?"],
    ),
    (
        "jobs as one table",
        edited(("[[jobs]]", "[jobs]")),
        [
            "line 14: jobs: must be a list of tables: [[jobs]] (found: {'key': 'refresh', 'display_name': 'Refresh', 'schedule': '*/5 * * * *'}); [[jobs]] begins each of them, with two brackets"
        ],
    ),
    (
        "jobs is a list of strings",
        edited((JOB, ""), ("[plugin]", 'jobs = ["refresh"]\n[plugin]')),
        ["line 1: jobs: must be a list of tables: [[jobs]] (found: ['refresh'])"],
    ),
    (
        "config_schema is a string",
        edited((CONFIG_SCHEMA, ""), ("[plugin]", 'config_schema = "object"\n[plugin]')),
        ["line 1: config_schema: must be a table: a JSON Schema (found: 'object')"],
    ),
    # plugin
    ("no key", edited((KEY + "\n", "")), ['line 1: plugin.key: is required; such as key = "acme.weather"']),
    (
        "key with capitals",
        edited((KEY, 'key = "Acme.Weather"')),
        [
            "line 2: plugin.key: must be 1 to 100 of a-z, 0-9, '.', '_', '-' and start with a letter or digit (found: 'Acme.Weather')"
        ],
    ),
    (
        "key that climbs",
        edited((KEY, 'key = "acme..weather"')),
        ["line 2: plugin.key: must not contain '..' (found: 'acme..weather')"],
    ),
    (
        "key is a number",
        edited((KEY, "key = 7")),
        ["line 2: plugin.key: must be a string of 1 to 100 characters (found: 7); write it in quotes"],
    ),
    (
        "key is empty",
        edited((KEY, 'key = ""')),
        ["line 2: plugin.key: must be a string of 1 to 100 characters (found: '')"],
    ),
    (
        "key with a line end",
        edited((KEY, 'key = "acme\\nweather"')),
        [
            "line 2: plugin.key: must be 1 to 100 of a-z, 0-9, '.', '_', '-' and start with a letter or digit (found: 'acme\\nweather')"
        ],
    ),
    (
        "key too long",
        edited((KEY, 'key = "' + "a" * 101 + '"')),
        [
            "line 2: plugin.key: must be a string of 1 to 100 characters (found: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...); it has 101"
        ],
    ),
    (
        "version is a number",
        edited((VERSION, "version = 1.2")),
        ["line 3: plugin.version: must be a string of 1 to 100 characters (found: 1.2); write it in quotes"],
    ),
    (
        "version is no version",
        edited((VERSION, 'version = "latest"')),
        ["line 3: plugin.version: is no version (PEP 440) (found: 'latest'); such as '1.2.0' or '2.0rc1'"],
    ),
    (
        "version is a date",
        edited((VERSION, "version = 2026-01-31")),
        ["line 3: plugin.version: must be a string of 1 to 100 characters (found: 2026-01-31); write it in quotes"],
    ),
    (
        "api_version of tomorrow",
        edited((API_VERSION, "api_version = 2")),
        [
            "line 4: plugin.api_version: this plugind speaks version 1 only (found: 2); upgrade plugind to one that speaks 2, or write the plugin for 1"
        ],
    ),
    (
        "api_version of never",
        edited((API_VERSION, "api_version = 0")),
        ["line 4: plugin.api_version: must be a whole number from 1 to 1000000 (found: 0)"],
    ),
    (
        "api_version in quotes",
        edited((API_VERSION, 'api_version = "1"')),
        ["line 4: plugin.api_version: must be a whole number from 1 to 1000000 (found: '1'); write it without quotes"],
    ),
    (
        "api_version too large",
        edited((API_VERSION, "api_version = 0x" + "f" * 4000)),
        [
            "line 4: plugin.api_version: must be a whole number from 1 to 1000000 (found: a value that is too large to show)"
        ],
    ),
    (
        "plugind too old",
        edited((API_VERSION, API_VERSION + '\nmin_supervisor_version = "99.1"')),
        [
            "line 5: plugin.min_supervisor_version: this plugind is 0.1.0, which is older (found: '99.1'); upgrade plugind first"
        ],
    ),
    (
        "min_supervisor_version is no version",
        edited((API_VERSION, API_VERSION + '\nmin_supervisor_version = "new"')),
        ["line 5: plugin.min_supervisor_version: is no version (PEP 440) (found: 'new'); such as '1.2.0' or '2.0rc1'"],
    ),
    (
        "display_name with an escape sequence",
        edited((DISPLAY_NAME, 'display_name = "\\u001b[31mWeather"')),
        [
            "line 5: plugin.display_name: must be one line of printable characters (found: '\\x1b[31mWeather'); take out line ends and control characters"
        ],
    ),
    (
        "display_name of blanks",
        edited((DISPLAY_NAME, 'display_name = "  "')),
        ["line 5: plugin.display_name: must not be blank (found: '  ')"],
    ),
    (
        "display_name of two lines",
        edited((DISPLAY_NAME, 'display_name = "Wea\\nther"')),
        [
            "line 5: plugin.display_name: must be one line of printable characters (found: 'Wea\\nther'); take out line ends and control characters"
        ],
    ),
    (
        "display_name that turns the line around",
        edited((DISPLAY_NAME, 'display_name = "\\u202eWeather"')),
        [
            "line 5: plugin.display_name: must be one line of printable characters (found: '\\u202eWeather'); take out line ends and control characters"
        ],
    ),
    (
        "description too long",
        edited((DESCRIPTION, 'description = "' + "x" * 501 + '"')),
        [
            "line 6: plugin.description: must be a string of 1 to 500 characters (found: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...); it has 501"
        ],
    ),
    (
        "description with a bell",
        edited((DESCRIPTION, 'description = "ding\\u0007"')),
        ["line 6: plugin.description: must be printable characters (found: 'ding\\x07'); take out control characters"],
    ),
    (
        "author is a list",
        edited((AUTHOR, 'author = ["Acme"]')),
        ["line 7: plugin.author: must be a string of 1 to 200 characters (found: ['Acme'])"],
    ),
    (
        "no categories",
        edited((CATEGORIES, "categories = []")),
        [
            'line 8: plugin.categories: must be a list of strings with at least one entry (found: []); such as categories = ["automation"]'
        ],
    ),
    (
        "categories as a string",
        edited((CATEGORIES, 'categories = "connector"')),
        [
            "line 8: plugin.categories: must be a list of strings with at least one entry (found: 'connector'); write a list: [\"connector\"]"
        ],
    ),
    (
        "misspelt category",
        edited((CATEGORIES, 'categories = ["conector"]')),
        [
            "line 8: plugin.categories[0]: must be one of connector, workspace, automation, ui (found: 'conector'); did you mean 'connector'?"
        ],
    ),
    (
        "unknown category",
        edited((CATEGORIES, 'categories = ["games"]')),
        ["line 8: plugin.categories[0]: must be one of connector, workspace, automation, ui (found: 'games')"],
    ),
    (
        "category twice",
        edited((CATEGORIES, 'categories = ["ui", "connector", "ui"]')),
        ["line 8: plugin.categories[2]: is there twice: it is categories[0] too (found: 'ui'); take one out"],
    ),
    (
        "misspelt key of plugin",
        edited((DISPLAY_NAME, 'dispaly_name = "Weather"')),
        ["line 5: plugin.dispaly_name: unknown key; did you mean 'display_name'?"],
    ),
    (
        "unknown key of plugin",
        edited((API_VERSION, API_VERSION + '\nhomepage = "https://example.com"')),
        [
            "line 5: plugin.homepage: unknown key; known here: api_version, author, capabilities, categories, description, display_name, key, min_supervisor_version, requires, version"
        ],
    ),
    (
        "keys that are no words",
        edited((API_VERSION, API_VERSION + '\n"a b" = 1\n"c\\nd" = 2')),
        [
            'line 5: plugin."a b": unknown key; known here: api_version, author, capabilities, categories, description, display_name, key, min_supervisor_version, requires, version',
            'line 6: plugin."c\\nd": unknown key; known here: api_version, author, capabilities, categories, description, display_name, key, min_supervisor_version, requires, version',
        ],
    ),
    (
        "many unknown keys",
        edited((API_VERSION, API_VERSION + "\n" + "\n".join(f"zz{i} = 1" for i in range(25)))),
        [*(f"line {5 + i}: plugin.zz{i}: {UNKNOWN}" for i in range(20)), "line 1: plugin: 5 more unknown keys"],
    ),
    (
        "requires itself",
        edited((API_VERSION, API_VERSION + '\nrequires = ["acme.geo", "acme.weather"]')),
        ["line 5: plugin.requires[1]: a plugin cannot require itself (found: 'acme.weather'); take it out"],
    ),
    (
        "requires no key",
        edited((API_VERSION, API_VERSION + '\nrequires = ["Acme"]')),
        [
            "line 5: plugin.requires[0]: must be 1 to 100 of a-z, 0-9, '.', '_', '-' and start with a letter or digit (found: 'Acme')"
        ],
    ),
    # capabilities
    (
        "misspelt capability",
        edited((CAPABILITIES, CAPABILITIES.replace("jobs.schedule", "job.schedule"))),
        ["line 9: plugin.capabilities[0]: is no capability (found: 'job.schedule'); did you mean 'jobs.schedule'?"],
    ),
    (
        "unknown capability",
        edited((CAPABILITIES, CAPABILITIES.replace("state.read", "root"))),
        [
            "line 9: plugin.capabilities[2]: is no capability (found: 'root'); known are config.read, events.emit, events.subscribe, filesystem.read:<path>, filesystem.write:<path>, jobs.schedule, methods.register, metrics.write, network.listen, network.outbound, plugins.call, plugins.read, secrets.read, state.read, state.write"
        ],
    ),
    (
        "capability twice",
        edited((CAPABILITIES, CAPABILITIES.replace("state.read", "jobs.schedule"))),
        [
            "line 9: plugin.capabilities[2]: is there twice: it is capabilities[0] too (found: 'jobs.schedule'); take one out"
        ],
    ),
    (
        "jobs without their capability",
        edited((CAPABILITIES, 'capabilities = ["methods.register"]')),
        ["line 14: jobs: needs the capability 'jobs.schedule'; add it to plugin.capabilities"],
    ),
    (
        "methods without their capability",
        edited((CAPABILITIES, 'capabilities = ["jobs.schedule"]')),
        ["line 19: methods: needs the capability 'methods.register'; add it to plugin.capabilities"],
    ),
    (
        "secret without its capability",
        edited(
            (
                CONFIG_SCHEMA,
                '[config_schema]\ntype = "object"\nproperties.token = { type = "string", writeOnly = true }\n',
            )
        ),
        [
            "line 25: config_schema.properties.token: is writeOnly, which the plugin cannot read without the capability 'secrets.read'; add it to plugin.capabilities"
        ],
    ),
    (
        "paths of capabilities",
        edited(
            (
                CAPABILITIES,
                'capabilities = ["jobs.schedule", "methods.register", "filesystem.read", "filesystem.read:etc", "filesystem.write:/srv/../etc", "filesystem.write:/srv/", "filesystem.read:/a//b", "filesystem.read:/a\\u0000", "filesytem.read:/a", "network.outbound:443", "filesystem.read:/\\n"]',
            )
        ),
        [
            "line 9: plugin.capabilities[2]: filesystem.read needs an absolute path (found: 'filesystem.read'); write 'filesystem.read:/some/where'",
            "line 9: plugin.capabilities[3]: filesystem.read needs an absolute path (found: 'filesystem.read:etc'); write 'filesystem.read:/some/where'",
            "line 9: plugin.capabilities[4]: must name a path without '.', '..', '//' and a '/' at its end (found: 'filesystem.write:/srv/../etc')",
            "line 9: plugin.capabilities[5]: must name a path without '.', '..', '//' and a '/' at its end (found: 'filesystem.write:/srv/'); write 'filesystem.write:/srv'",
            "line 9: plugin.capabilities[6]: must name a path without '.', '..', '//' and a '/' at its end (found: 'filesystem.read:/a//b'); write 'filesystem.read:/a/b'",
            "line 9: plugin.capabilities[7]: must be a string of 1 to 4200 characters without NUL (found: 'filesystem.read:/a\\x00')",
            "line 9: plugin.capabilities[8]: is no capability (found: 'filesytem.read:/a'); did you mean 'filesystem.read:/a'?",
            "line 9: plugin.capabilities[9]: is no capability (found: 'network.outbound:443'); did you mean 'network.outbound'?",
            "line 9: plugin.capabilities[10]: must name a path of printable characters, shorter than 4096 (found: 'filesystem.read:/\\n')",
        ],
    ),
    (
        "too many capabilities",
        edited(
            (
                CAPABILITIES,
                'capabilities = ["jobs.schedule", "methods.register", '
                + ", ".join(f'"filesystem.read:/{i}"' for i in range(255))
                + "]",
            )
        ),
        ["line 9: plugin.capabilities: has 257 entries; 256 is the most there may be"],
    ),
    # worker
    (
        "command as a string",
        edited((COMMAND, 'command = "python -m weather"')),
        [
            'line 12: worker.command: must be a list of strings with at least one entry (found: \'python -m weather\'); write a list: ["python", "-m", "weather"]'
        ],
    ),
    (
        "empty command",
        edited((COMMAND, "command = []")),
        [
            'line 12: worker.command: must be a list of strings with at least one entry (found: []); such as command = ["python", "main.py"]'
        ],
    ),
    (
        "command with an empty word and a number",
        edited((COMMAND, 'command = ["", 1]')),
        [
            "line 12: worker.command[0]: must be a string of 1 to 4096 characters without NUL (found: '')",
            "line 12: worker.command[1]: must be a string of 1 to 4096 characters without NUL (found: 1); write it in quotes",
        ],
    ),
    (
        "command names a file that is not there",
        edited((COMMAND, 'command = ["python", "wheather.py"]')),
        ["line 12: worker.command[1]: is not in the package (found: 'wheather.py')"],
    ),
    (
        "unknown transport",
        edited((COMMAND, COMMAND + '\ntransport = "http"')),
        ["line 13: worker.transport: must be 'rpc' or 'none' (found: 'http')"],
    ),
    (
        "misspelt policy of upgrades",
        edited((COMMAND, COMMAND + '\nupgrade = "stop-first"')),
        [
            "line 13: worker.upgrade: must be 'overlap' or 'stop_first' (found: 'stop-first'); did you mean 'stop_first'?"
        ],
    ),
    (
        "no number of seconds",
        edited((COMMAND, COMMAND + '\nstart_timeout_s = nan\nstop_timeout_s = "10"')),
        [
            "line 13: worker.start_timeout_s: must be a number from 0.1 to 3600 (found: nan)",
            "line 14: worker.stop_timeout_s: must be a number from 0 to 3600 (found: '10'); write it without quotes",
        ],
    ),
    (
        "infinite timeout",
        edited((COMMAND, COMMAND + "\nstop_timeout_s = inf")),
        ["line 13: worker.stop_timeout_s: must be a number from 0 to 3600 (found: inf)"],
    ),
    (
        "misspelt signal",
        edited((COMMAND, COMMAND + '\nstop_signal = "sigint"')),
        [
            "line 13: worker.stop_signal: must be 'SIGTERM' or 'SIGINT' or 'SIGQUIT' or 'SIGHUP' or 'SIGUSR1' or 'SIGUSR2' or 'SIGWINCH' (found: 'sigint'); did you mean 'SIGINT'?"
        ],
    ),
    (
        "signal that cannot be caught",
        edited((COMMAND, COMMAND + '\nstop_signal = "SIGKILL"')),
        [
            "line 13: worker.stop_signal: must be 'SIGTERM' or 'SIGINT' or 'SIGQUIT' or 'SIGHUP' or 'SIGUSR1' or 'SIGUSR2' or 'SIGWINCH' (found: 'SIGKILL'); did you mean 'SIGINT'?"
        ],
    ),
    (
        "plain features beside rpc",
        edited(
            (
                COMMAND,
                COMMAND + '\nstop_command = ["stop"]\nready = { notify = true }\n[worker.restart]\npolicy = "never"',
            )
        ),
        [
            'line 14: worker.ready: is for workers without RPC; set worker.transport = "none", or take it out',
            'line 13: worker.stop_command: is for workers without RPC; set worker.transport = "none", or take it out',
            'line 16: worker.restart.policy: is for workers without RPC; set worker.transport = "none", or take it out',
        ],
    ),
    (
        "jobs and methods of a plain program",
        edited((COMMAND, COMMAND + '\ntransport = "none"')),
        [
            'line 20: methods: need a worker that speaks RPC; set worker.transport = "rpc"',
            'line 15: jobs[0].command: is required: a worker that does not speak RPC runs no jobs; add command = ["…"]',
        ],
    ),
    (
        "variables",
        edited((COMMAND, COMMAND + '\n[worker.env]\n"A B" = "x"\nPLUGIND_HOME = "/"\nN = 1\nZ = "a\\u0000b"')),
        [
            "line 14: worker.env.\"A B\": is no name for an environment variable; write letters, digits and '_', first no digit",
            "line 15: worker.env.PLUGIND_HOME: variables of this name are set by the daemon; choose one that does not begin with PLUGIND_",
            "line 16: worker.env.N: must be a string of at most 32768 characters without NUL (found: 1); write it in quotes",
            "line 17: worker.env.Z: must be a string of at most 32768 characters without NUL (found: 'a\\x00b')",
        ],
    ),
    (
        "too many variables",
        edited((COMMAND, COMMAND + "\n[worker.env]\n" + "\n".join(f'V{i} = "x"' for i in range(257)))),
        ["line 13: worker.env: has 257 entries; 256 is the most there may be"],
    ),
    (
        "limits",
        edited((COMMAND, COMMAND + "\n[worker.limits]\nmemory_mb = 0\nnofile = 1.5\npids = true\nmemroy_mb = 5")),
        [
            "line 14: worker.limits.memory_mb: must be a whole number from 1 to 16777216 (found: 0)",
            "line 16: worker.limits.pids: must be a whole number from 1 to 4194304 (found: true)",
            "line 15: worker.limits.nofile: must be a whole number from 16 to 1048576 (found: 1.5)",
            "line 17: worker.limits.memroy_mb: unknown key; did you mean 'memory_mb'?",
        ],
    ),
    (
        "backoff that shrinks",
        edited((COMMAND, COMMAND + "\n[worker.restart]\nbackoff_s = 60\nmax_backoff_s = 1")),
        ["line 15: worker.restart.max_backoff_s: must not be below backoff_s (60) (found: 1.0)"],
    ),
    (
        "misspelt restart policy",
        edited(
            (COMMAND, COMMAND + '\ntransport = "none"\n[worker.restart]\npolicy = "on-failure"'),
            (JOB + "\n" + METHOD, ""),
        ),
        [
            "line 15: worker.restart.policy: must be 'always' or 'on_failure' or 'never' (found: 'on-failure'); did you mean 'on_failure'?"
        ],
    ),
    (
        "two probes",
        edited(
            (COMMAND, COMMAND + '\ntransport = "none"\nready = { tcp = 80, line = "up" }'), (JOB + "\n" + METHOD, "")
        ),
        ["line 14: worker.ready: needs exactly one of tcp, unix, command, line, notify; given: tcp, line"],
    ),
    # jobs
    (
        "thirty-first of february",
        edited((SCHEDULE, 'schedule = "0 0 31 2 *"')),
        [
            "line 17: jobs[0].schedule: day of month: '31' never comes, the longest of the chosen months has 29 days (found: '0 0 31 2 *'); change day or month"
        ],
    ),
    (
        "minute out of range",
        edited((SCHEDULE, 'schedule = "61 * * * *"')),
        ["line 17: jobs[0].schedule: minute: '61' is out of range 0-59 (found: '61 * * * *')"],
    ),
    (
        "four fields",
        edited((SCHEDULE, 'schedule = "* * * *"')),
        [
            "line 17: jobs[0].schedule: 4 fields where 5 are expected (found: '* * * *'); the order is minute hour day-of-month month day-of-week"
        ],
    ),
    (
        "six fields",
        edited((SCHEDULE, 'schedule = "0 0 12 * * *"')),
        [
            "line 17: jobs[0].schedule: 6 fields where 5 are expected (found: '0 0 12 * * *'); set seconds = true if the first one is the second"
        ],
    ),
    (
        "range that runs backwards",
        edited((SCHEDULE, 'schedule = "0 22-6 * * *"')),
        ["line 17: jobs[0].schedule: hour: '22-6' runs backwards (found: '0 22-6 * * *'); write '22-23,0-6'"],
    ),
    (
        "unknown name of a schedule",
        edited((SCHEDULE, 'schedule = "@fortnightly"')),
        [
            "line 17: jobs[0].schedule: '@fortnightly' is not a known name (found: '@fortnightly'); use one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, @reboot, or every = \"90s\" for a plain interval"
        ],
    ),
    (
        "schedule of fantasy",
        edited((SCHEDULE, 'schedule = "every day at noon"')),
        [
            "line 17: jobs[0].schedule: 4 fields where 5 are expected (found: 'every day at noon'); the order is minute hour day-of-month month day-of-week"
        ],
    ),
    (
        "interval without a unit",
        edited((SCHEDULE, 'every = "90"')),
        [
            "line 17: jobs[0].every: '90' is not an interval (found: '90'); write whole numbers with units, as 90s, 1h30m or 2d"
        ],
    ),
    (
        "schedule and interval, both wrong, in no zone",
        edited((SCHEDULE, 'schedule = "99 * * * *"\nevery = "soon"\ntimezone = "Mars/Olympus"')),
        [
            "line 18: jobs[0].every: cannot stand beside schedule (found: 'soon'); keep one of them",
            "line 19: jobs[0].timezone: 'Mars/Olympus' is not an IANA time zone (found: 'Mars/Olympus'); write one such as 'Europe/Berlin' or 'UTC'",
            "line 17: jobs[0].schedule: minute: '99' is out of range 0-59 (found: '99 * * * *')",
            "line 18: jobs[0].every: 'soon' is not an interval (found: 'soon'); write whole numbers with units, as 90s, 1h30m or 2d",
        ],
    ),
    (
        "zone of a job run by hand",
        edited((SCHEDULE, 'timezone = "Europe/Berlim"')),
        [
            "line 17: jobs[0].timezone: 'Europe/Berlim' is not an IANA time zone (found: 'Europe/Berlim'); write one such as 'Europe/Berlin' or 'UTC'"
        ],
    ),
    (
        "unknown overlap",
        edited((SCHEDULE, SCHEDULE + '\noverlap = "Skip"\ncatch_up = "every"')),
        [
            "line 18: jobs[0].overlap: must be 'skip' or 'queue_one' or 'cancel_previous' or 'allow' (found: 'Skip'); did you mean 'skip'?",
            "line 19: jobs[0].catch_up: must be 'latest' or 'skip' or 'all' (found: 'every')",
        ],
    ),
    (
        "schedule is an offset date and time",
        edited((SCHEDULE, "schedule = 2026-01-31T12:00:00Z")),
        [
            "line 17: jobs[0].schedule: must be a string of 1 to 256 characters (found: 2026-01-31 12:00:00+00:00); write it in quotes"
        ],
    ),
    (
        "numbers of a job that are too small",
        edited(
            (
                SCHEDULE,
                "max_running = 0\nmisfire_grace_s = -1\nstart_within_s = -1\njitter_s = -1\ntimeout_s = 0\nretries = -1\nretry_backoff_s = 0",
            )
        ),
        [
            "line 17: jobs[0].max_running: must be a whole number from 1 to 64 (found: 0)",
            "line 18: jobs[0].misfire_grace_s: must be a number from 0 to 31622400 (found: -1)",
            "line 19: jobs[0].start_within_s: must be a number from 0 to 86400 (found: -1)",
            "line 20: jobs[0].jitter_s: must be a number from 0 to 86400 (found: -1)",
            "line 21: jobs[0].timeout_s: must be a number from 0.1 to 31622400 (found: 0)",
            "line 22: jobs[0].retries: must be a whole number from 0 to 100 (found: -1)",
            "line 23: jobs[0].retry_backoff_s: must be a number from 0.1 to 86400 (found: 0)",
        ],
    ),
    (
        "three schedules of a job",
        edited((SCHEDULE, SCHEDULE + '\nevery = "90s"\nat = "2027-01-01T00:00+01:00"')),
        [
            "line 18: jobs[0].every: cannot stand beside schedule (found: '90s'); keep one of them",
            "line 19: jobs[0].at: cannot stand beside schedule (found: '2027-01-01T00:00+01:00'); keep one of them",
        ],
    ),
    (
        "max_running without allow",
        edited((SCHEDULE, SCHEDULE + '\noverlap = "queue_one"\nmax_running = 3')),
        ['line 19: jobs[0].max_running: means nothing with overlap = "queue_one" (found: 3); set overlap = "allow"'],
    ),
    (
        "a command that has a worker restarted",
        edited((SCHEDULE, SCHEDULE + '\ncommand = ["true"]\non_timeout = "restart"')),
        [
            "line 19: jobs[0].on_timeout: a command has no worker to restart: it is killed itself (found: 'restart'); take it out"
        ],
    ),
    (
        "a job's command that is not in the package",
        edited((SCHEDULE, SCHEDULE + '\ncommand = ["./tidy", "x.sh"]')),
        [
            "line 18: jobs[0].command[0]: is not in the package (found: './tidy')",
            "line 18: jobs[0].command[1]: is not in the package (found: 'x.sh')",
        ],
    ),
    (
        "a job's command in one string",
        edited((SCHEDULE, SCHEDULE + '\ncommand = "sh tidy.sh"')),
        [
            'line 18: jobs[0].command: must be a list of strings (found: \'sh tidy.sh\'); write a list: ["sh", "tidy.sh"]'
        ],
    ),
    (
        "a plain program's job with a command in one string",
        edited(
            (COMMAND, COMMAND + '\ntransport = "none"'),
            (SCHEDULE, SCHEDULE + '\ncommand = "sh tidy.sh"'),
            (METHOD, ""),
        ),
        [
            'line 19: jobs[0].command: must be a list of strings (found: \'sh tidy.sh\'); write a list: ["sh", "tidy.sh"]'
        ],
    ),
    (
        "misspelt choices of a job",
        edited((SCHEDULE, SCHEDULE + '\noverlap = "queue_on"\non_timeout = "retsart"\ncach_up = "all"')),
        [
            "line 18: jobs[0].overlap: must be 'skip' or 'queue_one' or 'cancel_previous' or 'allow' (found: 'queue_on'); did you mean 'queue_one'?",
            "line 19: jobs[0].on_timeout: must be 'cancel' or 'restart' (found: 'retsart'); did you mean 'restart'?",
            "line 20: jobs[0].cach_up: unknown key; did you mean 'catch_up'?",
        ],
    ),
    (
        "jobs of one key",
        edited(
            (
                SCHEDULE,
                SCHEDULE
                + "\n[[jobs]]\n"
                + JOB_KEY
                + '\ndisplay_name = "Again"\n[[jobs]]\n'
                + JOB_KEY
                + '\ndisplay_name = "And again"',
            )
        ),
        [
            "line 19: jobs[1].key: is the key of jobs[0] too: it must be unique (found: 'refresh'); give one of them another key",
            "line 22: jobs[2].key: is the key of jobs[0] too: it must be unique (found: 'refresh'); give one of them another key",
        ],
    ),
    (
        "job without anything",
        edited((SCHEDULE, SCHEDULE + "\n[[jobs]]")),
        [
            'line 18: jobs[1].key: is required; such as key = "refresh"',
            'line 18: jobs[1].display_name: is required; such as display_name = "Refresh"',
        ],
    ),
    (
        "misspelt key of a job",
        edited((SCHEDULE, 'shedule = "*/5 * * * *"')),
        ["line 17: jobs[0].shedule: unknown key; did you mean 'schedule'?"],
    ),
    (
        "bad key of a job",
        edited((JOB_KEY, 'key = "Refresh!"')),
        [
            "line 15: jobs[0].key: must be 1 to 100 of a-z, 0-9, '.', '_', '-', first a letter or digit (found: 'Refresh!'); such as 'refresh'"
        ],
    ),
    (
        "too many jobs",
        edited(
            (
                SCHEDULE,
                SCHEDULE + "\n" + "\n".join(f'[[jobs]]\nkey = "j{i}"\ndisplay_name = "J"' for i in range(10000)),
            )
        ),
        ["line 14: jobs: has 10001 entries; 1000 is the most there may be"],
    ),
    # methods and schemas
    (
        "methods of one name",
        edited((PARAMS_SCHEMA, PARAMS_SCHEMA + "\n[[methods]]\n" + METHOD_NAME)),
        [
            "line 23: methods[1].name: is the name of methods[0] too: it must be unique (found: 'forecast'); give one of them another name"
        ],
    ),
    (
        "bad name of a method",
        edited((METHOD_NAME, 'name = "fore cast"')),
        [
            "line 20: methods[0].name: must be 1 to 100 letters, digits, '.', '_', '-', first no '.' or '-' (found: 'fore cast'); such as 'forecast'"
        ],
    ),
    (
        "unknown type in a schema",
        edited((PARAMS_SCHEMA, 'params_schema = { type = "objct" }')),
        [
            "line 21: methods[0].params_schema.type: is no JSON Schema (draft 2020-12): must be one of array, boolean, integer, null, number, object, string; did you mean 'object'?"
        ],
    ),
    (
        "faults in a schema",
        edited(
            (
                CONFIG_SCHEMA,
                '[config_schema]\ntype = "object"\nrequired = "city"\n[config_schema.properties.city]\ntype = "strng"\nminLength = -1\npattern = "("\n[config_schema.properties.days]\nmaximum = "ten"\n',
            )
        ),
        [
            "line 28: config_schema.properties.city.minLength: is no JSON Schema (draft 2020-12): does not fit 'minimum': 0",
            "line 29: config_schema.properties.city.pattern: is no JSON Schema (draft 2020-12): must be a valid regex: '(': missing ) at position 1",
            "line 27: config_schema.properties.city.type: is no JSON Schema (draft 2020-12): must be one of array, boolean, integer, null, number, object, string; did you mean 'string'?",
            "line 31: config_schema.properties.days.maximum: is no JSON Schema (draft 2020-12): must be number",
            "line 25: config_schema.required: is no JSON Schema (draft 2020-12): must be array",
        ],
    ),
    (
        "schema of another draft",
        edited((CONFIG_SCHEMA, '[config_schema]\n"$schema" = "http://json-schema.org/draft-07/schema#"\n')),
        [
            "line 24: config_schema.\"$schema\": is no JSON Schema (draft 2020-12): names another draft: 'http://json-schema.org/draft-07/schema#'; write it for 'https://json-schema.org/draft/2020-12/schema', or leave $schema out"
        ],
    ),
    (
        "references of a schema",
        edited(
            (
                CONFIG_SCHEMA,
                '[config_schema]\nproperties.a."$ref" = "https://example.com/a.json"\nproperties.b."$ref" = "#/$defs/nothing"\n',
            )
        ),
        [
            "line 24: config_schema.properties.a.\"$ref\": is no JSON Schema (draft 2020-12): 'https://example.com/a.json': only references inside the schema are followed; write it as '#/$defs/…'",
            "line 25: config_schema.properties.b.\"$ref\": is no JSON Schema (draft 2020-12): '#/$defs/nothing' leads nowhere",
        ],
    ),
    (
        "schema that refers to itself",
        edited((CONFIG_SCHEMA, '[config_schema]\n"$ref" = "#"\n')),
        [
            "line 23: config_schema: is no JSON Schema (draft 2020-12): refers to itself without end, or over more than 32 schemas"
        ],
    ),
    (
        "schema that explodes",
        edited(
            (
                CONFIG_SCHEMA,
                '[config_schema]\n"$ref" = "#/$defs/a0"\n'
                + "\n".join(
                    f'[config_schema."$defs".a{i}]\nallOf = [{{ "$ref" = "#/$defs/a{i + 1}" }}, {{ "$ref" = "#/$defs/a{i + 1}" }}]'
                    for i in range(14)
                )
                + '\n[config_schema."$defs".a14]\ntype = "object"\n',
            )
        ),
        [
            "line 23: config_schema: is no JSON Schema (draft 2020-12): takes 507889 schemas to check one value; 1000 is the most there may be"
        ],
    ),
    (
        "schema that is no json",
        edited(
            (CONFIG_SCHEMA, "[config_schema]\ndefault = 2026-01-31\nmaximum = inf\nminimum = 99999999999999999999\n")
        ),
        [
            "line 24: config_schema.default: is no JSON Schema (draft 2020-12): a date is no JSON value; write it as a string",
            "line 25: config_schema.maximum: is no JSON Schema (draft 2020-12): inf is no JSON number",
            "line 26: config_schema.minimum: is no JSON Schema (draft 2020-12): is a number of more than 64 bits",
        ],
    ),
    (
        "schema with an id inside",
        edited((CONFIG_SCHEMA, '[config_schema]\nproperties.a."$id" = "https://example.com/a"\n')),
        [
            "line 24: config_schema.properties.a.\"$id\": is no JSON Schema (draft 2020-12): is for the whole schema only; name the part in $defs and refer to it as '#/$defs/…'"
        ],
    ),
    (
        "schema that is too large",
        edited(
            (
                CONFIG_SCHEMA,
                "[config_schema.properties]\n" + "\n".join(f'p{i}.type = "string"' for i in range(2000)) + "\n",
            )
        ),
        [
            "line 23: config_schema: is no JSON Schema (draft 2020-12): with it, the schemas have more than 2000 tables and lists together; make them simpler"
        ],
    ),
    (
        "schema that is too deep",
        edited((CONFIG_SCHEMA, "[config_schema]\n" + "not." * 40 + 'type = "string"\n')),
        [
            "line 24: config_schema.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not.not: is no JSON Schema (draft 2020-12): is nested more than 32 deep"
        ],
    ),
    # many
    (
        "everything at once",
        '[plugin]\nkey = "Acme Weather"\nversion = 1\napi_version = 3\ndisplay_nam = "Weather"\ndescription = ""\nauthor = "A\\tB"\ncategories = ["connector", "Ui"]\ncapabilities = ["events.emitt"]\n\n[worker]\ncomand = ["python"]\ntransport = "none"\nstop_signal = "TERM"\n[worker.health]\ninterval = 5\n\n[[jobs]]\nkey = "a"\ndisplay_name = "A"\nschedule = "0 0 30 2 *"\ntimeout_s = "60"\n[[jobs]]\nkey = "a"\ndisplay_name = "A"\n[[methods]]\nname = "x"\nparams_schema = { type = 5 }\n',
        [
            "line 2: plugin.key: must be 1 to 100 of a-z, 0-9, '.', '_', '-' and start with a letter or digit (found: 'Acme Weather')",
            "line 3: plugin.version: must be a string of 1 to 100 characters (found: 1); write it in quotes",
            "line 4: plugin.api_version: this plugind speaks version 1 only (found: 3); upgrade plugind to one that speaks 3, or write the plugin for 1",
            "line 6: plugin.description: must be a string of 1 to 500 characters (found: '')",
            "line 7: plugin.author: must be one line of printable characters (found: 'A\\tB'); take out line ends and control characters",
            "line 8: plugin.categories[1]: must be one of connector, workspace, automation, ui (found: 'Ui'); did you mean 'ui'?",
            "line 9: plugin.capabilities[0]: is no capability (found: 'events.emitt'); did you mean 'events.emit'?",
            "line 5: plugin.display_nam: unknown key; did you mean 'display_name'?",
            "line 14: worker.stop_signal: must be 'SIGTERM' or 'SIGINT' or 'SIGQUIT' or 'SIGHUP' or 'SIGUSR1' or 'SIGUSR2' or 'SIGWINCH' (found: 'TERM'); did you mean 'SIGTERM'?",
            "line 16: worker.health.interval: unknown key; did you mean 'interval_s'?",
            "line 12: worker.comand: unknown key; did you mean 'command'?",
            "line 22: jobs[0].timeout_s: must be a number from 0.1 to 31622400 (found: '60'); write it without quotes",
            "line 28: methods[0].params_schema.type: is no JSON Schema (draft 2020-12): must be one of array, boolean, integer, null, number, object, string",
            "line 24: jobs[1].key: is the key of jobs[0] too: it must be unique (found: 'a'); give one of them another key",
            "line 18: jobs: needs the capability 'jobs.schedule'; add it to plugin.capabilities",
            "line 26: methods: needs the capability 'methods.register'; add it to plugin.capabilities",
            'line 26: methods: need a worker that speaks RPC; set worker.transport = "rpc"',
            "line 21: jobs[0].schedule: day of month: '30' never comes, the longest of the chosen months has 29 days (found: '0 0 30 2 *'); change day or month",
            'line 18: jobs[0].command: is required: a worker that does not speak RPC runs no jobs; add command = ["…"]',
            'line 23: jobs[1].command: is required: a worker that does not speak RPC runs no jobs; add command = ["…"]',
        ],
    ),
    (
        "many jobs, each wrong",
        GOOD + "\n".join(f'[[jobs]]\nkey = "J{i}"\ndisplay_name = "J"' for i in range(150)),
        [
            f"line {26 + 3 * i}: jobs[{i + 1}].key: must be 1 to 100 of a-z, 0-9, '.', '_', '-', first a letter or digit (found: 'J{i}'); such as 'refresh'"
            for i in range(100)
        ],
    ),
]
