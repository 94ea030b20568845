"""Files shared by several processes: written atomically (`atomic`), by one writer at a time
(`lock`).
"""
