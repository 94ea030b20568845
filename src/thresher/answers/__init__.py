"""What an answer says: normalisation, metrics, reading."""
