"""The errors that ecgedge raises on purpose.

Every message says what was seen and what to do next. Wrong caller input raises one of these at once;
wrong wire input never raises past the edge (it is dropped and counted under a name).
"""


class EcgedgeError(Exception):
    """Base of all deliberate errors; the command line prints it without a traceback (exit code 1)."""


class UsageError(EcgedgeError):
    """A wrong argument or a missing extra (exit code 2)."""


class RecordError(EcgedgeError):
    """A recording cannot be read or is not what it claims to be."""


class BundleError(EcgedgeError):
    """A bundle is damaged, incomplete or altered (exit code 4)."""


class FeedError(EcgedgeError):
    """A feed cannot be opened, or was lost (exit code 3)."""


class Hl7Error(FeedError):
    """A message in HL7 v2 does not hold what it must, or is none.

    Attributes
    ----------
    place
        Where, as "OBX[3]-5": the third OBX segment's fifth field; "" for the whole message.
    """

    def __init__(self, text: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {text}" if place else text)
        self.place = place


class RecipeError(EcgedgeError):
    """A recipe or a policy has unknown keys or values that cannot work."""


class EngineError(EcgedgeError):
    """An inference engine cannot be built, loaded or trusted."""


def missing_extra(*, extra: str, package: str, purpose: str) -> UsageError:
    """Build the error that names the extra which provides `package`."""
    return UsageError(
        f"{purpose} needs the package '{package}', which is not installed. "
        f"Install it with: pip install 'ecgedge[{extra}]'"
    )
