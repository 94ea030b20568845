"""Where work runs. `local` is this process."""
