"""What stands between a request and its route: where it comes from, whose it is, how often it may come."""
