"""Who needs to know: facts go out here."""
