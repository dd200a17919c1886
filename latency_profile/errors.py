"""Errors that end the program. Each carries its exit code; its message is the one line that the user reads."""

import enum


class Exit(enum.IntEnum):
    """Exit codes, as a Kubernetes Job's podFailurePolicy reads them."""

    DONE = 0
    USAGE = 2
    UNAVAILABLE = 3
    UNUSABLE = 4
    REGRESSION = 5
    NOT_STORED = 6
    SIGINT = 130
    SIGTERM = 143


class ProfileError(Exception):
    """The program cannot go on. `str(error)` is one line, without secrets."""

    exit_code: Exit = Exit.UNUSABLE


class UsageError(ProfileError):
    """The request itself is wrong (flag, file, combination); nothing was sent."""

    exit_code = Exit.USAGE


class ServerUnavailable(ProfileError):
    """The server or the network is not there, or not ready in time."""

    exit_code = Exit.UNAVAILABLE


class StorageError(ProfileError):
    """Results could not be stored where they should; they are on disk."""

    exit_code = Exit.NOT_STORED
