"""What runs a network: graphs made from weights, and the libraries that compute them."""
