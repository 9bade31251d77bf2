"""Who may ask a server what: keys, their file in the workspace, and what is open without one."""
