"""What connections to clients and to endpoints have in common, without waiting for anything."""
