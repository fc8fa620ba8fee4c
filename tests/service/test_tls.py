"""Certificates from files: those that serve, and what is said of those that do not."""

import ssl
from pathlib import Path

import httpx2
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from service.errors import SettingsRefused
from service.settings import Settings, load_settings
from service.tls import tls_options
from tests.service.serving import PNG, serving, starting
from tests.service.toy import ATTACKED, ToyFolder

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def pems(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: cert, key, encrypted, both, other-key, client, ca and junk, each .pem."""
    folder = tmp_path_factory.mktemp("pems")
    server, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(PASSWORD.encode()),
    )
    for name, data in {
        "cert": b"".join(blob.bytes() for blob in server.cert_chain_pems),
        "key": server.private_key_pem.bytes(),
        "encrypted": encrypted,
        "both": server.private_key_and_cert_chain_pem.bytes(),
        "other-key": other.private_key_pem.bytes(),
        "client": authority.issue_cert("client@example").private_key_and_cert_chain_pem.bytes(),
        "ca": authority.cert_pem.bytes(),
        "junk": b"no certificate",
    }.items():
        (folder / f"{name}.pem").write_bytes(data)
    return folder


def trusting(authority: trustme.CA, shown: Path | None = None) -> ssl.SSLContext:
    """A client's side."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if shown is not None:
        context.load_cert_chain(shown)
    return context


@pytest.mark.parametrize("workers", ["1", "2"])
def test_https(toy: ToyFolder, pems: Path, authority: trustme.CA, workers: str) -> None:
    flags = ("--tls-cert", str(pems / "cert.pem"), "--tls-key", str(pems / "encrypted.pem"))
    with serving(
        toy.root, *flags, "--workers", workers, PARALLAX_TLS_KEY_PASSWORD=PASSWORD
    ) as served:
        assert served.url.startswith("https://127.0.0.1:")
        answer = httpx2.post(
            f"{served.url}/detect", content=ATTACKED, headers=PNG, verify=trusting(authority)
        )
        assert answer.json()["adversarial"] is True
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(served.url)  # whose authority is unknown
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(served.url.replace("https", "http"))
        served.stop()
    assert PASSWORD not in served.log.read_text()


def test_a_client_must_show_a_certificate(
    toy: ToyFolder, pems: Path, authority: trustme.CA
) -> None:
    flags = ("--tls-cert", str(pems / "both.pem"), "--tls-client-ca", str(pems / "ca.pem"))
    with serving(toy.root, *flags) as served:
        url = f"{served.url}/health/ready"
        known = trusting(authority, pems / "client.pem")
        assert httpx2.get(url, verify=known).status_code == 200
        stranger = trustme.CA().issue_cert("client@example")
        unknown = trusting(authority)
        stranger.configure_cert(unknown)
        for context in (trusting(authority), unknown):
            with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
                httpx2.get(url, verify=context)
        assert httpx2.get(url, verify=known).status_code == 200


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"tls_cert": "absent"}, r"tls_cert: \S+absent.pem cannot be read \(No such file"),
        ({"tls_cert": "."}, r"tls_cert: \S+ cannot be read \(Is a directory"),
        ({"tls_cert": "junk"}, "tls_cert: .* holds no certificate"),
        ({"tls_cert": "key"}, "tls_cert: .* holds no certificate"),
        ({"tls_cert": "cert"}, "tls_cert: .* holds no private key"),
        ({"tls_cert": "cert", "tls_key": "absent"}, "tls_key: .* cannot be read"),
        ({"tls_cert": "cert", "tls_key": "junk"}, "tls_key: .* holds no private key"),
        ({"tls_cert": "cert", "tls_key": "other-key"}, "tls_key: .* is not the key of the cert"),
        ({"tls_cert": "both", "tls_client_ca": "absent"}, "tls_client_ca: .* cannot be read"),
        ({"tls_cert": "both", "tls_client_ca": "key"}, "tls_client_ca: .* holds no certificate"),
    ],
)
def test_bad_files_are_named(pems: Path, files: dict[str, str], said: str) -> None:
    paths = {name: pems / (file if file == "." else f"{file}.pem") for name, file in files.items()}
    with pytest.raises(SettingsRefused, match=said) as refused:
        tls_options(load_settings(paths))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ({}, "is encrypted, and tls_key_password is not set"),
        ({"tls_key_password": "sesame"}, "tls_key_password is wrong"),
        ({"tls_key_password": "x" * 2000}, "tls_key_password is wrong"),
        ({"tls_key_password": ""}, "is encrypted, and tls_key_password is not set"),
    ],
)
def test_an_encrypted_key_needs_its_password(
    pems: Path, password: dict[str, str], said: str
) -> None:
    files = {"tls_cert": pems / "cert.pem", "tls_key": pems / "encrypted.pem"}
    settings = load_settings({**files, **password})
    with pytest.raises(SettingsRefused, match=said) as refused:
        tls_options(settings)
    assert not any(word and word in str(refused.value) for word in password.values())
    assert "sesame" not in repr(settings)


def test_what_openssl_minds_is_said(pems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_small(*_: object) -> None:
        error = ssl.SSLError()
        error.reason = "EE_KEY_TOO_SMALL"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", too_small)
    with pytest.raises(SettingsRefused, match=r"tls_cert: .* cannot be used \(EE_KEY_TOO_SMALL\)"):
        tls_options(Settings(tls_cert=pems / "both.pem"))


@pytest.mark.parametrize("name", ["tls_key", "tls_key_password", "tls_client_ca", "metrics_host"])
def test_what_does_nothing_is_refused(name: str) -> None:
    with pytest.raises(SettingsRefused, match=f"{name} does nothing without"):
        load_settings({name: "x"})


def test_without_a_certificate_there_is_nothing_to_say() -> None:
    assert tls_options(Settings()) == {}


def test_it_is_refused_before_a_model_is_loaded(toy: ToyFolder, pems: Path) -> None:
    flags = ("--tls-cert", str(pems / "junk.pem"))
    with starting(toy.root / "nowhere", *flags, "--workers", "2") as (process, log):
        assert process.wait(120) == 2
    assert len(log.read_text().splitlines()) == 2
