"""An authority of a test's own, and a certificate from it for 127.0.0.1."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=1)


class Certificates:
    """Write an authority, a certificate and its key into a folder."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.certificate, self.key = (
            folder / f"{name}.pem" for name in ("authority", "certificate", "key")
        )
        signer, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        issuer = _name("a test's authority")
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        root = (
            _builder(issuer, issuer, signer)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(usage, True)
        )
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        server = (
            _builder(_name("a test's server"), issuer, own)
            .add_extension(names, False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        )
        self.authority.write_bytes(root.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
        self.certificate.write_bytes(server.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM))
        self.key.write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
