"""Tables: VOTable documents made of templates and streamed rows."""
