"""Which gateway, and who asks."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.client import BadProxy, BadSettings, NoGateway, NoProxy, ProxyExpired
from gateway.client.settings import Credential, Settings, find
from gateway.testing.certificates import Authority, header

VARIABLES = ("JOBGATE_URL", "JOBGATE_HOST", "JOBGATE_TOKEN", "X509_USER_PROXY", "XDG_CONFIG_HOME")
URL = "https://gateway.example.org"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file of a user who has none yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".config").mkdir()
    return tmp_path / ".config" / "jobgate.toml"


@pytest.fixture(scope="module")
def ann() -> Authority:
    return Authority.create("/C=PL/O=X/CN=CA").issue("/C=PL/O=X/CN=Ann")  # type: ignore[return-value]


def test_nobody_said_which_gateway(config: Path) -> None:
    with pytest.raises(NoGateway, match="JOBGATE_URL") as refused:
        find()
    assert str(config) in str(refused.value)


def test_the_argument_then_the_environment_then_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text(f'url = "{URL}/file"\nhost = "hpc"\nproxy = "/there/proxy"\n')
    assert find() == Settings(f"{URL}/file", Path("/there/proxy"), host="hpc")
    monkeypatch.setenv("JOBGATE_URL", f"{URL}/environment/")
    monkeypatch.setenv("JOBGATE_HOST", "other")
    assert (find().url, find().host) == (f"{URL}/environment", "other")
    assert find(f"{URL}/argument", "/my/proxy") == Settings(f"{URL}/argument", Path("/my/proxy"), host="other")


def test_the_proxy_where_grid_users_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(URL).proxy == Path(f"/tmp/x509up_u{os.getuid()}")
    monkeypatch.setenv("X509_USER_PROXY", "/elsewhere")
    assert find(URL).proxy == Path("/elsewhere")


def test_a_token_in_a_file(config: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("jgt_secret\n")
    config.write_text(f'url = "{URL}"\ntoken = "file:{tmp_path}/token"\n')
    assert Credential(find()).headers() == {"Authorization": "Bearer jgt_secret"}
    assert find(proxy="/mine").token is None  # a proxy that is named is what is wanted
    (tmp_path / "token").unlink()
    with pytest.raises(BadSettings, match="token"):
        find()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("url = ", "cannot be read"),
        ("\xff", "cannot be read"),
        ("adress = 'x'", "there is no setting 'adress'"),
        ("url = 5", "url must be a text"),
        ("allow_http = 'yes'", "allow_http must be a boolean"),
    ],
)
def test_a_file_with_a_mistake(config: Path, text: str, words: str) -> None:
    config.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadSettings, match=words) as refused:
        find()
    assert str(config) in str(refused.value)


@pytest.mark.parametrize("url", ["gateway.example.org", "ftp://gateway.example.org", "https://", "https://[", "x"])
def test_no_address(url: str) -> None:
    with pytest.raises(BadSettings, match="is no gateway's address"):
        find(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:5000", "http://[::1]:5000", "http://localhost"])
def test_no_tls_on_this_machine(url: str) -> None:
    assert find(url).url == url


def test_no_tls_over_a_network(config: Path) -> None:
    with pytest.raises(BadSettings, match="private key in the clear"):
        find("http://gateway.example.org")
    config.write_text("allow_http = true\n")
    assert find("http://gateway.example.org").url == "http://gateway.example.org"


def test_a_proxy_is_read_again_when_it_was_renewed(tmp_path: Path, ann: Authority) -> None:
    file = tmp_path / "proxy"
    credential = Credential(Settings(URL, file))
    with pytest.raises(NoProxy, match="grid-proxy-init"):
        credential.headers()
    for _ in range(2):
        pem = ann.proxy().pem()
        file.write_bytes(pem)
        os.utime(file, ns=(0, int.from_bytes(os.urandom(6))))
        assert credential.headers() == {"PROXY": header(pem)}


def test_an_expired_proxy_is_not_sent(tmp_path: Path, ann: Authority) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    file = tmp_path / "proxy"
    file.write_bytes(ann.proxy(not_before=past - timedelta(hours=1), not_after=past).pem())
    with pytest.raises(ProxyExpired, match=r"expired at .* UTC; renew it with `grid-proxy-init`"):
        Credential(Settings(URL, file)).headers()


def test_what_is_no_proxy(tmp_path: Path) -> None:
    file = tmp_path / "proxy"
    file.write_text("nothing of the kind")
    with pytest.raises(BadProxy, match="is no proxy certificate"):
        Credential(Settings(URL, file)).headers()
