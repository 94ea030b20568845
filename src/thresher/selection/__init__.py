"""One selection from request to folder."""
