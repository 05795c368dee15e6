import json
import re
from pathlib import Path

import pytest

from supervisor.daemon import command
from supervisor.daemon.settings import NAMES, SettingsError, describe, load_settings


def load(tmp_path: Path, text: str | None = None, flags=None, environ=None, uid: int = 1000):
    given = dict(flags or {})
    if text is not None:
        file = tmp_path / "plugind.toml"
        file.write_text(text)
        given["config"] = str(file)
    return load_settings(given, {"HOME": str(tmp_path), **(environ or {})}, uid)


def test_defaults_of_a_user(tmp_path):
    settings = load(tmp_path)
    assert describe(settings) == {
        "state_dir": f"{tmp_path}/.local/state/plugind",
        "socket": f"{tmp_path}/.local/state/plugind/control.sock",
        "log_dir": f"{tmp_path}/.local/state/plugind/logs",
        "timezone": "UTC",
        "start_concurrency": 8,
        "drain_s": 20,
        "log_format": "auto",
        "log_level": "info",
        "log_max_bytes": 10_000_000,
        "log_files": 5,
        "recover_after_s": 600,
        "run_limit": 64,
        "plugin_run_limit": 8,
        "call_timeout_s": 30,
        "term_grace_s": 5,
        "kill_grace_s": 2,
        "event_keep": 100_000,
        "event_keep_days": 7,
        "run_keep": 1000,
        "run_keep_days": 30,
        "phase_timeout_s": 120,
        "keep_versions": 3,
        "purge_after_days": 0,
        "index_url": "",
        "observers": [],
        "operators": [],
        "admins": [],
        "socket_group": "",
        "metrics_listen": "",
        "audit_keep": 100_000,
        "audit_keep_days": 365,
    }
    assert tuple(describe(settings)) == NAMES
    assert (settings.config_file, settings.origins, settings.warnings) == (None, {}, ())


def test_defaults_of_root_and_the_directories_of_systemd(tmp_path):
    given = {"PLUGIND_CONFIG": str(tmp_path / "c")}
    (tmp_path / "c").write_text("")
    root = load(tmp_path, environ=given, uid=0)
    assert (str(root.state_dir), root.socket) == ("/var/lib/plugind", "/run/plugind/control.sock")
    unit = load(tmp_path, environ={"STATE_DIRECTORY": "/s/a:/s/b", "LOGS_DIRECTORY": "/l/a:/l/b"})
    assert (unit.state_dir, unit.log_dir) == (Path("/s/a"), Path("/l/a"))


def test_the_configuration_directory_of_systemd_holds_the_file(tmp_path):
    (tmp_path / "plugind.toml").write_text("drain_s = 3")
    settings = load(tmp_path, environ={"CONFIGURATION_DIRECTORY": f"{tmp_path}:/other", "HOME": "/nonexistent"})
    assert (settings.config_file, settings.drain_s) == (tmp_path / "plugind.toml", 3)
    assert load(tmp_path, environ={"CONFIGURATION_DIRECTORY": "/nonexistent"}).config_file is None


def test_xdg_places(tmp_path):
    config = tmp_path / "config/plugind/plugind.toml"
    config.parent.mkdir(parents=True)
    config.write_text("drain_s = 3")
    places = {"XDG_CONFIG_HOME": f"{tmp_path}/config", "XDG_STATE_HOME": "/x/state", "XDG_RUNTIME_DIR": "/x/run"}
    settings = load(tmp_path, environ=places)
    assert settings.config_file == config
    assert settings.drain_s == 3
    assert (str(settings.state_dir), settings.socket) == ("/x/state/plugind", "/x/run/plugind/control.sock")


def test_variables_win_over_the_file_and_flags_over_both(tmp_path):
    settings = load(
        tmp_path,
        'drain_s = 1\nrun_limit = 1\nlog_level = "error"\nstate_dir = "/file"',
        flags={"drain_s": "3", "state_dir": None},
        environ={"PLUGIND_DRAIN_S": "2", "PLUGIND_RUN_LIMIT": "2", "PLUGIND_STATE_DIR": "/variable"},
    )
    assert (settings.drain_s, settings.run_limit, settings.log_level) == (3, 2, "error")
    assert (settings.state_dir, settings.log_dir) == (Path("/variable"), Path("/variable/logs"))
    assert settings.origins == {
        "drain_s": "--drain-s",
        "run_limit": "PLUGIND_RUN_LIMIT",
        "state_dir": "PLUGIND_STATE_DIR",
        "log_level": str(settings.config_file),
    }


def test_every_problem_of_every_source_is_told_with_its_origin(tmp_path):
    with pytest.raises(SettingsError) as caught:
        load(
            tmp_path,
            'drian_s = 1\ndrain_s = "x"\ntimezone = "Mars/Olympus"\nstate_dir = "relative"',
            flags={"log_level": "loud", "plugin_run_limit": 0},
            environ={"PLUGIND_DRAIN_S": "soon", "PLUGIND_SOCKET": "/" + "s" * 120},
        )
    text, file = str(caught.value), f"{tmp_path}/plugind.toml"
    assert caught.value.code == "INVALID_PARAMS"
    assert "8 problems" in text
    for part in (
        f"{file}: drian_s: unknown key; did you mean 'drain_s'?",
        f"{file}: drain_s: must be a number from 0 to 3600 (found: 'x')",
        f"{file}: timezone: is no IANA time zone",
        f"{file}: state_dir: must be an absolute path",
        "PLUGIND_DRAIN_S: must be a number",
        "PLUGIND_SOCKET: is 121 bytes long",
        "--log-level: must be 'debug' or",
        "--plugin-run-limit: must be a whole number",
    ):
        assert part in text
    assert len(caught.value.details["problems"]) == 8


@pytest.mark.parametrize("zone", ["../UTC", "/etc/passwd", "America", "Europe/Atlantis"])
def test_what_is_no_time_zone(tmp_path, zone):
    with pytest.raises(SettingsError, match="IANA"):
        load(tmp_path, flags={"timezone": zone})


def test_unknown_variables_are_warned_of(tmp_path):
    environ = {"PLUGIND_DRAINS": "1", "PLUGIND_XYZZY": "1", "PLUGIND_STATE_ID": "f", "PLUGIND_DRAIN_S": ""}
    settings = load(tmp_path, environ=environ)
    assert settings.drain_s == 20
    assert settings.warnings == (
        "PLUGIND_DRAINS is no setting and is ignored; did you mean PLUGIND_DRAIN_S?",
        "PLUGIND_XYZZY is no setting and is ignored",
    )


def test_relative_paths_of_flags_start_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = load(tmp_path, flags={"state_dir": "st", "socket": "../s.sock"})
    assert settings.state_dir == tmp_path / "st"
    assert settings.socket == f"{tmp_path.parent}/s.sock"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"a = \nb = 1", "is not TOML.*line 1"),
        (b"a = '\xff'", "not UTF-8"),
        (b"#" * 1_048_577, "larger"),
    ],
)
def test_a_file_that_is_named_must_be_readable(tmp_path, content, message):
    file = tmp_path / "named.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        load(tmp_path, flags={"config": str(file)})
    assert str(file) in str(caught.value)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path, flags={"config": str(tmp_path)})


def test_a_text_that_looks_like_a_number_stays_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(tmp_path, flags={"state_dir": "7"}).state_dir == tmp_path / "7"


def test_passwords_of_the_index_are_in_force_and_not_shown(tmp_path):
    url = "https://me:hunter2@index.example/simple"
    settings = load(tmp_path, f'index_url = "{url}"\n')
    assert settings.index_url == url
    assert describe(settings)["index_url"] == "https://***@index.example/simple"


def test_who_has_which_role_from_the_file_and_from_variables(tmp_path):
    text = 'observers = ["*"]\noperators = ["@plugind-operators", "1001"]\nsocket_group = "plugind-clients"'
    settings = load(tmp_path, text, environ={"PLUGIND_ADMINS": " alice, @1002 ,,bob$"})
    assert (settings.observers, settings.operators) == (("*",), ("@plugind-operators", "1001"))
    assert settings.admins == ("alice", "@1002", "bob$")
    assert settings.socket_group == "plugind-clients"
    assert load(tmp_path, text, environ={"PLUGIND_OPERATORS": "7", "PLUGIND_SOCKET_GROUP": "8"}).operators == ("7",)


@pytest.mark.parametrize("entry", ["", "@", "a b", "@@staff", "-1", "alice,bob", "@*", "12345678901", "a/b", "x" * 101])
def test_entries_that_name_nobody(tmp_path, entry):
    with pytest.raises(SettingsError, match=r"plugind.toml: admins\[0\]: must be"):
        load(tmp_path, f'admins = ["{entry}"]')


@pytest.mark.parametrize("text", ['operators = "alice"', "operators = 7", "operators = [7]"])
def test_roles_are_lists_of_texts(tmp_path, text):
    with pytest.raises(SettingsError, match=r"plugind.toml: operators(\[0\])?: must be a (list|string)"):
        load(tmp_path, text)


def test_a_wrong_entry_in_a_variable_is_told_with_it(tmp_path):
    with pytest.raises(SettingsError, match=r"PLUGIND_OBSERVERS\S*: must be a user"):
        load(tmp_path, environ={"PLUGIND_OBSERVERS": "alice,b c"})


@pytest.mark.parametrize("group", ["@staff", "a b", "*", "-1"])
def test_what_is_no_group_for_the_socket(tmp_path, group):
    with pytest.raises(SettingsError, match="socket_group: must be the name or number of a group"):
        load(tmp_path, f'socket_group = "{group}"')


def test_check_warns_of_names_that_do_not_exist(tmp_path, capsys):
    file = tmp_path / "plugind.toml"
    file.write_text('operators = ["no-such-user-here"]\n')
    assert command.main(["--config", str(file), "--state-dir", str(tmp_path), "--check"]) == 0
    told = capsys.readouterr()
    assert "warning: operators: there is no user 'no-such-user-here' here" in told.err
    assert json.loads(told.out)["operators"] == ["no-such-user-here"]


def test_the_example_tells_the_defaults(tmp_path):
    text = (Path(__file__).parents[2] / "systemd/plugind.toml").read_text()
    settings = load(tmp_path, text)
    assert (settings.observers, settings.operators, settings.admins) == (
        (),
        ("@plugind-operators",),
        ("@plugind-admins",),
    )
    commented = re.findall(r"^#([a-z_]+ = .*)$", text, re.MULTILINE)
    assert len(commented) > 15
    told = load(tmp_path, "\n".join(line for line in commented if not line.startswith("observers")))
    assert describe(told) == describe(load(tmp_path, ""))
