"""Places that datasets lie in, each a real server on a free port of loopback.

S3 by moto, Azure's Blob Storage by Azurite, Google's Cloud Storage by gcp-storage-emulator, and OpenSSH's own server.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import fsspec

from async_img2ds.storage import SETTINGS
from origin import free_port, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["BUCKET", "Place", "azure", "gcs", "s3", "sftp"]

BUCKET: Final = "datasets"
# Moto and Azurite are slow to be loaded.
STARTS_S: Final = 60
# What Azurite, as the storage emulators before it, knows without being told (Microsoft's documentation of both).
_AZURITE_ACCOUNT: Final = "devstoreaccount1"
_AZURITE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Place:
    """A server: *root* is a URL that datasets lie below, *variables* lead a program to it, *port* is its own.

    *fs* is the same seen by the tests, which know nothing of the program's stores, and *pid* that of the server.
    """

    name: str
    root: str
    port: int
    fs: Any
    variables: Mapping[str, str]
    pid: int

    def path(self, url: str) -> str:
        """Return the path of *url* in :attr:`fs`."""
        return url.removeprefix(self.root.partition("://")[0] + "://").removeprefix("127.0.0.1").rstrip("/")

    def files(self, url: str) -> dict[str, int]:
        """Return what lies below *url*, by its name there, with the sizes; also what is hidden."""
        self.fs.invalidate_cache()
        path = self.path(url)
        try:
            found = self.fs.find(path, detail=True)
        except FileNotFoundError:
            return {}
        return {name.removeprefix(f"{path}/"): int(entry["size"] or 0) for name, entry in found.items()}

    def shards(self, url: str) -> dict[str, int]:
        """Return what lies below *url* but for the options of the run, which it leaves wherever it began."""
        return {name: size for name, size in self.files(url).items() if name != SETTINGS}

    def fetched(self, url: str, folder: Path) -> Path:
        """Return *folder*, to which all that lies below *url* was copied."""
        path = self.path(url)
        for name in self.files(url):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(self.fs.cat_file(f"{path}/{name}"))
        return folder

    def pending(self) -> list[str]:
        """Return the uploads that were begun, and neither completed nor given up, as far as the server tells."""
        if self.name != "s3":
            return []
        bucket = self.root.removeprefix("s3://")
        return [upload["Key"] for upload in self.fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", [])]

    def write(self, url: str, content: bytes) -> None:
        """Put *content* at *url*."""
        path = self.path(url)
        if self.name == "sftp" and not (folder := Path(path).parent).exists():
            with suppress(FileExistsError):
                folder.mkdir(parents=True)
            folder.chmod(0o777)  # the program comes as another user
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # gcsfs hands bytes on as they are
            self.fs.pipe_file(path, content)


@contextmanager
def _running(command: list[str], port: int, **how: Any) -> Iterator[int]:
    """Run *command* during the block, from when it listens on *port*; yield its number."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how) as server:
        try:
            wait_for_port(port, STARTS_S)
            yield server.pid
        finally:
            server.terminate()


@contextmanager
def s3() -> Iterator[Place]:
    """S3, by moto's server."""
    port = free_port()
    variables = {
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FSSPEC_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    # What it records on request, it writes where it was started.
    with TemporaryDirectory() as folder, _running(command, port, env={**os.environ, **variables}, cwd=folder) as pid:
        fs = fsspec.filesystem(
            "s3",
            key="none",
            secret="none",
            endpoint_url=variables["FSSPEC_S3_ENDPOINT_URL"],
            client_kwargs={"region_name": "us-east-1"},
        )
        fs.call_s3("create_bucket", Bucket=BUCKET)
        yield Place("s3", f"s3://{BUCKET}", port, fs, variables, pid)


@contextmanager
def azure() -> Iterator[Place]:
    """Blob Storage, by Azurite, which npm has."""
    found = shutil.which("azurite-blob", path=os.environ.get("AZURITE"))
    if found is None:
        raise RuntimeError("AZURITE names no folder with azurite-blob in it: npm install --prefix FOLDER azurite")
    port = free_port()
    # Of its own dates of the protocol it knows those of its release; the library for Python may be younger.
    options = ["--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent"]
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={_AZURITE_ACCOUNT};AccountKey={_AZURITE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{_AZURITE_ACCOUNT};"
    )
    with _running([found, "--blobPort", str(port), *options], port) as pid:
        fs = fsspec.filesystem("az", connection_string=connection)
        fs.mkdir(BUCKET)
        yield Place("azure", f"az://{BUCKET}", port, fs, {"FSSPEC_AZ_CONNECTION_STRING": connection}, pid)


@contextmanager
def gcs() -> Iterator[Place]:
    """Cloud Storage, by gcp-storage-emulator."""
    port = free_port()
    command = [shutil.which("gcp-storage-emulator", path=str(Path(sys.executable).parent)) or "gcp-storage-emulator"]
    command += [
        "start",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--in-memory",
        "--default-bucket",
        BUCKET,
        "--quiet",
    ]
    variables = {"FSSPEC_GS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "FSSPEC_GS_TOKEN": "anon"}
    with _running(command, port, env={**os.environ, "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}) as pid:
        fs = fsspec.filesystem("gs", endpoint_url=variables["FSSPEC_GS_ENDPOINT_URL"], token="anon")
        yield Place("gcs", f"gs://{BUCKET}", port, fs, variables, pid)


_SSHD: Final = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/client.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
Subsystem sftp internal-sftp
ForceCommand internal-sftp
MaxSessions {sessions}
"""


@contextmanager
def sftp(sessions: int = 10) -> Iterator[Place]:
    """OpenSSH's own server, without rights, for one user; of a connection it takes so many *sessions*."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if program is None:
        raise RuntimeError("sshd is not installed: apt-get install openssh-server")
    port = free_port()
    # Started by root, it would want a folder of the system's.
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="sshd-") as name:
        folder = Path(name)
        for key in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder, sessions=sessions))
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
        (folder / BUCKET).mkdir()
        own: dict[str, Any] = {"user": user, "extra_groups": []} if os.geteuid() == 0 else {}
        if own:
            for path in (folder, folder / "host", folder / BUCKET):
                shutil.chown(path, user)
        told = {
            "port": port,
            "username": user,
            "client_keys": [str(folder / "client")],
            "known_hosts": str(folder / "known_hosts"),
        }
        variables = {
            f"FSSPEC_SSH_{key.upper()}": value if isinstance(value, str) else json.dumps(value)
            for key, value in told.items()
        }
        with _running([program, "-D", "-e", "-f", str(folder / "sshd_config")], port, **own) as pid:
            fs = fsspec.filesystem("file")  # that of the machine it is on
            yield Place("sftp", f"ssh://127.0.0.1{folder}/{BUCKET}", port, fs, variables, pid)
