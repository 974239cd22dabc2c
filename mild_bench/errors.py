"""The errors a user can cause. The command line prints one line of them and exits with 2."""


class MildBenchError(Exception):
    """Something the user can mend: the message says what was allowed, what arrived, what next."""


class BadInput(MildBenchError, ValueError):
    """A file, value or folder that cannot be used as it is."""


class MissingPart(MildBenchError, RuntimeError):
    """A program, package or weight file that is not on this machine."""


REASON_LENGTH = 400


def explain(error: Exception) -> str:
    """Return one line for an error, with its type where it is not one of ours."""
    text = " ".join(str(error).encode(errors="backslashreplace").decode().split())
    named = text if isinstance(error, MildBenchError) else f"{type(error).__name__}: {text}"
    return named[:REASON_LENGTH]
