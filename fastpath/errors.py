"""The one family of errors that are the user's to mend: shown as one line, exit code 2, no traceback."""


class UserError(ValueError):
    """What is wrong, where, and what would work, in one line."""

    exit_code = 2


class ConfigError(UserError):
    """A key of the recipe is unknown, missing or of the wrong type."""


class RunError(UserError):
    """A run folder does not fit what was asked of it."""


class ModelError(UserError):
    """A model could not be found or read."""


class SurgeryError(UserError):
    """This model cannot be cut; the message says why and what would work."""


class ExportError(UserError):
    """An export's target is not installed, refused the model, or computes something else from it."""


class TaskError(UserError):
    """Some tasks of an evaluation failed; the others are done and kept."""

    exit_code = 3
