"""Which file: identifiers, what is known about each dataset, and how it got known."""
