"""Pictures of results, as files that open anywhere. Pure text out; nothing here reads a pool or a model."""
