"""What stands in the way of MLflow is said of the one whose fault it is: its server, its storage, or this host."""

from __future__ import annotations

import errno

import pytest

from models.mlflow_errors import explained

PATH = "/var/lib/mlops/models/registry/.download-1/model.onnx"


@pytest.mark.parametrize(
    ("error", "reason", "next_step"),
    [
        (PermissionError(errno.EACCES, "Permission denied", PATH), "Permission denied", "below the state root"),
        (OSError(errno.ENOSPC, "No space left on device", PATH), "No space left", "free some space"),
        (OSError(errno.EROFS, "Read-only file system", PATH), "Read-only", "below the state root"),
        (
            RuntimeError(f"Failed to download artifacts mlflow-artifacts:/1/x: [Errno 28] No space left: '{PATH}'"),
            "No space left",
            "free some space",
        ),
        (RuntimeError(f"mlflow-artifacts/ failed:\n### a ###\n[Errno 13] denied: '{PATH}'"), PATH, "state root"),
    ],
)
def test_a_fault_of_this_host_is_told_as_one(error: Exception, reason: str, next_step: str) -> None:
    told = explained(error, is_server=True)
    assert reason in told[0]
    assert next_step in told[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("API request failed with error code 401 != 200", "it does not know who asks"),
        ("API request failed with error code 403 != 200. Response body: 'Permission denied'", "may not do that"),
        ("Invalid Host header - possible DNS rebinding attack detected", "does not answer to this host name"),
        ("Failed to download artifacts from path 'bundle'", "the storage of its files is down"),
    ],
)
def test_a_refusal_of_its_server_is_told_with_what_to_change_there(words: str, reason: str) -> None:
    assert reason in explained(RuntimeError(words), is_server=True)[0]
    assert reason not in explained(RuntimeError(words), is_server=False)[0]
