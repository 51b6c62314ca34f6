"""The configuration file: every mistake at once, with file and key."""

from pathlib import Path

import pytest

from gateway.config import load_config, reference
from gateway.errors import ConfigError
from gateway.plugin_manager import load_plugins

GOOD = """
[gateway]
database = "sqlite:///data/jobgate.db"
state_dir = "state"
[auth]
trusted_ca_dir = "/etc/grid-security/certificates"
grid_mapfile = "../grid-mapfile"
[hosts.localhost]
backend = "local"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text)
    return file


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text))
    return caught.value.problems


def test_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    write(folder, GOOD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBGATE_CONFIG", "conf/gateway.toml")
    config = load_config()
    assert config.gateway.database == f"sqlite:///{folder}/data/jobgate.db"
    assert config.gateway.state_dir == folder / "state"
    assert config.auth.grid_mapfile == tmp_path / "grid-mapfile"
    assert config.gateway.base_url == "http://127.0.0.1:5000"
    assert (config.default_host, config.hosts["localhost"].options.slots) == ("localhost", 4)


def test_the_files_that_we_ship() -> None:
    for file in sorted(Path("conf").glob("*.toml")):
        load_config(file)


def test_every_mistake_at_once(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        """
        [gateway]
        base_url = "ftp://x"
        database = "oracle://x"
        colour = 3
        default_host = "elsewhere"
        [auth]
        require_crl = "yes"
        admins = [3]
        [limits]
        script = "much"
        [mystery]
        [hosts.localhost]
        backend = "local"
        slots = 0
        poll_interval = "often"
        aliases = ["hpc.example.org"]
        [hosts."hpc.example.org"]
        backend = "pbs"
        transport = "pigeon"
        accounts = "none"
        [hosts."bad name"]
        """,
    )
    keys = [line.split(": ")[1] for line in said]
    assert set(keys) == {
        "auth.admins.0",
        "auth.grid_mapfile",
        "auth.require_crl",
        "auth.trusted_ca_dir",
        "gateway.base_url",
        "gateway.colour",
        "gateway.database",
        "gateway.default_host",
        "gateway.state_dir",
        'hosts."hpc.example.org".accounts',
        'hosts."hpc.example.org".backend',
        'hosts."hpc.example.org".transport',
        "hosts.bad name",
        "hosts.bad name.backend",
        "hosts.localhost.aliases",
        "hosts.localhost.poll_interval",
        "hosts.localhost.slots",
        "limits.script",
        "mystery",
    }
    assert all(line.startswith(str(tmp_path / "gateway.toml")) for line in said)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "gateway.database"), ("[gateway", "cannot be read"), ("gateway = 1", "must be a table"), ("\xff", "cannot")],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "gateway.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=words):
        load_config(tmp_path / "gateway.toml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="JOBGATE_CONFIG"):
        load_config(tmp_path / "missing.toml")


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("postgresql://jobgate:hidden@db/jobgate\n")
    monkeypatch.setenv("DB_URL", "postgresql://other@db/jobgate")
    for given, expected in (
        ("file:url", "postgresql+psycopg://jobgate:hidden@db/jobgate"),
        ("env:DB_URL", "postgresql+psycopg://other@db/jobgate"),
    ):
        file = write(tmp_path, GOOD.replace("sqlite:///data/jobgate.db", given))
        assert load_config(file).gateway.database == expected
    for missing in ("file:nowhere", "env:NO_SUCH_NAME"):
        assert "gateway.database" in problems(tmp_path, GOOD.replace("sqlite:///data/jobgate.db", missing))[0]


def test_ssh_options(tmp_path: Path) -> None:
    ssh = GOOD + '[hosts.far]\nbackend = "slurm"\ntransport = "ssh"\n[hosts.far.ssh]\nhostname = "far"\n'
    said = problems(tmp_path, ssh)
    assert [line.split(": ")[1] for line in said] == ["hosts.far.ssh.known_hosts"]
    both = ssh + 'known_hosts = "k"\nuser_ca_key = "a"\nidentity_file = "b"\n'
    assert "either user_ca_key or identity_file" in problems(tmp_path, both)[0]
    assert "transport" in problems(tmp_path, GOOD + '[hosts.localhost.ssh]\nhostname = "x"\n')[0]


def test_jobs_of_this_machine_do_not_go_over_ssh(tmp_path: Path) -> None:
    ssh = GOOD + 'transport = "ssh"\n[hosts.localhost.ssh]\nhostname = "x"\nknown_hosts = "k"\nidentity_file = "i"\n'
    assert "hosts.localhost.transport" in problems(tmp_path, ssh)[0]


def test_every_option_is_documented() -> None:
    page = Path("docs/configuration.md").read_text()
    for section, rows in reference(load_plugins()):
        assert f"## `{section}`" in page
        for name, default, words in rows:
            assert f"| `{name}` | {f'`{default}`' if default else ''} | {words} |" in page


def test_every_option_says_what_it_is_for() -> None:
    for _, rows in reference(load_plugins()):
        assert all(words for _, _, words in rows)
