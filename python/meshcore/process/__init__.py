"""What makes a program of the parts: the proxy, its life and its end."""
