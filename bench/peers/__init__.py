"""Scripts that run in environments of other projects, so they import nothing else of this one."""
