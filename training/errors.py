"""The root of what can go wrong in a stage; `cli` turns any of it into one line and status 1.

    options, TOML > data > checkpoint > steps > export > files          TrainingError
    ConfigError   DataError CheckpointError RunError ExportError OutputError

Each is declared in the module that raises it first, but for the one that `cli` treats apart.
Anything else is a fault of the program.
"""


class TrainingError(ValueError):
    """A stage cannot go on; the message is a sentence that names what was wrong."""


class ToldElsewhere(TrainingError):
    """Another process of the same run met the fault and says it; this one only ends."""
