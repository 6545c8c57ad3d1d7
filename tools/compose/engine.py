"""A Docker Engine with the Compose plugin, and images that replace those of docker-compose.yaml."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.airflow_services import CHECKOUT
from tools.exceptions import StackError
from tools.private_files import private_folder
from tools.processes import ProcessFolder

MIRROR = "http://deb.debian.org/debian"
PLUGIN = "pool/main/d/docker-compose/docker-compose_2.26.1-4_amd64.deb"
"""A package of Debian 13; that of Debian 12 has version 1."""

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
IMAGES = CHECKOUT / "tests" / "compose" / "images"
TAGS = {
    "postgres": "postgres:16.14",
    "rabbitmq": "rabbitmq:4.3.6",
    "mysql": "mysql:9.7.2",
    "airflow": "apache/airflow:3.3.2-python3.11",
    "ensembl-hive": "ensemblorg/ensembl-hive",
}
"""``{folder of IMAGES: name in docker-compose.yaml or Dockerfile}``."""

SUITES = ("bookworm", "sid")
"""Releases of Debian from which the images are built; unstable has RabbitMQ 4 and MySQL 9."""

START_SECONDS = 60
BUILD_SECONDS = 900


class Engine:
    """
    A Docker Engine with its data below a folder; it needs root.

    :param folder: has the data, some 10 GB, and the socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = ProcessFolder(folder / "dockerd")
        self._builds = ProcessFolder(folder / "builds")
        self._socket = f"unix://{folder / 'docker.sock'}"

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables with which ``docker`` uses this engine and the plugin."""
        return {**os.environ, "DOCKER_HOST": self._socket, "DOCKER_CONFIG": str(self.folder / "config")}

    def start(self) -> None:
        """Start the engine, and install the plugin if it is missing."""
        private_folder(self.folder)
        self._install_plugin()
        if not self.processes.leader():
            command = [
                "dockerd",
                f"--data-root={self.folder / 'data'}",
                f"--exec-root={self.folder / 'exec'}",
                f"--pidfile={self.folder / 'pid'}",
                f"--host={self._socket}",
            ]
            self.processes.start(command, {**os.environ})
        self.processes.wait(lambda: self._run("info").returncode == 0, START_SECONDS, "Docker Engine")

    def _install_plugin(self) -> None:
        plugin = self.folder / "config" / "cli-plugins" / "docker-compose"
        if not plugin.exists():
            package, content = self.folder / "docker-compose.deb", self.folder / "package"
            urllib.request.urlretrieve(f"{MIRROR}/{PLUGIN}", package)  # noqa: S310 (its scheme is http)
            subprocess.run(["dpkg", "-x", str(package), str(content)], check=True)
            plugin.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(content / "usr/libexec/docker/cli-plugins/docker-compose", plugin)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["docker", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def docker(self, *arguments: str) -> str:
        """
        Run a command of ``docker``, and return its output.

        :raises StackError: it failed; with its error.
        """
        result = self._run(*arguments)
        if result.returncode:
            raise StackError(
                f"docker {' '.join(arguments)}: {result.stderr.strip() or result.stdout.strip()}"
            )
        return result.stdout.strip()

    def build_images(self) -> None:
        """Build the images; a repetition is fast."""
        for suite in SUITES:
            if not self.docker("images", "--quiet", f"debian:{suite}"):
                self._import_debian(suite)
        for folder, tag in TAGS.items():
            print(f"Building {tag}", flush=True)
            context = self._copy_context(folder)
            self._builds.run(["docker", "build", "--tag", tag, str(context)], self.environment, BUILD_SECONDS)

    def _import_debian(self, suite: str) -> None:
        print(f"Installing Debian {suite}", flush=True)
        root = self.folder / suite
        shutil.rmtree(root, ignore_errors=True)
        command = ["debootstrap", "--variant=minbase", suite, str(root), MIRROR]
        self._builds.run(command, os.environ, BUILD_SECONDS)
        archive = f"tar --directory '{root}' --create . | docker import - debian:{suite}"
        self._builds.run(["bash", "-o", "pipefail", "-c", archive], self.environment, BUILD_SECONDS)
        shutil.rmtree(root)

    def _copy_context(self, folder: str) -> Path:
        """Return a folder with the Dockerfile and the files that it copies."""
        context = self.folder / "contexts" / folder
        shutil.rmtree(context, ignore_errors=True)
        shutil.copytree(IMAGES / folder, context)
        for file in (CERTIFICATES, CHECKOUT / "requirements.txt"):
            shutil.copy(file, context)
        shutil.copytree(CHECKOUT / "tests" / "support" / "practice_hive", context / "practice_hive")
        return context

    def load_versions(self) -> Sequence[str]:
        """Return the versions of the engine and the plugin, and of the servers in the images."""
        server = self.docker("version", "--format", "{{.Server.Version}}")
        programs = {
            TAGS["postgres"]: "postgres --version",
            TAGS["rabbitmq"]: "dpkg-query --show --showformat='RabbitMQ ${Version}' rabbitmq-server",
            TAGS["mysql"]: "mysqld --version",
        }
        versions = [
            self.docker("run", "--rm", "--entrypoint", "bash", image, "-c", command)
            for image, command in programs.items()
        ]
        return [f"Docker Engine {server}", self.docker("compose", "version"), *versions]
