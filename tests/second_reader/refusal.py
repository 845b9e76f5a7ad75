"""Why something was not accepted: a class of docs/exit-codes.md, and a sentence."""


class Refused(Exception):
    """Nothing that follows from the refused bytes may be used."""

    def __init__(self, refusal, message):
        super().__init__(f"{message} ({refusal})")
        self.refusal = refusal


class Void(Refused):
    """What is in the slot counts as nothing."""


def demand(condition, refusal, message):
    """Goes on only if `condition` holds."""
    if not condition:
        raise Refused(refusal, message)
