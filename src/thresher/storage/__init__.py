"""Files that several processes may write: whole or not at all (`atomic`), one writer at a time (`lock`)."""
