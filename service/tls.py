"""TLS from files, checked before anything else is paid for. uvicorn does the rest.

What OpenSSL says of a bad file names neither the file nor the setting; here each is tried alone.
"""

import ssl
from pathlib import Path
from typing import TypedDict

from service.errors import SettingsRefused
from service.settings import Settings

_MISMATCH = "KEY_VALUES_MISMATCH"


class TlsOptions(TypedDict, total=False):
    """As uvicorn's configuration takes them."""

    ssl_certfile: Path
    ssl_keyfile: Path | None
    ssl_keyfile_password: str | None
    ssl_ca_certs: Path | None
    ssl_cert_reqs: int


def tls_options(settings: Settings) -> TlsOptions:
    """Nothing without a certificate.

    Raises:
        SettingsRefused: a file cannot be read, holds something else, or they do not fit together.
    """
    if settings.tls_cert is None:
        return {}
    password = settings.tls_key_password
    told = password.get_secret_value() if password else None
    _check_pair(settings.tls_cert, settings.tls_key, told)
    if settings.tls_client_ca is not None:
        _check_authorities(settings.tls_client_ca)
    return {
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        "ssl_keyfile_password": told,
        "ssl_ca_certs": settings.tls_client_ca,
        "ssl_cert_reqs": ssl.CERT_REQUIRED if settings.tls_client_ca else ssl.CERT_NONE,
    }


def _check_pair(cert: Path, key: Path | None, password: str | None) -> None:
    _check_readable("tls_cert", cert)
    if key is not None:
        _check_readable("tls_key", key)
    try:
        # Authorities are certificates too: this says whether there is one in the file at all.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError:
        raise _refused("tls_cert", cert, "holds no certificate in PEM form") from None
    where = ("tls_key", key) if key else ("tls_cert", cert)
    asked = False

    def answer() -> str:
        nonlocal asked
        asked = True
        return password or ""  # without an answer OpenSSL would ask at the terminal

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, answer)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == _MISMATCH:
            raise _refused(*where, "is not the key of the certificate") from None
        if reason:  # as a key that is too short for today
            raise _refused("tls_cert", cert, f"cannot be used ({reason})") from None
        if asked and password is None:
            raise _refused(*where, "is encrypted, and tls_key_password is not set") from None
        if asked:
            raise _refused(*where, "cannot be decrypted: tls_key_password is wrong") from None
        raise _refused(*where, "holds no private key in PEM form") from None


def _check_authorities(file: Path) -> None:
    _check_readable("tls_client_ca", file)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(file)
    except ssl.SSLError:
        raise _refused("tls_client_ca", file, "holds no certificate in PEM form") from None


def _check_readable(name: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise _refused(name, file, f"cannot be read ({error.strerror or error})") from None


def _refused(name: str, file: Path, reason: str) -> SettingsRefused:
    return SettingsRefused(
        f"setting {name}: {file} {reason}", "name PEM files: a certificate, and the key it is for"
    )
