"""The verb: a request becomes a plan, and a plan becomes bytes."""
