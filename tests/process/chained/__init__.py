"""Random requests through two chained proxies: clients, endpoints and layers that know what each
request is, and a book that finds whatever is not its own."""
