"""Proxies as users really make them: Globus, VOMS and openssl, below a real Simple CA, and what is said of each."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.auth.proxy import ProxyVerifier
from gateway.errors import Unauthenticated
from gateway.testing.certificates import header

TOOLS = {
    "grid-ca-create": "globus-simple-ca",
    "grid-ca-sign": "globus-simple-ca",
    "grid-proxy-init": "globus-proxy-utils",
    "voms-proxy-init": "voms-clients",
    "voms-proxy-fake": "voms-clients",
    "openssl": "openssl",
}
ORGANISATION = "/C=PL/O=Jobgate Test"
ANN = f"{ORGANISATION}/CN=Ann Real"


@dataclass
class Site:
    """A Simple CA in a folder, its trust directory, and Ann's certificate and key."""

    folder: Path

    @property
    def trusted(self) -> Path:
        return self.folder / "etc/grid-security/certificates"

    def run(self, *command: str) -> None:
        known = {"HOME": str(self.folder), "PATH": os.environ["PATH"], "X509_CERT_DIR": str(self.trusted)}
        mine = {"X509_USER_CERT": f"{self.folder}/cert.pem", "X509_USER_KEY": f"{self.folder}/key.pem"}
        done = subprocess.run(command, cwd=self.folder, env=known | mine, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def verdict(self, file: str = "proxy.pem", **options: bool) -> tuple[str, str]:
        try:
            return "good", ProxyVerifier(self.trusted, **options).verify(self.header(file)).subject
        except Unauthenticated as refusal:
            return refusal.code, refusal.message

    def header(self, file: str = "proxy.pem") -> str:
        return header((self.folder / file).read_bytes())

    def write(self, file: str, *sources: str) -> None:
        (self.folder / file).write_bytes(b"".join((self.folder / source).read_bytes() for source in sources))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        told = f"install the Debian packages {' '.join(missing)}"
        if os.environ.get("JOBGATE_REQUIRE_ALL") == "1":
            pytest.fail(told)
        pytest.skip(told)
    site = Site(tmp_path_factory.mktemp("site"))
    create_authority(site)
    key, request = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem"], ["-out", "request.pem", "-subj", ANN]
    site.run("openssl", "req", "-new", *key, *request)
    (site.folder / "key.pem").chmod(0o600)
    site.run("grid-ca-sign", "-dir", "ca", "-in", "request.pem", "-out", "cert.pem", "-passin", "pass:globus")
    return site


def create_authority(site: Site) -> None:
    """With grid-ca-create 5.x, which installs into /etc whatever it is told: a copy of the script is told otherwise."""
    script = Path(shutil.which("grid-ca-create") or "").read_text()
    assert 'sysconfdir="/etc"' in script
    site.trusted.parent.mkdir(parents=True)
    (site.folder / "create").write_text(script.replace('sysconfdir="/etc"', f'sysconfdir="{site.folder}/etc"'))
    about = ["-subject", "cn=Real CA,o=Jobgate Test,c=PL", "-bits", "2048", "-pass", "globus"]
    site.run("sh", "create", "-noint", "-nobuild", "-dir", str(site.folder / "ca"), *about)


CASES = [
    ("grid-proxy-init -rfc", "good", ANN),
    ("grid-proxy-init", "good", ANN),
    ("grid-proxy-init -rfc -bits 4096 -valid 1:00", "good", ANN),
    ("grid-proxy-init -old", "proxy_legacy", "grid-proxy-init -rfc"),
    ("grid-proxy-init -old -limited", "proxy_legacy", "grid-proxy-init -rfc"),
    ("grid-proxy-init -draft", "proxy_legacy", "grid-proxy-init -rfc"),
    ("grid-proxy-init -rfc -limited", "proxy_limited", "without -limited"),
    ("grid-proxy-init -rfc -independent", "proxy_independent", "without -independent"),
    ("grid-proxy-init -rfc -policy policy -pl 1.2.3.4", "proxy_policy", "policy of its own"),
    ("grid-proxy-init -rfc -bits 1024", "proxy_weak_key", "-bits 2048"),
    ("voms-proxy-init -rfc", "good", ANN),
    ("voms-proxy-init -rfc -limited", "proxy_limited", "without -limited"),
]


@pytest.mark.parametrize(("command", "verdict", "word"), CASES, ids=[command for command, *_ in CASES])
def test_proxies_as_the_tools_make_them(site: Site, command: str, verdict: str, word: str) -> None:
    (site.folder / "policy").write_text("anything")
    site.run(*command.split(), "-q", "-out", "proxy.pem")
    code, words = site.verdict()
    assert (code, word in words) == (verdict, True), words


def test_proxy_with_many_voms_attributes(site: Site) -> None:
    """voms-proxy-fake is Ann's client and the VOMS server in one. The header has more than 8190 bytes."""
    roles = [option for number in range(20) for option in ("-fqan", f"/testvo/group-{number}/Role=production")]
    server = ["-voms", "testvo", "-uri", "localhost:15000", "-hostcert", "cert.pem", "-hostkey", "key.pem", *roles]
    site.run("voms-proxy-fake", "-rfc", "-q", "-out", "proxy.pem", *server)
    assert len(site.header()) > 8190
    assert site.verdict() == ("good", ANN)


def test_delegated_proxy(site: Site) -> None:
    site.run("grid-proxy-init", "-rfc", "-q", "-out", "first.pem")
    site.run("grid-proxy-init", "-rfc", "-q", "-cert", "first.pem", "-key", "first.pem", "-out", "proxy.pem")
    assert (site.folder / "proxy.pem").read_text().count("BEGIN CERTIFICATE") == 3
    assert site.verdict() == ("good", ANN)


def test_proxy_file_as_openssl_prints_it(site: Site) -> None:
    """With its text between the blocks, and the key as PKCS#8."""
    site.run("grid-proxy-init", "-rfc", "-q", "-out", "proxy.pem")
    site.run("openssl", "x509", "-in", "proxy.pem", "-text", "-out", "leaf.txt")
    site.run("openssl", "pkey", "-in", "proxy.pem", "-out", "pkcs8.txt")
    site.run("openssl", "x509", "-in", "cert.pem", "-text", "-out", "above.txt")
    site.write("text.pem", "leaf.txt", "pkcs8.txt", "above.txt")
    assert site.verdict("text.pem") == ("good", ANN)


def test_certificate_with_its_key(site: Site) -> None:
    site.write("both.pem", "cert.pem", "key.pem")
    assert site.verdict("both.pem")[0] == "proxy_not_a_proxy"


def test_revoked_by_openssl(site: Site) -> None:
    site.run("grid-proxy-init", "-rfc", "-q", "-out", "proxy.pem")
    ca = ["openssl", "ca", "-config", "ca/grid-ca-ssl.conf", "-passin", "pass:globus"]
    (crl,) = (path.with_suffix(".r0") for path in site.trusted.glob("*.0"))
    (site.folder / "ca/crlnumber").write_text("01\n")
    try:
        site.run(*ca, "-gencrl", "-crldays", "1", "-out", str(crl))
        assert site.verdict(require_crl=True) == ("good", ANN)
        site.run(*ca, "-revoke", "cert.pem")
        site.run(*ca, "-gencrl", "-crldays", "1", "-out", str(crl))
        assert site.verdict()[0] == "proxy_revoked"
    finally:
        crl.unlink(missing_ok=True)


@pytest.fixture
def below(site: Site) -> Callable[..., str]:
    """A proxy made by openssl below a certificate; `grid-proxy-init -path-length 0` (7.3) writes no path length."""

    def make(above: str, name: str, path_length: str, subject: str) -> str:
        info = f"critical,language:id-ppl-inheritAll{path_length and f',pathlen:{path_length}'}"
        (site.folder / "extensions").write_text(f"keyUsage=critical,digitalSignature\nproxyCertInfo={info}\n")
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key"]
        site.run("openssl", "req", "-new", *key, "-out", f"{name}.req", "-subj", subject)
        signer = ["-CA", f"{above}.pem", "-CAkey", f"{above}.key", "-set_serial", "7", "-days", "1"]
        files = ["-in", f"{name}.req", "-out", f"{name}.pem", "-extfile", "extensions"]
        site.run("openssl", "x509", "-req", "-sha256", *signer, *files)
        return name

    site.write("ann.key", "key.pem")
    site.write("ann.pem", "cert.pem")
    return make


@pytest.mark.parametrize(("first", "verdict"), [("", "good"), ("2", "good"), ("1", "good"), ("0", "proxy_path_length")])
def test_path_lengths(site: Site, below: Callable[..., str], first: str, verdict: str) -> None:
    below("ann", "one", first, f"{ANN}/CN=1")
    below("one", "two", "", f"{ANN}/CN=1/CN=2")
    site.write("both.pem", "two.pem", "two.key", "one.pem", "ann.pem")
    assert site.verdict("both.pem")[0] == verdict


def test_path_length_zero_alone(site: Site, below: Callable[..., str]) -> None:
    below("ann", "one", "0", f"{ANN}/CN=1")
    site.write("both.pem", "one.pem", "one.key", "ann.pem")
    assert site.verdict("both.pem") == ("good", ANN)
