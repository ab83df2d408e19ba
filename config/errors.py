"""The root of the errors that people can mend: what happened, where, and what to do next, in one sentence.

    ProductError            exit code 1
    ├── ConfigurationError  2   the configuration                    config/settings.py
    │   └── PolicyError     2   the key of hashed fields             monitoring/log_policy.py
    ├── InputError          2   a table                              pipeline/errors.py
    ├── KeysError               the server's keys                    api/keys.py
    ├── StateLockedError        somebody else is at work             config/state_lock.py
    ├── StoreError              the store                            monitoring/store.py
    ├── CopyError               a store that cannot be copied        monitoring/store_copy.py
    │   └── TargetError     2   an address that is no target         commands/store_copy.py
    ├── IncidentError           an incident that is not there        monitoring/incidents.py
    ├── MonitorError        2   a monitor that cannot be set so      monitoring/monitors.py
    ├── RegistryError           MLflow                               models/mlflow_connection.py
    ├── BundleError             a model's files                      models/bundle.py
    ├── PlanError               the serving plan                     models/serving_plan.py
    ├── ReferenceFormatError    a model's monitoring profile         models/reference.py
    ├── TrainingError           no candidate could be trained        pipeline/model_training.py
    ├── DeploymentError         a version that cannot be served      pipeline/deployment.py
    ├── EnvironmentFileError 2  docker/.env                          commands/environment_file.py
    └── ServiceError            the processes of `start` and `serve` commands/local_services.py

The command line prints these without a traceback; anything else is a fault of the product.
"""

from __future__ import annotations

from typing import ClassVar


class ProductError(Exception):
    """Expected: the command line prints its message and ends with its code."""

    exit_code: ClassVar[int] = 1


def mend(reason: str, usual: str) -> str:
    """What to do about `reason`: `usual`, unless it is a full disk, of which databases speak in their own words."""
    full = "disk is full" in reason or "No space left" in reason
    return "free some space on that disk" if full else usual
