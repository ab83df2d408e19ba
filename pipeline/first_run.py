"""Whether the scheduler makes the first run: there is data, and nothing in service that was made of it."""

from __future__ import annotations

from config.home import under_home
from config.settings import Settings
from models.bundle import Manifest
from pipeline.deployment import Deployment
from pipeline.retraining import data_available
from pipeline.sample_data import is_sample


class FirstRun:
    """Tries each content of the table once: what was refused or failed is not tried again until the file changes."""

    def __init__(self, settings: Settings, deployment: Deployment) -> None:
        self._settings = settings
        self._deployment = deployment
        self._settled: object = None

    def is_due(self) -> bool:
        """Raises `RegistryError` when it cannot be told."""
        content = self._content()
        if content is None or content == self._settled:
            return False
        if not needs_first_run(self._settings, self._deployment):
            self._settled = content
            return False
        return True

    def begin(self) -> None:
        self._settled = self._content()

    def _content(self) -> object:
        """Tells one content of the table from another; None when there is none."""
        if not data_available(self._settings):
            return None
        source = self._settings.data.source
        if "://" in source:
            return source
        found = under_home(source).stat()
        return found.st_mtime_ns, found.st_size


def needs_first_run(settings: Settings, deployment: Deployment) -> bool:
    """Whether there is data and nothing in service that was made of it: nothing at all, or the sample's model."""
    if not data_available(settings):
        return False
    return deployment.registry.champion() is None or gives_way(settings, deployment.manifest_in_service())


def gives_way(settings: Settings, serving: Manifest | None) -> bool:
    """Whether the model in service came from the sample, and the configuration names a table of somebody's own."""
    source = settings.data.source
    return (
        serving is not None and serving.sample and not is_sample(source if "://" in source else str(under_home(source)))
    )
