"""Certificates for addresses of loopback, and the bundle that makes programs trust them beside the whole web's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["certify"]

# Debian and its kin, Red Hat and its kin, Alpine and macOS.
SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


def certify(folder: Path, addresses: Iterable[str]) -> tuple[Path, dict[str, Path]]:
    """Write a certificate and its key for each of *addresses* into *folder*.

    Returns:
        The bundle to put into SSL_CERT_FILE, the system's authorities and the local one: a program that reads its
        bundle for every image pays for the length it has on real machines. And the file of each address.

    """
    authority = trustme.CA()
    files = {}
    for address in addresses:
        files[address] = folder / f"{address}.pem"
        authority.issue_cert(address).private_key_and_cert_chain_pem.write_to_path(files[address])
    bundle = folder / "bundle.pem"
    bundle.write_bytes(_system_bundle().read_bytes() + b"\n" + authority.cert_pem.bytes())
    return bundle, files


def _system_bundle() -> Path:
    for name in SYSTEM_BUNDLES:
        if Path(name).exists():
            return Path(name)
    raise RuntimeError(f"this machine has no bundle of authorities: looked at {', '.join(SYSTEM_BUNDLES)}")
